"""Short-time analysis that the copy-synthesis systems share. Shapes: T samples, F frames, K bins, M mel bands."""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft
from scipy.ndimage import median_filter

SAMPLE_RATE = 16_000
LOWEST_PITCH, HIGHEST_PITCH = 60.0, 400.0  # Hz
VOICED = 0.45  # normalised autocorrelation above which a frame counts as voiced


@cache
def hann(size: int) -> np.ndarray:
    """Periodic Hann window, (size,) float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def cut_frames(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Frames centred on multiples of `hop`: (T,) → (F, size)."""
    padded = np.pad(waveform, (size // 2, size // 2 + hop), mode="reflect" if len(waveform) > size else "wrap")
    return sliding_window_view(padded, size)[::hop][: len(waveform) // hop + 1]


def stft(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(T,) → (F, size/2+1) complex64."""
    return np.asarray(fft.rfft(cut_frames(waveform, size, hop).astype(np.float32) * hann(size), axis=1))


def istft(spectrum: np.ndarray, size: int, hop: int, length: int) -> np.ndarray:
    """(F, size/2+1) → (length,) float32 by weighted overlap-add; `hop` divides `size`."""
    frames = np.asarray(fft.irfft(spectrum, n=size, axis=1)) * hann(size)
    added = overlap_add(frames, hop)
    weight = overlap_add(np.broadcast_to(hann(size) ** 2, frames.shape), hop)
    waveform = (added / np.maximum(weight, 1e-3))[size // 2 :][:length]
    return np.pad(waveform, (0, length - len(waveform))).astype(np.float32)


def overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
    """(F, size) → ((F-1)·hop + size,); `hop` divides `size`."""
    count, size = frames.shape
    steps = size // hop
    added = np.zeros((count + steps - 1, hop), dtype=np.float32)
    for step in range(steps):
        added[step : step + count] += frames[:, step * hop : (step + 1) * hop]
    return added.reshape(-1)


@cache
def mel_basis(size: int, bands: int) -> np.ndarray:
    """Triangular mel filters of unit height, (M, K) float32, from 0 to 8 kHz."""
    frequencies = np.linspace(0, SAMPLE_RATE / 2, size // 2 + 1)
    mels = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    basis = np.maximum(0, np.minimum(rising, falling))
    nearest = np.abs(frequencies[None, :] - edges[1:-1, None]).argmin(axis=1)
    basis[np.arange(bands), nearest] = np.maximum(basis[np.arange(bands), nearest], 0.1)  # a narrow band may fall between two bins
    return basis.astype(np.float32)


@cache
def mel_inverse(size: int, bands: int) -> np.ndarray:
    """Pseudo-inverse of the mel filters, (K, M)."""
    return np.linalg.pinv(mel_basis(size, bands)).astype(np.float32)


def smooth_mel(magnitude: np.ndarray, size: int, bands: int) -> np.ndarray:
    """What mel resolution leaves of a magnitude: (F, K) → (F, K)."""
    return np.maximum(magnitude @ mel_basis(size, bands).T @ mel_inverse(size, bands).T, 1e-7)


def shape_like(spectrum: np.ndarray, magnitude: np.ndarray, size: int, bands: int) -> np.ndarray:
    """Give `spectrum` (F, K) the mel envelope of `magnitude` (F, K)."""
    basis = mel_basis(size, bands)
    spread = basis / np.maximum(basis.sum(axis=0), 1e-3)
    gain = (magnitude @ basis.T) / (np.abs(spectrum) @ basis.T + 1e-7)
    return spectrum * (gain @ spread)


def find_pitch(waveform: np.ndarray, hop: int) -> np.ndarray:
    """Pitch of each frame in Hz, 0 where unvoiced, by normalised autocorrelation: (T,) → (F,)."""
    size = 640
    frames = cut_frames(waveform, size, hop) * hann(size)
    power = np.abs(np.asarray(fft.rfft(frames, n=2 * size, axis=1))) ** 2
    shortest, longest = int(SAMPLE_RATE / HIGHEST_PITCH), int(SAMPLE_RATE / LOWEST_PITCH)
    correlation = np.asarray(fft.irfft(power, axis=1))[:, : longest + 1]
    window = np.asarray(fft.irfft(np.abs(np.asarray(fft.rfft(hann(size), n=2 * size))) ** 2))[: longest + 1]
    normal = correlation / (correlation[:, :1] + 1e-9) * (window[0] / window)
    lags = normal[:, shortest:].argmax(axis=1) + shortest
    voiced = (normal[np.arange(len(lags)), lags] > VOICED) & (correlation[:, 0] > 1e-4 * correlation[:, 0].max())
    return median_filter(np.where(voiced, SAMPLE_RATE / lags, 0.0), size=5)


def excite(pitch: np.ndarray, hop: int, length: int, rng: np.random.Generator, breath: float = 0.1) -> np.ndarray:
    """Pulses where voiced and noise elsewhere, of about unit power; `breath` is the noise among the pulses: (F,) → (T,)."""
    held = np.repeat(pitch, hop)[:length]
    held = np.pad(held, (0, length - len(held)))
    pulses = np.diff(np.floor(np.cumsum(held) / SAMPLE_RATE), prepend=0.0) > 0
    noise = rng.standard_normal(length)
    height = np.sqrt(SAMPLE_RATE / np.maximum(held, LOWEST_PITCH))
    return np.where(held > 0, pulses * height + breath * noise, noise).astype(np.float32)
