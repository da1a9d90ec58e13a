import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from earmark import InputError
from earmark.audio import decode

RNG = np.random.default_rng(5)


def tone(rate: int, seconds: float = 0.5, hz: float = 440) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def loudest_hz(waveform: np.ndarray) -> float:
    return np.abs(np.fft.rfft(waveform)).argmax() * decode.SAMPLE_RATE / len(waveform)


def encode(path: Path, codec: str, waveform: np.ndarray, rate: int) -> Path:
    """Write a mono file through FFmpeg."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_any_rate_and_channels_become_16_khz_mono(tmp_path, rate, channels):
    path = tmp_path / "a.wav"
    sf.write(path, np.repeat(tone(rate)[:, None], channels, axis=1), rate, subtype="PCM_16")
    waveform, origin = decode.read(path)
    assert origin.decoder == "libsndfile"
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(8_000, abs=1)
    np.testing.assert_allclose(waveform[500:-500], tone(16_000)[500 : len(waveform) - 500], atol=2e-3)


def test_channels_are_averaged(tmp_path):
    left, right = tone(16_000), RNG.uniform(-0.5, 0.5, 8_000)
    sf.write(tmp_path / "a.wav", np.stack((left, right), axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(decode.read(tmp_path / "a.wav")[0], (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(("suffix", "options"), [("wav", {}), ("flac", {}), ("ogg", {}), ("mp3", {}), ("aiff", {}), ("au", {})])
def test_formats_of_libsndfile(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    sf.write(path, tone(16_000, 1), 16_000, **options)
    waveform, origin = decode.read(path)
    assert origin.decoder == "libsndfile"
    assert len(waveform) == pytest.approx(16_000, abs=1200)
    assert loudest_hz(waveform) == pytest.approx(440, abs=2)
    assert decode.probe(path)[0] == pytest.approx(len(waveform) / 16_000, abs=0.1)


def test_what_libsndfile_refuses_is_read_by_ffmpeg(tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", tone(44_100, 1), 44_100)
    waveform, origin = decode.read(path)
    assert origin.decoder == "ffmpeg"
    assert len(waveform) == pytest.approx(16_000, abs=1200)
    assert loudest_hz(waveform) == pytest.approx(440, abs=2)
    assert decode.probe(path)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_both_decoders_give_the_same_bits_of_lossless_files(tmp_path, suffix, subtype, channels):
    if suffix == "flac" and subtype in ("PCM_U8", "FLOAT"):
        pytest.skip("FLAC has no such samples")
    path = tmp_path / f"a.{suffix}"
    extremes = np.array([[-1.0], [1.0 - 2**-20], [0.0]]) * np.ones((1, channels))
    sf.write(path, np.concatenate((RNG.uniform(-1, 1, (20_000, channels)), extremes)), 22_050, subtype=subtype)
    (ones, rates), (others, other_rates) = (
        zip(*blocks, strict=True) for blocks in (decode._libsndfile_blocks(path), decode._ffmpeg_blocks(path, Exception()))
    )
    assert set(rates) == set(other_rates) == {22_050}
    one, other = np.concatenate(ones), np.concatenate(others)
    assert one.dtype == other.dtype == np.float32
    np.testing.assert_array_equal(one, other)


def write(path: Path, waveform: np.ndarray, subtype: str = "FLOAT") -> Path:
    sf.write(path, waveform, 16_000, subtype=subtype)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


NOISE = RNG.uniform(-0.5, 0.5, 16_000)
BAD = {
    "missing.wav": (lambda path: path, "no such file"),
    "empty.wav": (lambda path: path.write_bytes(b""), "no decoder reads it"),
    "truncated.flac": (lambda path: cut(write(path, NOISE, "PCM_16"), 0.5), "truncated"),
    "truncated.wav": (lambda path: cut(write(path, NOISE, "PCM_16"), 0.5), "truncated"),
    "header.wav": (lambda path: cut(write(path, NOISE, "PCM_16"), 0.0008), "no decoder reads it"),
    "zero.wav": (lambda path: write(path, NOISE[:0]), "zero samples"),
    "zero.flac": (lambda path: write(path, NOISE[:0], "PCM_16"), "zero samples"),
    "silent.wav": (lambda path: write(path, np.zeros(16_000)), "silent"),
    "one_sample.wav": (lambda path: write(path, np.ones(1) / 2), "too short: 1 samples"),
    "nan.wav": (lambda path: write(path, np.append(NOISE, np.nan)), "NaN"),
    "infinite.wav": (lambda path: write(path, np.append(NOISE, np.inf)), "NaN or infinite"),
    "text.wav": (lambda path: path.write_text("this is no sound\n" * 50), "no decoder reads it"),
    "text.flac": (lambda path: path.write_text("neither is this\n"), "zero samples|no decoder reads it"),
    "truncated.m4a": (lambda path: cut(encode(path, "aac", tone(44_100, 3), 44_100), 0.5), "truncated|no decoder reads it"),
    "picture.mp4": (lambda path: show(path), "no audio stream"),
    "fairplay.m4a": (lambda path: protect(path, b"drms"), r"encrypted \(DRM\)"),
    "cenc.mp4": (lambda path: protect(path, b"enca"), r"encrypted \(DRM\)"),
}


def protect(path: Path, entry: bytes) -> None:
    """Write a file whose header says that its sound is encrypted."""
    encode(path, "aac", tone(44_100, 1), 44_100)
    content = path.read_bytes()
    place = content.index(b"mp4a", content.index(b"stsd"))
    path.write_bytes(content[:place] + entry + content[place + 4 :])


def show(path: Path) -> None:
    """Write a film without sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_the_name_of_the_file(tmp_path, name):
    make, reason = BAD[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=reason) as caught:
        decode.read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("name", ["missing.wav", "empty.wav", "text.wav", "picture.mp4", "fairplay.m4a"])
