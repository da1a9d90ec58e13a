"""Why the detector said so: what its score loses when parts of what it heard are taken away (captum's feature ablation).

Gradients along a path from silence say nothing here, since both views are brought to unit variance before they are read.
Shapes: T samples of a clip, C channels, K bins and F frames of its spectrogram, M moments, N bands.
"""

from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import FeatureAblation
from numpy.typing import NDArray
from torch import Tensor

from earmark.audio.decode import SAMPLE_RATE
from earmark.features.clips import Clips
from earmark.features.linear import BANDS as BINS
from earmark.features.recording import WHOLE, Recording
from earmark.model.calibration import Decision
from earmark.model.system import Heard, System
from earmark.params import CqtParams, SpectrogramParams

MOMENTS, BANDS = 16, 12  # parts of a clip that are taken away in turn
AT_ONCE = 16  # clips with a part taken away that are scored together
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """The window that spoke most for the decision, and what its score loses without each part; a loss > 0 spoke for bona fide."""

    start: int  # first sample
    waveform: Floats  # (T,)
    spectrogram: Floats  # (C, K, F) log-magnitude and, of a CQT, phase
    hertz: dict[int, str]  # bins that are marked on an axis, and their frequencies
    score: float
    by_view: dict[str, float]  # loss without the waveform view, without the spectrogram view
    by_time: Floats  # (M,) without a moment of both views
    by_bin: Floats  # (N, M) without a band of the spectrogram view at a moment


def explain(system: System, recording: Recording, heard: Heard, decision: Decision) -> Evidence:
    """Ablate the window with the highest score where that was decided to be bona fide, else the one with the lowest."""
    number = int(heard.scores.argmax() if decision == "bonafide" else heard.scores.argmin())
    clips = Clips(recording, system.params.audio, system.params.cqt, system.detector.params.spectrogram)
    waveform, spectrogram, _ = clips[WHOLE, int(heard.starts[number]), 0]
    inputs = waveform[None].to(system.runner.device), spectrogram[None].to(system.runner.device)
    loss = Losses(system, inputs)
    samples, bins, frames = waveform.shape[-1], *spectrogram.shape[-2:]
    times = [(torch.arange(length) * MOMENTS // length).expand_as(part[0]) for length, part in zip((samples, frames), inputs, strict=True)]
    grid = (torch.arange(bins) * BANDS // bins)[:, None] * MOMENTS + times[1][0]
    untouched = torch.full_like(times[0], BANDS * MOMENTS)
    by_bin = loss(untouched, grid.expand_as(spectrogram), BANDS * MOMENTS + 1)[:-1].reshape(BANDS, MOMENTS)
    views = loss(torch.zeros_like(times[0]), torch.ones_like(times[1]), 2)
    return Evidence(
        start=int(heard.starts[number]),
        waveform=waveform.double().numpy(),
        spectrogram=spectrogram.double().numpy(),
        hertz=mark(system.detector.params.spectrogram, system.params.cqt),
        score=float(heard.scores[number]),
        by_view=dict(zip(("waveform", "spectrogram"), views.tolist(), strict=True)),
        by_time=loss(times[0], times[1], MOMENTS),
        by_bin=by_bin,
    )


def mark(spectrogram: SpectrogramParams, cqt: CqtParams) -> dict[int, str]:
    """Bins to mark and their frequencies: octaves of a CQT, every 1,000 Hz of linear bands."""
    if spectrogram.scale == "linear":
        return {1000 * kilo * BINS // (SAMPLE_RATE // 2): f"{1000 * kilo}" for kilo in range(8)}
    return {tick: f"{cqt.fmin_hz * 2 ** (tick / cqt.bins_per_octave):.0f}" for tick in range(0, cqt.bins, cqt.bins_per_octave)}


class Losses:
    """What the score of one clip loses without a part: silence in the waveform, the clip's mean magnitude in the spectrogram."""

    def __init__(self, system: System, inputs: tuple[Tensor, Tensor]):
        self.system, self.inputs = system, inputs
        blank = torch.zeros_like(inputs[1])
        blank[:, 0] = inputs[1][:, 0].mean((1, 2), keepdim=True)
        self.baselines = torch.zeros_like(inputs[0]), blank

    @torch.no_grad()
    def __call__(self, waveform: Tensor, spectrogram: Tensor, count: int) -> Floats:
        """(T,), (C, K, F) numbers of the part that each value belongs to, below `count` → (count,) losses."""
        masks = tuple(mask[None].to(self.system.runner.device) for mask in (waveform, spectrogram))
        found = FeatureAblation(self.score).attribute(
            self.inputs,
            baselines=self.baselines,
            feature_mask=masks,
            perturbations_per_eval=AT_ONCE,
            enable_cross_tensor_attribution=True,
        )
        losses = np.zeros(count)
        for mask, loss in zip(masks, found, strict=True):
            losses[mask.cpu().numpy().ravel()] = loss.double().cpu().numpy().ravel()
        return losses

    def score(self, waveform: Tensor, spectrogram: Tensor) -> Tensor:
        """(B,) cm_score."""
        return self.system.detector(waveform, spectrogram).cm_score
