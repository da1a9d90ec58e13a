import numpy as np
import torch
import torchaudio

from earmark.features.clips import Clips, Frames
from earmark.features.lfcc import WIDTH, lfcc
from earmark.params import AudioParams, CqtParams


def test_lfcc_are_twenty_coefficients_with_two_orders_of_deltas():
    time = np.arange(16_000) / 16_000
    tone = (0.1 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    found = lfcc(tone)
    assert found.shape == (101, 60)
    steady = found[20:80]
    assert np.abs(steady[:, 20:]).max() < 0.1 < np.abs(steady[:, :20]).max()  # a tone does not change


def test_clips_are_the_stored_waveforms_lfcc_at_about_unit_spread(features):
    clips = Frames(Clips(features, AudioParams(clip_samples=16_000), CqtParams(), "lfcc"), WIDTH)
    name = str(features.usable["samples"].idxmax())
    found, label = clips[name, 3200, 7]
    assert label == 7
    assert found.shape == (101, clips.width)
    expected = lfcc(features.waveform(name, 3200, 16_000))
    torch.testing.assert_close(found[:, :20], torch.from_numpy(expected[:, :20] / 30))
    torch.testing.assert_close(found[:, 40:], torch.from_numpy(expected[:, 40:] / 1.5))
    assert 0.2 < np.median(found.std(0)) < 3


def test_they_are_torchaudio_s_alone_or_in_a_batch():
    """A quiet clip beside a loud one keeps its own floor."""
    speckwargs = {"n_fft": 512, "win_length": 320, "hop_length": 160}
    peer = torchaudio.transforms.LFCC(16_000, n_filter=70, n_lfcc=20, speckwargs=speckwargs)
    clips = np.random.default_rng(0).normal(size=(3, 8000)).astype(np.float32) * np.array([[1e-6], [0.1], [1.0]], np.float32)
    clips[:, 4000:] *= 1e-5  # below the floor of 80 dB
    for clip, batched in zip(clips, lfcc(clips), strict=True):
        np.testing.assert_array_equal(lfcc(clip), batched)
        np.testing.assert_allclose(batched[:, :20].T, peer(torch.from_numpy(clip)).numpy(), atol=1e-3, rtol=1e-5)
