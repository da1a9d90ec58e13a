"""Short-time spectra that the copy-synthesis systems share, on torch. Shapes: T samples, F frames, K bins, M mel bands."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from earmark.audio.decode import SAMPLE_RATE


def stft(waveform: np.ndarray, size: int, hop: int) -> Tensor:
    """Spectrum of Hann-windowed frames centred on multiples of `hop`: (T,) → (K, F) complex64, K = size/2 + 1."""
    sound = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    return torch.stft(sound, size, hop, window=torch.hann_window(size), return_complex=True)


def istft(spectrum: Tensor, hop: int, length: int) -> np.ndarray:
    """Waveform by weighted overlap-add: (K, F) → (length,) float32."""
    size = 2 * (len(spectrum) - 1)
    return torch.istft(spectrum, size, hop, window=torch.hann_window(size), length=length).numpy()


def autocorrelate(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Autocorrelation of Hann-windowed frames at lags from 0 to size - 1: (T,) → (F, size)."""
    sound = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float64))
    window = torch.hann_window(size, dtype=torch.float64)
    spectrum = torch.stft(sound, 2 * size, hop, win_length=size, window=window, return_complex=True)
    return torch.fft.irfft(spectrum.abs() ** 2, dim=0)[:size].T.numpy()


@cache
def mel_filters(bins: int, bands: int) -> Tensor:
    """Triangular mel filters of unit height from 0 to 8 kHz, (K, M)."""
    return melscale_fbanks(bins, 0.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE)


@cache
def _mel_blur(bins: int, bands: int) -> Tensor:
    """Projection on the mel filters and back, (K, K)."""
    filters = mel_filters(bins, bands)
    return torch.linalg.pinv(filters.T) @ filters.T


def smooth_mel(magnitude: Tensor, bands: int) -> Tensor:
    """Magnitude at mel resolution: (K, F) → (K, F)."""
    return (_mel_blur(len(magnitude), bands) @ magnitude).clamp_min(1e-7)


def shape_like(spectrum: Tensor, magnitude: Tensor, bands: int) -> Tensor:
    """Spectrum (K, F) given the mel envelope of a magnitude (K, F)."""
    filters = mel_filters(len(spectrum), bands)
    gain = (filters.T @ magnitude) / (filters.T @ spectrum.abs() + 1e-7)
    spread = filters / filters.sum(dim=1, keepdim=True).clamp_min(1e-3)
    return spectrum * (spread @ gain)
