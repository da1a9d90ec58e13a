import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from earmark import InputError
from earmark.audio import decode
from earmark.corpora.prepare import probe_files
from earmark.features import recording
from earmark.features.cqt import Cqt
from earmark.features.recording import WHOLE, open_recordings
from earmark.features.shards import Features, precompute
from earmark.params import AudioParams, CqtParams, DecodingParams, ShardingParams

DECODING = DecodingParams()
AUDIO = AudioParams(clip_samples=16_000)
MELODY = np.cumsum(np.random.default_rng(3).normal(size=16_000 * 9)).astype(np.float32)
MELODY = 0.4 * np.diff(MELODY, prepend=0) / 4 * (1.2 + np.sin(np.arange(len(MELODY)) / 4000))


@pytest.fixture(params=[CqtParams(), CqtParams(bins=96, fmin_hz=31.25)], ids=["84 bins", "96 bins"])
def cqt(request):
    return request.param


@pytest.mark.parametrize(("seconds", "rate"), [(9, 16_000), (5.3, 22_050), (0.4, 16_000)])
def test_a_recording_reads_like_the_stored_one(tmp_path, monkeypatch, cqt, seconds, rate):
    sf.write(tmp_path / "a.wav", MELODY[: round(seconds * rate)], rate)
    table = probe_files(pd.DataFrame({"utterance_id": ["a"], "corpus": "x", "path": [str(tmp_path / "a.wav")]}), 0, DECODING)
    precompute(table, DECODING, AUDIO, cqt, ShardingParams(), tmp_path / "features")
    stored = Features(tmp_path / "features")
    monkeypatch.setattr(recording, "FRAMES", 130)  # several pieces
    monkeypatch.setattr(recording, "BLOCK", 10_000)
    with open_recordings(tmp_path / "a.wav", DECODING, AUDIO, Cqt(cqt)) as opened:
        (found,) = opened.recordings
        assert opened.found.rates == [rate]
        assert found.index.at[WHOLE, "samples"] == stored.index.at["a", "samples"]
        np.testing.assert_array_equal(found.waveform(WHOLE), stored.waveform("a"))
        np.testing.assert_array_equal(found.waveform(WHOLE, 640, 3000), stored.waveform("a", 640, 3000))
        own, theirs = found.cqt(WHOLE), stored.cqt("a")
        assert own.shape == theirs.shape
        np.testing.assert_allclose(own[0], theirs[0], atol=0.02)  # float16 of about 8
        assert np.mean(own != theirs) < 0.01
        np.testing.assert_allclose(found.cqt(WHOLE, 20, 25)[0], theirs[0, :, 20:45], atol=0.02)


def test_a_part_is_a_stretch_of_the_whole(tmp_path, cqt):
    sf.write(tmp_path / "a.wav", MELODY, 16_000)
    with open_recordings(tmp_path / "a.wav", DECODING, AUDIO, Cqt(cqt)) as opened:
        (found,) = opened.recordings
        whole, frames = found.waveform(WHOLE), found.cqt(WHOLE)
        found = found.cut({"one": (0, 20_000), "two": (32_000, 24_000)})
        assert list(found.usable.index) == ["one", "two"]
        np.testing.assert_array_equal(found.waveform("two"), whole[32_000:56_000])
        np.testing.assert_array_equal(found.waveform("two", 100, 99_999), whole[32_100:56_000])
        np.testing.assert_array_equal(found.cqt("two"), frames[..., 100:176])
        np.testing.assert_array_equal(found.cqt("one", 3, 5), frames[..., 3:8])


def test_a_scratch_place_that_is_full_is_said(tmp_path, monkeypatch):
    sf.write(tmp_path / "a.wav", MELODY, 16_000)
    monkeypatch.setattr(decode.tempfile, "TemporaryFile", lambda: io.FileIO("/dev/full", "w+"))
    message = r"a\.wav: cannot be decoded into .* \(No space left on device\): set TMPDIR"
    with pytest.raises(InputError, match=message), open_recordings(Path(tmp_path / "a.wav"), DECODING, AUDIO, Cqt(CqtParams())):
        pass