def test_a_probe_names_what_no_decoder_opens(tmp_path, name):
    BAD[name][0](tmp_path / name)
    with pytest.raises(InputError, match=name):
        decode.probe(tmp_path / name)


def test_a_file_is_described_by_its_own_form(tmp_path):
    sf.write(tmp_path / "a.wav", tone(44_100), 44_100, subtype="PCM_24")
    encode(tmp_path / "a.m4a", "aac", tone(22_050, 1), 22_050)
    assert decode.describe(tmp_path / "a.wav") == decode.Form(44_100, "WAV", "PCM_24")
    form = decode.describe(tmp_path / "a.m4a")
    assert (form.rate, form.coding) == (22_050, "aac")
    assert "mp4" in form.container


def test_silence_is_told_from_other_faults(tmp_path):
    sf.write(tmp_path / "zeros.wav", np.zeros(8_000), 8_000)
    with pytest.raises(decode.SilentError, match=r"zeros\.wav: silent from end to end"):
        decode.read(tmp_path / "zeros.wav")


def test_a_folder_named_like_a_recording_is_refused(tmp_path):
    (tmp_path / "a.wav").mkdir()
    for call in (decode.read, decode.probe):
        with pytest.raises(InputError, match=r"a\.wav"):
            call(tmp_path / "a.wav")


def test_the_digest_is_that_of_the_content(tmp_path):
    first, same, other = (write(tmp_path / f"{name}.wav", NOISE[: 8_000 + (name == "c")]) for name in "abc")
    assert decode.probe(first) == decode.probe(same)
    assert decode.probe(first)[1] != decode.probe(other)[1]


def test_a_streamed_wav_that_leaves_its_size_open_is_read(tmp_path):
    path = write(tmp_path / "a.wav", NOISE, "PCM_16")
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    assert len(decode.read(path)[0]) == len(NOISE)


def test_half_an_hour_in_8_channels_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "long.wav"
    minute = np.repeat((tone(16_000, 60) * 20_000).astype(np.int16)[:, None], 8, axis=1)
    with sf.SoundFile(path, "w", 16_000, 8, "PCM_16") as file:
        for _ in range(30):
            file.write(minute)
    program = """
import sys
from earmark.audio.decode import read
print(len(read(sys.argv[1])[0]))
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    samples, kilobytes = map(int, done.stdout.split())
    path.unlink()
    assert samples == 30 * 60 * 16_000
    assert kilobytes < 500_000  # one file is 115 MB as mono float32, and its 8 channels 920 MB


@pytest.mark.parametrize("level", [-26.0, -10.0])
def test_the_level_is_the_one_asked_for_whatever_it_was(level):
    for gain in (1e-4, 1, 10):
        rms = np.sqrt(np.mean(np.square(decode.normalise_level((NOISE * gain).astype(np.float32), level), dtype=np.float64)))
        assert 20 * np.log10(rms) == pytest.approx(level, abs=1e-3)


def test_short_clips_are_repeated_and_long_ones_left_alone():
    ramp = np.arange(5)
    np.testing.assert_array_equal(decode.tile(ramp, 12), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    assert decode.tile(ramp, 5) is ramp
    assert decode.tile(ramp, 3) is ramp


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_recording_of_many_blocks_is_that_of_one(tmp_path, monkeypatch, rate):
    path = write(tmp_path / "a.wav", NOISE)
    sf.write(path, RNG.uniform(-0.5, 0.5, 70_000), rate)
    whole, _ = decode.read(path)
    monkeypatch.setattr(decode, "BLOCK_FRAMES", 999)
    with (tmp_path / "spool").open("w+b") as sink:
        assert decode.spool(path, sink) == (rate, "libsndfile", 0.0)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "spool", np.float32), whole)


def test_peaks_cut_off_at_full_scale_are_counted(tmp_path):
    sf.write(tmp_path / "a.wav", np.clip(4 * tone(8_000), -1, 1), 8_000)
    sf.write(tmp_path / "b.wav", tone(8_000), 8_000)
    found = [decode.read(tmp_path / name)[1].clipped for name in ("a.wav", "b.wav")]
    assert found[0] == pytest.approx(2 / np.pi * np.arccos(1 / 1.2), abs=0.03)
    assert found[1] == 0


def test_clipped_samples_count_in_runs_alone():
    sound = np.zeros(100, np.float32)
    sound[[1, 5, 6]] = 1
    assert decode._count_clipped(sound) == 0
    sound[10:13], sound[97:] = -1, 1
    assert decode._count_clipped(sound) == 6


def test_a_decoder_that_gives_up_midway_leaves_nothing_of_its_own(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", NOISE)
    whole, _ = decode.read(path)

    def gives_up(_):
        yield np.ones(5_000, np.float32), 16_000
        raise sf.LibsndfileError(1)

    monkeypatch.setattr(decode, "_libsndfile_blocks", gives_up)
    found, origin = decode.read(path)
    assert origin == (16_000, "ffmpeg", 0.0)
    np.testing.assert_array_equal(found, whole)
