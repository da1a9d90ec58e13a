import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from earmark import InputError
from earmark.audio import decode
from earmark.audio.flat import Flat
from earmark.audio.sound import Decoded
from earmark.params import DecodingParams

RNG = np.random.default_rng(5)


def tone(rate: int, seconds: float = 0.5, hz: float = 440) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def read(path: Path) -> tuple[np.ndarray, Decoded]:
    return decode.read(path, DecodingParams())


def probe(path: Path) -> tuple[float, str]:
    return decode.probe(path, DecodingParams())


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
    waveform, _ = read(path)
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(8_000, abs=1)
    np.testing.assert_allclose(waveform[500:-500], tone(16_000)[500 : len(waveform) - 500], atol=2e-3)


def test_channels_are_averaged(tmp_path):
    left, right = tone(16_000), RNG.uniform(-0.5, 0.5, 8_000)
    sf.write(tmp_path / "a.wav", np.stack((left, right), axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "a.wav")[0], (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(("suffix", "options"), [("wav", {}), ("flac", {}), ("ogg", {}), ("mp3", {}), ("aiff", {}), ("au", {})])
def test_formats_that_libsndfile_writes(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    sf.write(path, tone(16_000, 1), 16_000, **options)
    waveform, _ = read(path)
    assert len(waveform) == pytest.approx(16_000, abs=1200)
    assert loudest_hz(waveform) == pytest.approx(440, abs=2)
    assert probe(path)[0] == pytest.approx(len(waveform) / 16_000, abs=0.1)


def test_an_m4a_is_read(tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", tone(44_100, 1), 44_100)
    waveform, _ = read(path)
    assert len(waveform) == pytest.approx(16_000, abs=1200)
    assert loudest_hz(waveform) == pytest.approx(440, abs=2)
    assert probe(path)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "caf", "w64", "rf64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_lossless_files_give_the_samples_that_libsndfile_reads_to_the_bit(tmp_path, suffix, subtype, channels):
    path = tmp_path / f"a.{suffix}"
    if subtype not in sf.available_subtypes(suffix.upper()):
        pytest.skip(f"{suffix} has no such samples")
    extremes = np.array([[-1.0], [1.0 - 2**-20], [0.0]]) * np.ones((1, channels))
    sf.write(path, np.concatenate((RNG.uniform(-1, 1, (20_000, channels)), extremes)), 16_000, subtype=subtype, format=suffix.upper())
    with decode.decoded(path, DecodingParams()) as (samples, found):
        assert (found.rates, found.channels) == ([16_000], channels)
        np.testing.assert_array_equal(samples, sf.read(path, dtype="float32", always_2d=True)[0])


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
    "empty.wav": (lambda path: path.write_bytes(b""), "empty file"),
    "truncated.flac": (lambda path: cut(write(path, NOISE, "PCM_16"), 0.5), "truncated"),
    "truncated.wav": (lambda path: cut(write(path, NOISE, "PCM_16"), 0.5), "truncated"),
    "header.wav": (lambda path: cut(write(path, NOISE, "PCM_16"), 0.0008), "no decoder reads it"),
    "zero.wav": (lambda path: write(path, NOISE[:0]), "zero samples"),
    "zero.flac": (lambda path: write(path, NOISE[:0], "PCM_16"), "empty file|no decoder reads it"),
    "silent.wav": (lambda path: write(path, np.zeros(16_000)), "silent"),
    "one_sample.wav": (lambda path: write(path, np.ones(1) / 2), "too short: 1 samples"),
    "nan.wav": (lambda path: write(path, np.append(NOISE, np.nan)), "NaN"),
    "infinite.wav": (lambda path: write(path, np.append(NOISE, np.inf)), "NaN or infinite"),
    "text.wav": (lambda path: path.write_text("this is no sound\n" * 50), "no decoder reads it"),
    "text.flac": (lambda path: path.write_text("neither is this\n"), "empty file|no decoder reads it"),
    "truncated.m4a": (lambda path: cut(encode(path, "aac", tone(44_100, 3), 44_100), 0.5), "truncated|no decoder reads it"),
    "picture.mp4": (lambda path: show(path), "holds no sound track"),
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
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize(("name", "codec"), [("a.wma", "wmav2"), ("a.voc", "pcm_s16le")])
def test_a_file_that_says_how_many_bytes_it_has_is_refused_where_they_are_not_there(tmp_path, name, codec):
    sound = tone(16_000, 2.0).astype(np.float32) if codec == "wmav2" else np.round(32767 * tone(16_000, 2.0)).astype(np.int16)
    with av.open(str(tmp_path / name), "w", format={"wma": "asf"}.get(name[2:])) as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono", bit_rate=64_000)
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp" if codec == "wmav2" else "s16", layout="mono")
        frame.sample_rate = 16_000
        for part in (frame, None):
            container.mux(stream.encode(part))
    whole, _ = read(tmp_path / name)
    assert len(whole) / 16_000 == pytest.approx(2, abs=0.1)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(InputError, match=rf"{name}: truncated: [\d.]+ of [\d.]+ s can be read"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["missing.wav", "empty.wav", "text.wav", "picture.mp4", "fairplay.m4a"])
def test_a_probe_names_what_no_decoder_opens(tmp_path, name):
    BAD[name][0](tmp_path / name)
    with pytest.raises(InputError, match=name):
        probe(tmp_path / name)


def test_a_file_is_described_by_its_own_form(tmp_path):
    sf.write(tmp_path / "a.wav", tone(44_100), 44_100, subtype="PCM_24")
    encode(tmp_path / "a.m4a", "aac", tone(22_050, 1), 22_050)
    forms = [read(tmp_path / name)[1] for name in ("a.wav", "a.m4a")]
    assert [(form.rates, form.container, form.coding) for form in forms] == [([44_100], "wav", "pcm_s24le"), ([22_050], "mov", "aac")]


def test_silence_is_told_from_other_faults(tmp_path):
    sf.write(tmp_path / "zeros.wav", np.zeros(8_000), 8_000)
    with pytest.raises(decode.SilentError, match=r"zeros\.wav: silent from end to end"):
        read(tmp_path / "zeros.wav")


def test_a_folder_named_like_a_recording_is_refused(tmp_path):
    (tmp_path / "a.wav").mkdir()
    for call in (read, probe):
        with pytest.raises(InputError, match=r"a\.wav"):
            call(tmp_path / "a.wav")


def test_the_digest_is_that_of_the_content(tmp_path):
    first, same, other = (write(tmp_path / f"{name}.wav", NOISE[: 8_000 + (name == "c")]) for name in "abc")
    assert probe(first) == probe(same)
    assert probe(first)[1] != probe(other)[1]


def test_a_streamed_wav_that_leaves_its_size_open_is_read(tmp_path):
    path = write(tmp_path / "a.wav", NOISE, "PCM_16")
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    assert len(read(path)[0]) == len(NOISE)


def test_half_an_hour_in_8_channels_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "long.wav"
    minute = np.repeat((tone(16_000, 60) * 20_000).astype(np.int16)[:, None], 8, axis=1)
    with sf.SoundFile(path, "w", 16_000, 8, "PCM_16") as file:
        for _ in range(30):
            file.write(minute)
    program = """
import sys
from earmark.audio.decode import read
from earmark.params import DecodingParams
print(len(read(sys.argv[1], DecodingParams())[0]))
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


def test_peaks_cut_off_are_counted_wherever_the_peak_is(tmp_path):
    voice = tone(8_000, hz=331)
    for name, sound in {
        "a": np.clip(4 * voice, -1, 1),
        "low": np.clip(voice, -0.25, 0.25),
        "hot": 5 * voice,
        "whole": 20_000 * voice,
    }.items():
        sf.write(tmp_path / f"{name}.wav", sound, 8_000, subtype="FLOAT")
    found = {name: read(tmp_path / f"{name}.wav")[1].clipped[0] for name in ("a", "low", "hot", "whole")}
    assert found["a"] == pytest.approx(2 / np.pi * np.arccos(1 / 1.2), abs=0.03)
    assert found["low"] == pytest.approx(2 / np.pi * np.arccos(0.25 / 0.3), abs=0.03)
    assert (found["hot"], found["whole"]) == (0, 0)


def test_clipped_samples_count_in_runs_alone():
    flat = Flat()
    sound = np.zeros(100, np.float32)
    sound[[1, 5, 6]] = 1
    flat.add(sound)
    assert flat.share == 0
    sound[10:13], sound[97:] = -1, 1
    flat.add(sound)
    assert flat.share == 6 / 200


def test_more_than_8_channels_in_planes_are_read_and_nothing_behind_them(tmp_path):
    path, gains = tmp_path / "dozen.wv", np.arange(1, 13) / 16
    sound = (tone(48_000, 1)[:, None] * gains).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("wavpack", rate=48_000, layout="7.1.4")
        stream.codec_context.format = av.AudioFormat("s16p")
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="7.1.4")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with decode.decoded(path, DecodingParams()) as (samples, found):
        assert (found.channels, samples.shape) == (12, (16_000, 12))
        np.testing.assert_allclose(np.abs(samples).max(0), np.abs(sound).max() * gains / gains.max(), atol=1e-3)
