import numpy as np
import torch

from earmark.features.lfcc import LfccClips, lfcc


def test_lfcc_are_twenty_coefficients_with_two_orders_of_deltas():
    time = np.arange(16_000) / 16_000
    tone = (0.1 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    found = lfcc(tone)
    assert found.shape == (101, 60)
    steady = found[20:80]
    assert np.abs(steady[:, 20:]).max() < 0.1 < np.abs(steady[:, :20]).max()  # a tone does not change


def test_clips_are_the_stored_waveforms_lfcc_at_about_unit_spread(features):
    clips, name = LfccClips(features, 16_000), str(features.usable["samples"].idxmax())
    found, label = clips[name, 3200, 7]
    assert label == 7
    assert found.shape == (101, clips.width)
    expected = lfcc(features.waveform(name, 3200, 16_000))
    torch.testing.assert_close(found[:, :20], torch.from_numpy(expected[:, :20] / 30))
    torch.testing.assert_close(found[:, 40:], torch.from_numpy(expected[:, 40:] / 1.5))
    assert 0.2 < np.median(found.std(0)) < 3
