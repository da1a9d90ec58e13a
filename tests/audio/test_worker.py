"""What a file does to its decoder stays with that file: workers that die, hang and run out of memory, for real."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from earmark import InputError
from earmark.audio import worker
from earmark.audio.decode import probe, read
from earmark.params import DecodingParams

DECODING = DecodingParams()


@pytest.fixture
def clip(tmp_path) -> Path:
    sf.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(8_000), 16_000)
    return tmp_path / "a.wav"


@pytest.fixture
def long(tmp_path) -> Path:
    with sf.SoundFile(tmp_path / "long.flac", "w", 48_000, 1) as file:
        for _ in range(60):
            file.write(0.1 * np.random.default_rng(0).standard_normal(48_000 * 30))
    return tmp_path / "long.flac"


def processes() -> set[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "earmark.audio.worker"], capture_output=True, text=True)
    return set(map(int, found.stdout.split()))


@pytest.fixture(autouse=True)
def _no_idle_workers():
    worker._forget()


def test_a_worker_serves_one_file_after_another(clip):
    before = processes()
    for _ in range(5):
        assert len(read(clip, DECODING)[0]) == 8_000
        assert probe(clip, DECODING)[0] == 0.5
    assert len(processes() - before) == 1


def test_threads_have_a_worker_each_and_the_same_samples(clip):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read(clip, DECODING)[0], range(20)))
    for one in found[1:]:
        np.testing.assert_array_equal(one, found[0])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_decoder_that_dies_costs_one_file(clip, long, number):
    before = processes()
    failed: list[Exception] = []

    def hear():
        try:
            read(long, DECODING)
        except InputError as error:
            failed.append(error)

    thread = threading.Thread(target=hear)
    thread.start()
    while not (started := processes() - before):
        pass
    os.kill(started.pop(), number)
    thread.join()
    assert "long.flac: no decoder reads it: it ends the decoder" in str(failed[0])
    assert len(read(clip, DECODING)[0]) == 8_000


def test_a_decoder_that_hangs_is_stopped(tmp_path, clip):
    """A decoder that was stopped says no more than one that hangs."""
    sf.write(tmp_path / "b.wav", 0.1 * np.ones(16_000), 16_000)
    read(clip, DECODING)
    (idle,) = (one.process.pid for one in worker._idle[DECODING.memory_mb])
    os.kill(idle, signal.SIGSTOP)
    with pytest.raises(InputError, match=r"b\.wav: no sound came of it for 0\.3 s \(decoding\.stall_seconds in params\)"):
        read(tmp_path / "b.wav", DecodingParams(stall_seconds=0.3))
    assert idle not in processes()
    assert len(read(clip, DECODING)[0]) == 8_000


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path):
    sf.write(tmp_path / "wide.wav", 0.1 * np.random.default_rng(0).standard_normal((48_000, 1000)), 48_000)
    with pytest.raises(InputError, match=r"wide\.wav: "):
        read(tmp_path / "wide.wav", DecodingParams(memory_mb=384))


def test_a_recording_that_is_too_long_is_refused(long):
    with pytest.raises(InputError, match=r"longer than 0\.1 hours \(decoding\.max_hours in params\): cut it"):
        read(long, DecodingParams(max_hours=0.1))


def test_a_worker_is_handed_no_secret_and_no_other_file(clip, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    read(clip, DECODING)
    (idle,) = (one.process.pid for one in worker._idle[DECODING.memory_mb])
    assert b"hidden" not in Path(f"/proc/{idle}/environ").read_bytes()
    opened = {os.readlink(path) for path in Path(f"/proc/{idle}/fd").iterdir()}
    assert not any(str(clip.parent) in one for one in opened)  # closed again
    assert len(opened) == 2  # /dev/null and the socket


def test_a_worker_ends_with_its_parent(clip):
    program = (
        "import sys\nfrom earmark.audio import worker\nfrom earmark.audio.decode import read\nfrom earmark.params import DecodingParams\n"
        "read(sys.argv[1], DecodingParams())\nprint(worker._idle[1024][0].process.pid, flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(clip)], capture_output=True, text=True, check=True)
    number = int(done.stdout)
    for _ in range(200):
        if not Path(f"/proc/{number}").exists():
            return
        threading.Event().wait(0.05)
    pytest.fail("it lives on")


@pytest.mark.parametrize(
    ("make", "reason"), [(lambda p: p.mkdir(), "is no file"), (os.mkfifo, "is no file"), (lambda p: p.touch(), "empty file")]
)
def test_what_is_no_file_is_said(tmp_path, make, reason):
    make(tmp_path / "a.wav")
    with pytest.raises(InputError, match=rf"a\.wav: {reason}"):
        read(tmp_path / "a.wav", DECODING)


def test_what_lies_in_the_folder_is_data_and_no_code(clip, monkeypatch):
    (clip.parent / "av.py").write_text("raise SystemExit('code of the folder ran')")
    monkeypatch.chdir(clip.parent)
    assert len(read(Path("a.wav"), DECODING)[0]) == 8_000


def test_a_worker_that_was_killed_while_it_waited_costs_nobody_a_verdict(clip):
    read(clip, DECODING)
    (idle,) = (one.process.pid for one in worker._idle[DECODING.memory_mb])
    os.kill(idle, signal.SIGKILL)
    assert len(read(clip, DECODING)[0]) == 8_000
