import numpy as np
import pytest
import soundfile as sf

from earmark.doctor.examine import Examination, examine, examine_all, measure
from earmark.params import DecodingParams

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def test_level_silence_and_duration(tmp_path):
    sound = np.concatenate([np.zeros(4_800), noise(1), np.zeros(9_600), noise(1, 1), np.zeros(8_000)]).astype(np.float32)
    sf.write(tmp_path / "a.wav", sound, RATE)
    found = examine(str(tmp_path / "a.wav"), 40, DecodingParams())
    assert found.leading_silence == pytest.approx(0.3, abs=0.021)
    assert found.trailing_silence == pytest.approx(0.5, abs=0.021)
    assert found.silence_share == pytest.approx(1.4 / 3.4, abs=0.02)
    assert found.duration == pytest.approx(3.4)
    assert found.active_dbfs == pytest.approx(-20, abs=1)
    assert found.level_dbfs == pytest.approx(-20 + 10 * np.log10(2 / 3.4), abs=0.2)
    assert (found.rate, found.container, found.coding) == ("16000", "wav", "pcm_s16le")


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_bandwidth_is_that_of_the_recording(tmp_path, rate):
    sf.write(tmp_path / "a.wav", noise(1)[: rate // 2], rate)
    found = examine(str(tmp_path / "a.wav"), 40, DecodingParams())
    assert found.bandwidth_hz == pytest.approx(min(rate / 2, 8_000), abs=250)
    assert found.rate == str(rate)
    assert found.duration == pytest.approx(0.5, abs=0.15)


def test_silence_counts_from_the_loud_frames_whatever_the_level():
    sound = np.concatenate([0.003 * noise(0.5), noise(1)])
    loud, quiet, strict = measure(sound, 40), measure(sound / 100, 40), measure(sound, 60)
    assert loud.leading_silence == pytest.approx(quiet.leading_silence) == pytest.approx(0.5)
    assert strict.leading_silence == 0


def test_one_decoding_a_path_and_rows_in_order(tmp_path):
    sf.write(tmp_path / "a.wav", noise(0.5), RATE)
    sf.write(tmp_path / "b.flac", noise(0.5), RATE, subtype="PCM_24")
    (tmp_path / "c.wav").write_bytes(b"nothing")
    table = examine_all([str(tmp_path / name) for name in ("b.flac", "a.wav", "c.wav", "a.wav")], 40.0, DecodingParams(), threads=2)
    assert list(table.columns) == list(Examination.__dataclass_fields__)
    assert table["coding"].fillna("").tolist() == ["flac s32", "pcm_s16le", "", "pcm_s16le"]
    assert table["error"].notna().tolist() == [False, False, True, False]
    assert table["digest"][1] == table["digest"][3] != table["digest"][0]
    assert examine_all([], 40.0, DecodingParams()).empty


def test_digests_are_of_samples_not_of_files(tmp_path):
    samples = np.round(32767 * noise(0.5)).astype(np.int16)
    for name, rate in (("a.wav", RATE), ("b.flac", RATE), ("c.wav", 8_000)):
        sf.write(tmp_path / name, samples, rate)
    one, two, other = (examine(str(tmp_path / name), 40, DecodingParams()).digest for name in ("a.wav", "b.flac", "c.wav"))
    assert one == two != other
