"""Measures of a recording that need no knowledge of its words. Shapes: T samples, F frames of 20 ms."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from earmark.audio.decode import SAMPLE_RATE

FRAME = SAMPLE_RATE // 50  # 20 ms
SPECTRUM = 1_024
BAND_DB = 60.0  # how far below the spectrum's peak its band ends
FLOOR = 1e-12
Levels = NDArray[np.float64]


def frame_levels(waveform: np.ndarray) -> Levels:
    """(T,) at 16 kHz → (F,) RMS level of whole frames, dBFS."""
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    return decibels(np.square(frames, dtype=np.float64).mean(axis=1))


def sounding(levels: Levels, silence_db: float) -> NDArray[np.bool_]:
    """(F,) whether a frame is no more than `silence_db` below the loudest twentieth."""
    return levels > np.percentile(levels, 95) - silence_db


def find_bandwidth(blocks: Iterable[np.ndarray]) -> float:
    """Highest frequency, of blocks of a waveform at 16 kHz, whose mean power lies within `BAND_DB` of the strongest's, in Hz."""
    total, window = np.zeros(SPECTRUM // 2 + 1), np.hanning(SPECTRUM).astype(np.float32)
    for block in blocks:
        padded = np.pad(block, (0, max(0, SPECTRUM - len(block))))
        frames = np.lib.stride_tricks.sliding_window_view(padded, SPECTRUM)[:: SPECTRUM // 2]
        total += np.square(np.abs(np.fft.rfft(frames * window, axis=1)), dtype=np.float64).sum(axis=0)
    return float(np.flatnonzero(total >= total.max() * 10 ** (-BAND_DB / 10))[-1]) * SAMPLE_RATE / SPECTRUM


def decibels(power: NDArray[np.float64] | np.floating) -> Levels:
    """Power → dB."""
    return 10 * np.log10(np.asarray(power) + FLOOR)
