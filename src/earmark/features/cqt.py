"""Constant-Q transform with nnAudio's filters, by framing and matrix products.

The transform is nnAudio's CQT2010v2 (octaves from repeatedly halved signals) where the hop divides by 2^(octaves−1), else its
CQT1992v2 (every kernel at the full rate). nnAudio runs them as one-channel convolutions, which waste a CPU's vector units; here
the signal is cut in blocks of one hop and each octave is one matrix product over all blocks of the batch.

Shapes: B batch, T samples, F frames = T // hop + 1, K bins.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earmark.params import CqtParams

FRAMED = 1024  # longest kernel, in samples, whose frames are copied out


class Kernel(NamedTuple):
    """Filters of one octave, (W, 2N) cosine and sine parts, laid around sample 0 from `start` on, at a rate halved `halvings` times."""

    halvings: int
    start: int
    weight: Tensor


class Filters(NamedTuple):
    """Filters of nnAudio's module for the same settings, bit for bit; R rows: the highest octave's, or all K."""

    decimated: bool  # one octave's kernels on repeatedly halved signals (CQT2010v2), not every kernel at the full rate (CQT1992v2)
    kernels: Tensor  # (R, W) complex
    lengths: Tensor  # (K,) samples of each bin's kernel at the full rate
    lowpass: Tensor  # (256,) taps before each halving


def reference(params: CqtParams, sample_rate: int) -> nn.Module:
    """nnAudio's own module for these settings: the definition that the fast one is tested against, and `cqt.backend: nnaudio`."""
    from nnAudio.features.cqt import CQT1992v2, CQT2010v2  # with most of scipy behind it

    settings = {
        "sr": sample_rate, "hop_length": params.hop_samples, "fmin": params.fmin_hz, "n_bins": params.bins,
        "bins_per_octave": params.bins_per_octave, "pad_mode": "constant", "output_format": "Complex", "verbose": False,
    }  # fmt: skip
    return CQT2010v2(**settings, earlydownsample=False) if is_decimated(params) else CQT1992v2(**settings)


def is_decimated(params: CqtParams) -> bool:
    """Whether the hop stays whole at the rate of the lowest octave."""
    return params.hop_samples % 2 ** (math.ceil(params.bins / params.bins_per_octave) - 1) == 0


