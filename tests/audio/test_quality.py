import numpy as np
import pytest

from earmark.audio.quality import find_bandwidth

TONE = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000).astype(np.float32)


def test_bandwidth_of_a_tone_and_of_less_than_a_window():
    assert find_bandwidth([TONE]) == pytest.approx(1_000, abs=150)
    assert find_bandwidth([TONE[:900]]) == pytest.approx(1_000, abs=2_000)


def test_bandwidth_is_that_of_all_blocks_together():
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert find_bandwidth([TONE, noise]) == pytest.approx(8_000, abs=50)
    assert find_bandwidth([TONE, 1e-5 * noise]) == pytest.approx(1_000, abs=150)
