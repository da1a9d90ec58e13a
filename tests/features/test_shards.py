import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from earmark import InputError, params, stages
from earmark.audio.decode import normalise_level, read, tile
from earmark.features.cqt import Cqt
from earmark.features.shards import Features, precompute, precompute_cqt, select, worker
from earmark.params import AudioParams, CqtParams, ShardingParams
from earmark.storage.files import write_table


@pytest.fixture
def make(tiny, protocol, tmp_path):
    """Precompute the tiny corpus, or a part of it, into tmp_path/features."""

    def made(table: pd.DataFrame = protocol, place: str = "features", **options) -> Path:
        sections = {name: options.pop(name, getattr(tiny, name)) for name in ("decoding", "audio", "cqt", "sharding")}
        precompute(table, **sections, output=tmp_path / place, threads=1, **options)
        return tmp_path / place

    return made


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}


def test_a_waveform_comes_back_at_its_level_within_half_a_step_of_16_bits(features, protocol, tiny):
    for path, name in zip(protocol["path"], protocol["utterance_id"], strict=True):
        expected = normalise_level(tile(read(path, tiny.decoding)[0], tiny.audio.clip_samples), tiny.audio.level_dbfs)
        stored = features.waveform(name)
        assert len(stored) == len(expected) >= tiny.audio.clip_samples
        assert np.abs(stored - expected).max() <= 0.51 * np.abs(expected).max() / 32767


def test_the_cqt_is_that_of_the_stored_waveform_within_float16(features, protocol, tiny):
    transform = Cqt(tiny.cqt)
    for name in protocol["utterance_id"][::4]:
        expected = transform(torch.from_numpy(features.waveform(name))[None])[0].numpy()
        assert features.cqt(name).shape == expected.shape == (2, 84, len(features.waveform(name)) // 320 + 1)
        np.testing.assert_allclose(features.cqt(name), expected, atol=5e-3)


def test_slices_equal_the_whole(features, protocol):
    for name in protocol["utterance_id"][::3]:
        whole, image = features.waveform(name), features.cqt(name)
        np.testing.assert_array_equal(features.waveform(name, 640, 5000), whole[640:5640])
        np.testing.assert_array_equal(features.cqt(name, 2, 15), image[:, :, 2:17])
        # beyond the end nothing of the next utterance is read
        np.testing.assert_array_equal(features.waveform(name, 100, 10**9), whole[100:])
        np.testing.assert_array_equal(features.cqt(name, 3, 10**6), image[:, :, 3:])


def test_many_small_shards_hold_what_one_holds(make, protocol, features):
    assert features.index["shard"].nunique() > 1
    one = Features(make(sharding=ShardingParams(shard_seconds=1e6)))
    assert one.index["shard"].nunique() == 1
    for name in protocol["utterance_id"]:
        np.testing.assert_array_equal(one.waveform(name), features.waveform(name))
        np.testing.assert_array_equal(one.cqt(name), features.cqt(name))


def test_the_decoder_is_recorded(features):
    assert set(features.index["decoder"]) == {f"FFmpeg {av.ffmpeg_version_info}"}


def test_the_same_protocol_gives_the_same_bytes_twice_whatever_the_threads(make, protocol, tiny, tmp_path):
    table = protocol[:8]
    precompute(table, tiny.decoding, tiny.audio, tiny.cqt, tiny.sharding, tmp_path / "other", threads=2)
    assert content(make(table)) == content(tmp_path / "other")


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_together_make_what_one_makes(make, prepared, workers):
    for own in range(workers, 0, -1):
        folder = make(shard=f"{own}/{workers}")
    assert content(folder) == content(prepared / stages.ARTIFACTS["features"])


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", ""])
def test_a_share_of_the_work_must_be_written_i_n(shard):
    with pytest.raises(InputError, match="write i/n"):
        worker(shard)


def test_complete_shards_are_not_made_again(make):
    before = times(make())
    assert times(make()) == before


def test_a_killed_job_goes_on_to_the_same_bytes(make, prepared, tiny, tmp_path):
    """SIGKILL while shards are being written; what is complete is kept."""
    program = """
import sys
from pathlib import Path
from earmark import params, stages
stage = stages.STAGES["precompute_cqt"]
settings = params.load(Path(sys.argv[1]))
sections = {name: getattr(settings, name) for name in stage.sections}
stage.function(**sections, protocol=Path(sys.argv[2]), diagnosis=Path(sys.argv[2]), output=Path(sys.argv[3]))
"""
    (tmp_path / "p.yaml").write_text(params.dump(tiny))
    arguments = [tmp_path / "p.yaml", prepared / stages.ARTIFACTS["protocol"], tmp_path / "features"]
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "features").glob("*.parquet")):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    whole = {path.with_suffix(".safetensors").name for path in (tmp_path / "features").glob("*.parquet")}
    kept = {name: when for name, when in times(tmp_path / "features").items() if name in whole}
    assert kept
    folder = make()
    assert kept.items() <= times(folder).items()
    assert content(folder) == content(prepared / stages.ARTIFACTS["features"])


