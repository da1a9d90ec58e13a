"""RawBoost (Tak et al., ICASSP 2022) on a batch, on the training device. Shapes: B batch, T samples, N filters, L taps.

Everything drawn comes from one CPU generator, so a seed disturbs a clip alike on every device.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from earmark.audio.decode import SAMPLE_RATE
from earmark.params import AugmentationParams


@dataclass(frozen=True)
class RawBoost:
    """Numbers of the published code (Tak et al., ICASSP 2022: port), which nobody has reason to set but to test."""

    bands: int = 5  # N_bands, notch filters
    frequency_hz: tuple[float, float] = (20, 8000)  # range of notch centres
    bandwidth_hz: tuple[float, float] = (100, 1000)  # range of notch widths
    coefficients: tuple[int, int] = (10, 100)  # range of filter lengths
    gain_db: tuple[float, float] = (0, 0)  # range of filter gains
    bias_db: tuple[float, float] = (5, 20)  # range by which the higher orders of the non-linearity are weaker
    orders: int = 5  # N_f, orders of the non-linearity
    impulse_percent: float = 10  # P, upper share of samples hit by impulsive noise
    impulse_gain: float = 2  # g_sd of the impulsive noise
    snr_db: tuple[float, float] = (10, 40)  # range of the stationary noise's signal-to-noise ratio


PUBLISHED = RawBoost()


def rawboost(waveform: Tensor, params: AugmentationParams, generator: Generator, published: RawBoost = PUBLISHED) -> Tensor:
    """(B, T) → (B, T): the chosen algorithm on a share `probability` of the batch, peak-normalised as the paper has it."""
    numbers = replace(published, snr_db=params.snr_db)
    steps = {
        0: [], 1: [convolutive], 2: [impulsive], 3: [stationary], 4: [convolutive, impulsive, stationary], 5: [convolutive, impulsive],
        6: [convolutive, stationary], 7: [impulsive, stationary],
    }  # fmt: skip
    if params.rawboost == 8:
        noisy = _peak(convolutive(waveform, numbers, generator) + impulsive(waveform, numbers, generator))
    else:
        noisy = waveform
        for step in steps[params.rawboost]:
            noisy = step(noisy, numbers, generator)
    hit = torch.rand(len(waveform), 1, generator=generator).to(waveform.device) < params.probability
    return torch.where(hit, noisy, waveform)


def convolutive(waveform: Tensor, numbers: RawBoost, generator: Generator) -> Tensor:
    """Algorithm 1, linear and non-linear convolutive noise: powers 1…N_f of the waveform, each through its own notch filters."""
    batch, samples = waveform.shape
    size = _fft_size(samples, numbers)
    low, high = numbers.gain_db
    spectrum = torch.zeros(batch, size // 2 + 1, dtype=torch.complex64, device=waveform.device)
    for order in range(1, numbers.orders + 1):
        if order == 2:  # once: all higher orders are weaker by the same range
            low, high = low - numbers.bias_db[0], high - numbers.bias_db[1]
        response = _notch_response(batch, size, (min(low, high), max(low, high)), numbers, generator).to(waveform.device)
        spectrum += torch.fft.rfft(waveform**order, size) * response
    noisy = torch.fft.irfft(spectrum, size)[:, :samples]
    return _peak(noisy - noisy.mean(-1, keepdim=True))


def impulsive(waveform: Tensor, numbers: RawBoost, generator: Generator) -> Tensor:
    """Algorithm 2, impulsive signal-dependent noise: a random share of up to P % of samples is scaled by a random factor."""
    share = torch.rand(len(waveform), 1, generator=generator) * numbers.impulse_percent / 100
    hit = torch.rand(waveform.shape, generator=generator) < share
    factor = (2 * torch.rand(waveform.shape, generator=generator) - 1) * (2 * torch.rand(waveform.shape, generator=generator) - 1)
    return _peak(waveform * (1 + numbers.impulse_gain * hit * factor).to(waveform.device))


def stationary(waveform: Tensor, numbers: RawBoost, generator: Generator) -> Tensor:
    """Algorithm 3, stationary signal-independent noise: white noise through notch filters, at a random signal-to-noise ratio."""
    batch, samples = waveform.shape
    size = _fft_size(samples, numbers)
    noise = torch.fft.rfft(torch.randn(batch, samples, generator=generator).to(waveform.device), size)
    noise = torch.fft.irfft(noise * _notch_response(batch, size, numbers.gain_db, numbers, generator).to(waveform.device), size)[
        :, :samples
    ]
    snr = _uniform((batch, 1), numbers.snr_db, generator).to(waveform.device)
    scale = waveform.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return waveform + noise * scale * 10 ** (-snr / 20)


def _notch_response(batch: int, size: int, gain_db: tuple[float, float], numbers: RawBoost, generator: Generator) -> Tensor:
    """(B, size/2 + 1) zero-phase response of `bands` notch filters in series, its peak at a random gain.

    Each is a Hamming-windowed difference of sinc functions of a random odd length; symmetric taps around sample 0 shift nothing.
    """
    shape, half = (batch, numbers.bands, 1), numbers.coefficients[1] // 2
    centre, width = _uniform(shape, numbers.frequency_hz, generator), _uniform(shape, numbers.bandwidth_hz, generator)
    low = ((centre - width / 2) / SAMPLE_RATE).clamp(1e-6, 0.5 - 1e-6)
    high = ((centre + width / 2) / SAMPLE_RATE).clamp(1e-6, 0.5 - 1e-6)
    length = torch.randint(numbers.coefficients[0], numbers.coefficients[1] + 1, shape, generator=generator) // 2
    n = torch.arange(-half, half + 1, dtype=torch.float32)
    window = torch.where(n.abs() <= length, 0.54 + 0.46 * torch.cos(math.pi * n / length.clamp_min(1)), 0.0)
    taps = ((n == 0).float() - (2 * high * torch.sinc(2 * high * n) - 2 * low * torch.sinc(2 * low * n))) * window
    taps = taps / taps.sum(-1, keepdim=True)
    coarse = 4096  # the taps are short, so their response is smooth: computed here, read at the finer grid's points
    response = torch.fft.rfft(torch.roll(torch.nn.functional.pad(taps, (0, coarse - taps.shape[-1])), -half, -1)).real.prod(1)
    response = response / response.abs().amax(-1, keepdim=True) * 10 ** (_uniform((batch, 1), gain_db, generator) / 20)
    return torch.nn.functional.interpolate(response[:, None], size=size // 2 + 1, mode="linear", align_corners=True)[:, 0]


def _fft_size(samples: int, numbers: RawBoost) -> int:
    """Even, at least the clip and all its filters' tails, and smooth: a multiple of a large power of two."""
    return math.ceil((samples + numbers.bands * numbers.coefficients[1]) / 4096) * 4096


def _uniform(shape: tuple[int, ...], bounds: tuple[float, float], generator: Generator) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(shape, generator=generator)


def _peak(waveform: Tensor) -> Tensor:
    return waveform / waveform.abs().amax(-1, keepdim=True).clamp_min(1e-9)
