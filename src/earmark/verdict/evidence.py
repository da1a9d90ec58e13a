"""Why the detector said so: what its score loses when parts of what it heard are taken away (captum's feature ablation).

A part is a moment, or a band of frequencies at a moment, of the sound itself: noise of the clip's own mean spectrum takes its place, and
every member hears what is left. Shapes: B batch, T samples of a clip, K bins and F frames of its Fourier transform, M moments, N bands.
"""

from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import FeatureAblation
from numpy.typing import NDArray
from torch import Tensor

from earmark.features.clips import clip_frames
from earmark.features.cqt import Cqt
from earmark.features.recording import WHOLE, Recording
from earmark.features.views import transform
from earmark.model.calibration import Decision
from earmark.model.system import Heard, System

MOMENTS, BANDS = 16, 12  # parts of a clip that are taken away in turn
AT_ONCE = 16  # clips with a part taken away that are scored together
SIZE, HOP = 512, 160  # of the Fourier transform
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """The window that spoke most for the decision, and what its score loses without each part; a loss > 0 spoke for bona fide."""

    start: int  # first sample
    waveform: Floats  # (T,)
    spectrogram: Floats  # (K, F) level in dB
    score: float
    by_member: dict[str, float]  # what each adds to the score
    by_time: Floats  # (M,) without a moment
    by_band: Floats  # (N, M) without a band at a moment


def explain(system: System, recording: Recording, heard: Heard, decision: Decision) -> Evidence:
    """Ablate the window with the highest score where that was decided to be bona fide, else the one with the lowest."""
    number = int(heard.scores.argmax() if decision == "bonafide" else heard.scores.argmin())
    start = int(heard.starts[number])
    waveform = torch.from_numpy(recording.waveform(WHOLE, start, system.params.audio.clip_samples))
    losses = Losses(system, waveform)
    bins, frames = losses.spectrum.shape[-2:]
    moment = (torch.arange(frames) * MOMENTS // frames).expand(bins, frames)
    band = (torch.arange(bins) * BANDS // bins)[:, None]
    return Evidence(
        start=start,
        waveform=waveform.double().numpy(),
        spectrogram=20 * np.log10(np.maximum(losses.spectrum.norm(dim=1)[0].double().cpu().numpy(), 1e-6)),
        score=float(heard.scores[number]),
        by_member=system.fusion.shares({name: scores[number] for name, scores in heard.members.items()}),
        by_time=losses(moment, MOMENTS),
        by_band=losses(band * MOMENTS + moment, BANDS * MOMENTS).reshape(BANDS, MOMENTS),
    )


class Losses:
    """What the score of one clip loses without a part of its Fourier transform."""

    def __init__(self, system: System, waveform: Tensor):
        self.system, self.samples, device = system, len(waveform), system.runner.device
        self.window = torch.hann_window(SIZE, device=device)
        self.views = {network.view: transform(network.view, system.params.cqt).to(device) for network in system.detectors.values()}
        noise = torch.randn(len(waveform), generator=torch.Generator().manual_seed(0)).to(device)
        self.spectrum, hiss = (self._spectrum(sound) for sound in (waveform.to(device), noise))
        usual = [part.square().sum(1, keepdim=True).mean(-1, keepdim=True).sqrt() for part in (self.spectrum, hiss)]
        self.baseline = hiss * usual[0] / usual[1]

    @torch.no_grad()
    def __call__(self, parts: Tensor, count: int) -> Floats:
        """(K, F) numbers of the part that each value belongs to, below `count` → (count,) losses."""
        mask = parts.expand_as(self.spectrum).to(self.spectrum.device)
        found = FeatureAblation(self.score).attribute(self.spectrum, self.baseline, feature_mask=mask, perturbations_per_eval=AT_ONCE)
        losses = np.zeros(count)
        losses[parts.numpy().ravel()] = found[0, 0].double().cpu().numpy().ravel()
        return losses

    def score(self, spectrum: Tensor) -> Tensor:
        """(B, 2, K, F) real and imaginary part → (B,) cm_score."""
        found = torch.complex(*spectrum.unbind(1))
        sound = torch.istft(found, SIZE, HOP, window=self.window, length=self.samples)
        images = {name: view(sound) for name, view in self.views.items()}
        if isinstance(self.views.get("cqt"), Cqt):
            images["cqt"] = images["cqt"][..., : clip_frames(self.samples)]
        scores = {name: network(sound, images[network.view]).cm_score for name, network in self.system.detectors.items()}
        return torch.from_numpy(self.system.fusion.fuse({name: one.double().cpu().numpy() for name, one in scores.items()}))

    def _spectrum(self, waveform: Tensor) -> Tensor:
        """(T,) → (1, 2, K, F)."""
        found = torch.stft(waveform, SIZE, HOP, window=self.window, return_complex=True)
        return torch.stack((found.real, found.imag))[None]