def design(params: CqtParams, sample_rate: int) -> Filters:
    """nnAudio's kernels and low-pass filter. Errors: ValueError when the highest bin lies above half the sample rate."""
    per_octave, quality = params.bins_per_octave, 1 / (2 ** (1 / params.bins_per_octave) - 1)
    bins = params.fmin_hz * 2.0 ** (np.arange(params.bins) / per_octave)
    if bins[-1] > sample_rate / 2:
        raise ValueError(f"cqt: the highest bin, {bins[-1]:.0f} Hz, lies above half the sample rate of {sample_rate} Hz")
    rows = bins
    if decimated := is_decimated(params):
        octaves, rest = math.ceil(params.bins / per_octave), params.bins % per_octave
        top = params.fmin_hz * 2 ** (octaves - 1) * 2 ** (((rest or per_octave) - 1) / per_octave)
        rows = top / 2 ** (1 - 1 / per_octave) * 2.0 ** (np.arange(min(per_octave, params.bins)) / per_octave)
    lengths = np.ceil(quality * sample_rate / rows)
    width = 2 ** int(np.ceil(np.log2(lengths.max())))
    kernels = np.zeros((len(rows), width), np.complex64)
    for row, (frequency, length) in enumerate(zip(rows, lengths, strict=True)):
        start = math.ceil(width / 2 - length / 2) - int(length % 2)
        turns = np.exp(np.r_[-length // 2 : length // 2] * 1j * 2 * np.pi * frequency / sample_rate)
        wave = _cosine_window(int(length), 0.5, periodic=True) * turns / length
        kernels[row, start : start + int(length)] = wave / np.linalg.norm(wave, 1)
    return Filters(decimated, torch.from_numpy(kernels), torch.tensor(np.ceil(quality * sample_rate / bins)).float(), _lowpass())


def _cosine_window(length: int, mean: float, *, periodic: bool) -> NDArray[np.float64]:
    """(N,) Hann (mean .5) or Hamming (.54) window, of a period or symmetric."""
    points = np.linspace(-np.pi, np.pi, length + periodic)
    return (mean + (1 - mean) * np.cos(points))[:length]


def _lowpass(taps: int = 256, transition: float = 0.001) -> Tensor:
    """(taps,) half-band filter by the window method: flat to the edge of the transition, 0 beyond it (scipy.signal.firwin2)."""
    grid = np.linspace(0, 1, taps + 1)
    gain = np.interp(grid, [0, 0.5 / (1 + transition), 0.5 * (1 + transition), 1], [1.0, 1.0, 0.0, 0.0])
    response = np.fft.irfft(gain * np.exp(-(taps - 1) / 2.0 * 1j * np.pi * grid))
    return torch.from_numpy((response[:taps] * _cosine_window(taps, 0.54, periodic=False)).astype(np.float32))


class Cqt(nn.Module):
    """Complex CQT of (B, T) waveforms → (B, 2, K, F): natural log of the magnitude (floored) and phase in radians."""

    def __init__(self, params: CqtParams, sample_rate: int = 16_000):
        super().__init__()
        self.params = params
        self.margin_samples = _span(params, sample_rate)
        if params.backend == "nnaudio":
            self.reference = reference(params, sample_rate)
            return
        kernels, lowpass = _kernels(design(params, sample_rate), params)
        self.octaves = [(kernel.halvings, kernel.start) for kernel in kernels]
        for index, kernel in enumerate(kernels):
            self.register_buffer(f"kernel_{index}", kernel.weight, persistent=False)
        self.register_buffer("lowpass", lowpass, persistent=False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, T) → (B, 2, K, F) float32; a whole batch in one product an octave."""
        real, imaginary = self.complex(waveform.float())
        magnitude = torch.hypot(real, imaginary).clamp_min(self.params.floor)
        return torch.stack((magnitude.log(), torch.atan2(imaginary, real)), dim=1)

    def complex(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) → real and imaginary part, each (B, K, F)."""
        if self.params.backend == "nnaudio":
            return self.reference(waveform).unbind(-1)
        frames, signal, halved, octaves = waveform.shape[-1] // self.params.hop_samples + 1, waveform, 0, []
        for index, (halvings, start) in enumerate(self.octaves):
            while halved < halvings:
                signal, halved = _halve(signal, self.get_buffer("lowpass")), halved + 1
            octaves.append(_filter(signal, self.get_buffer(f"kernel_{index}"), start, self.params.hop_samples >> halvings, frames))
        real, imaginary = zip(*(octave.unflatten(-1, (2, -1)).unbind(-2) for octave in reversed(octaves)), strict=True)
        return torch.cat(real, -1).transpose(1, 2), torch.cat(imaginary, -1).transpose(1, 2)


def _kernels(filters: Filters, params: CqtParams) -> tuple[list[Kernel], Tensor]:
    """Octaves from the highest down, each trimmed of its zeros and scaled by √length, and the blocked low-pass filter."""
    scales = filters.lengths.sqrt()
    cosine, sine = filters.kernels.real, -filters.kernels.imag
    per_octave, kernels = params.bins_per_octave, []
    for octave, top in enumerate(range(params.bins, 0, -per_octave)):
        bins = slice(max(top - per_octave, 0), top)
        rows = slice(-(bins.stop - bins.start), None) if filters.decimated else bins
        weight = torch.cat((cosine[rows], sine[rows])) * scales[bins].repeat(2)[:, None]
        support = weight.abs().amax(0).nonzero()
        first, last = int(support[0]), int(support[-1]) + 1
        kernels.append(Kernel(octave if filters.decimated else 0, first - weight.shape[1] // 2, weight[:, first:last].T.contiguous()))
    return kernels, _toeplitz(filters.lowpass) if filters.decimated else torch.zeros(0)


def _toeplitz(taps: Tensor, outputs: int = 64) -> Tensor:
    """Filter and decimation by 2 as one matrix (2·outputs + W − 2, outputs): column j holds the taps from row 2j on."""
    matrix = torch.zeros(2 * outputs + len(taps) - 2, outputs)
    for column in range(outputs):
        matrix[2 * column : 2 * column + len(taps), column] = taps
    return matrix


def _halve(signal: Tensor, toeplitz: Tensor) -> Tensor:
    """(B, T) → low-passed, every second sample: nnAudio's strided convolution with zeros around, as one product."""
    block, outputs = toeplitz.shape
    taps = block - 2 * outputs + 2
    pad = (taps - 1) // 2
    length = (signal.shape[-1] + 2 * pad - taps) // 2 + 1
    blocks = math.ceil(length / outputs)
    right = (blocks - 1) * 2 * outputs + block - pad - signal.shape[-1]
    padded = nn.functional.pad(signal, (pad, max(right, 0)))
    return (padded.unfold(-1, block, 2 * outputs)[:, :blocks] @ toeplitz).flatten(1)[:, :length]


def _filter(signal: Tensor, weight: Tensor, start: int, hop: int, frames: int) -> Tensor:
    """(B, T) → (B, F, 2N): output f is the product of the weights with the samples from f·hop + start on.

    Framing copies the signal once for every hop of the kernel. A long kernel is therefore cut in pieces of one hop: the blocks of the
    signal meet all pieces in one product, and piece p of frame f is what block f + p gave.
    """
    pieces = math.ceil(len(weight) / hop)
    right = (frames - 1 + pieces) * hop + start - signal.shape[-1]
    padded = nn.functional.pad(signal, (-start, right))  # a negative pad crops
    if len(weight) <= FRAMED:
        return padded.unfold(-1, len(weight), hop)[:, :frames] @ weight
    blocks = padded.unflatten(-1, (-1, hop))
    stacked = nn.functional.pad(weight, (0, 0, 0, pieces * hop - len(weight))).unflatten(0, (pieces, hop))
    output = blocks[:, :frames] @ stacked[0]
    for piece in range(1, pieces):
        output += blocks[:, piece : piece + frames] @ stacked[piece]
    return output


def _span(params: CqtParams, sample_rate: int) -> int:
    """Samples on either side of a frame that can change it, rounded up to whole hops: the margin a crop needs."""
    longest = sample_rate / params.fmin_hz / (2 ** (1 / params.bins_per_octave) - 1)
    return math.ceil(longest / 2 / params.hop_samples) * params.hop_samples


def cqt_features(cqt: Tensor, phase: str) -> Tensor:
    """(B, 2, K, F) log-magnitude and phase → (B, F, D): standardised log-magnitudes, and phase as asked for, of all bins side by side."""
    return channels(cqt, phase).flatten(1, 2).transpose(1, 2)


def cqt_width(cqt: CqtParams, phase: str) -> int:
    """D of `cqt_features`."""
    return cqt.bins * PHASE_CHANNELS[phase]


PHASE_CHANNELS = {"none": 1, "angle": 2, "cos_sin": 3}  # with the magnitude's


def channels(spectrogram: Tensor, phase: str) -> Tensor:
    """(B, 1–2, K, F) log-magnitude, phase → (B, 1–3, K, F): log-magnitude standardised per clip, phase as asked for."""
    magnitude = spectrogram[:, :1]
    deviation, mean = torch.std_mean(magnitude, dim=(1, 2, 3), keepdim=True)
    parts = [(magnitude - mean) / (deviation + 1e-5)]
    if phase == "angle":
        parts.append(spectrogram[:, 1:] / torch.pi)
    elif phase == "cos_sin":
        parts += [spectrogram[:, 1:].cos(), spectrogram[:, 1:].sin()]
    return torch.cat(parts, dim=1)