@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_a_truncated_shard_is_said_and_made_again(make, prepared, caplog, size):
    folder = make()
    path = folder / "00000.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"00000\.safetensors is corrupt.*run precompute_cqt again"):
        Features(folder).waveform(Features(folder).index.index[0])
    with caplog.at_level(logging.WARNING):
        make()
    assert "00000.safetensors is corrupt" in caplog.text
    assert content(folder) == content(prepared / stages.ARTIFACTS["features"])


def test_a_damaged_index_is_made_again(make, prepared):
    folder = make()
    (folder / "00000.parquet").write_bytes(b"PAR1 no more")
    assert content(make()) == content(prepared / stages.ARTIFACTS["features"])


def test_a_new_shard_with_the_index_of_other_params_is_made_again(make, protocol):
    """What a job leaves that is killed between the two, in a folder made with other params."""
    table, other = protocol[:4], {"audio": AudioParams(clip_samples=40_000)}
    expected = content(make(table, place="expected", **other))
    folder = make(table)
    (folder / "00000.safetensors").write_bytes(expected["00000.safetensors"])
    assert content(make(table, **other)) == expected


def test_a_folder_without_shards_or_with_a_missing_one_is_refused(make, protocol, tmp_path):
    with pytest.raises(InputError, match="holds no shards: run precompute_cqt"):
        Features(tmp_path)
    folder = make(shard="1/2")
    with pytest.raises(InputError, match=r"lack \d+ utterances of the protocol, first .*run precompute_cqt for all shards"):
        select(Features(folder), protocol)


@pytest.mark.parametrize(
    "other",
    [{"audio": AudioParams(clip_samples=8000)}, {"audio": AudioParams(clip_samples=16_000, level_dbfs=-20)}, {"cqt": CqtParams(bins=60)}],
    ids=["clip", "level", "bins"],
)
def test_other_params_make_all_shards_anew(make, protocol, other):
    before = times(make(protocol))
    after = times(make(protocol, **other))
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)


def test_another_recording_makes_its_own_shard_anew(make, protocol, tmp_path):
    before = times(make())
    changed = protocol.copy()
    changed.loc[0, ["path", "digest"]] = changed.loc[1, ["path", "digest"]]
    folder = make(changed)
    assert [name for name, when in times(folder).items() if when != before[name]] == ["00000.safetensors"]
    first, second = (Features(folder).waveform(name) for name in protocol["utterance_id"][:2])
    np.testing.assert_array_equal(first, second)


def test_shards_of_an_earlier_longer_protocol_are_removed(make, protocol):
    folder, table = make(), protocol[:3]
    assert set(Features(make(table)).index.index) == set(table["utterance_id"])
    assert content(folder).keys() == {"00000.parquet", "00000.safetensors"}


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(make, protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10_000))
    with pytest.raises(InputError, match=r"features: .* GB of features do not fit"):
        make()
    assert not (tmp_path / "features").exists()


def test_the_bytes_announced_are_about_those_written(make, protocol, caplog):
    with caplog.at_level(logging.INFO):
        folder = make()
    announced = float(caplog.text.split("writes ")[1].split(" MB")[0])
    assert sum(map(len, content(folder).values())) / 1e6 == pytest.approx(announced, rel=0.15, abs=0.2)


def spoil(protocol: pd.DataFrame, tmp_path: Path, names: list[str]) -> pd.DataFrame:
    sf.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    table = protocol.copy()
    table.loc[table["utterance_id"].isin(names), ["path", "digest"]] = [str(tmp_path / "silent.wav"), "silent"]
    return table


def run(tiny, table, share, tmp_path) -> dict[str, float]:
    write_table(tmp_path / "p.parquet", table)
    sections = {name: getattr(tiny, name) for name in ("decoding", "audio", "cqt", "sharding")}
    trials = tiny.trials.model_copy(update={"max_unreadable": share})
    return precompute_cqt(**sections, trials=trials, protocol=tmp_path / "p.parquet", diagnosis=tmp_path, output=tmp_path / "out")


def test_unreadable_files_are_all_named_and_dropped_up_to_a_share(tiny, protocol, tmp_path, caplog):
    names = list(protocol["utterance_id"][[1, 4]])
    table = spoil(protocol, tmp_path, names)
    with pytest.raises(InputError) as caught:
        run(tiny, table, 0.01, tmp_path)
    assert all(f"{name}: {tmp_path}/silent.wav: silent" in str(caught.value) for name in names)
    with caplog.at_level(logging.WARNING):
        assert run(tiny, table, 0.5, tmp_path) == {"utterances": len(table), "unreadable": 2}
    assert all(name in caplog.text for name in names)
    assert set(table["utterance_id"]) - set(select(Features(tmp_path / "out"), table)["utterance_id"]) == set(names)


def test_a_shard_of_unreadable_files_alone_is_written(tiny, protocol, tmp_path):
    table = spoil(protocol[:2], tmp_path, list(protocol["utterance_id"][:2]))
    assert run(tiny, table, 1, tmp_path) == {"utterances": 2, "unreadable": 2}
    assert select(Features(tmp_path / "out"), table).empty
