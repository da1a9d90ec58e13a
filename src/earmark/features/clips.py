"""Clips as networks take them: a crop of the waveform and the spectrogram of the same instant.

Shapes: B batch, T samples of a clip, C channels, K bins and F frames of its spectrogram, as `views` has them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from earmark.audio.rawboost import rawboost
from earmark.features.cqt import Cqt
from earmark.features.shards import Utterances
from earmark.features.views import Transform, standardised, transform
from earmark.params import AudioParams, AugmentationParams, CqtParams, View


class Views(NamedTuple):
    """waveform (B, T) and spectrogram (B, C, K, F) of the same instants."""

    waveform: Tensor
    spectrogram: Tensor


class Clips(Dataset):
    """Clips cut from stored utterances: item (utterance_id, first sample, label) → waveform, spectrogram (empty with a margin), label.

    With a `margin` the waveform has that many samples more on both sides (zeros beyond the file's ends) and its spectrogram is left to
    `disturbed`, which transforms what it disturbed.
    """

    def __init__(self, features: Utterances, audio: AudioParams, cqt: CqtParams, view: View, margin: int | None = None):
        self.features, self.samples, self.hop, self.margin = features, audio.clip_samples, cqt.hop_samples, margin
        self.frames = clip_frames(audio.clip_samples)
        self.view: View = view
        self.transform = None if view == "cqt" else transform(view, cqt)

    def __getitem__(self, item: tuple[str, int, int]) -> tuple[Tensor, Tensor, int]:
        """See the class."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[tuple[str, int, int]]) -> list[tuple[Tensor, Tensor, int]]:
        """A batch, as torch's loader asks for one: views that are not stored are made of all its clips at once."""
        waveforms = [self._waveform(utterance, start) for utterance, start, _ in items]
        if self.margin is not None:
            spectra = [torch.empty(0)] * len(items)
        elif self.transform is not None:
            spectra = self.transform(torch.stack(waveforms))
        else:
            spectra = [torch.from_numpy(self.features.cqt(name, start // self.hop, self.frames).copy()) for name, start, _ in items]
        return [(waveform, spectrum, item[2]) for waveform, spectrum, item in zip(waveforms, spectra, items, strict=True)]

    def _waveform(self, utterance: str, start: int) -> Tensor:
        """(T,), or (margin + T + margin,)."""
        if self.margin is None:
            return torch.from_numpy(self.features.waveform(utterance, start, self.samples))
        left = min(start, self.margin)
        waveform = self.features.waveform(utterance, start - left, left + self.samples + self.margin)
        return torch.from_numpy(np.pad(waveform, (self.margin - left, left + self.samples + self.margin - len(waveform))))


class Frames(Dataset):
    """What clips' views say frame by frame: item (utterance_id, first sample, label) → ((F, K) standardised, label)."""

    def __init__(self, clips: Clips, width: int):
        self.clips, self.width = clips, width

    def __getitem__(self, item: tuple[str, int, int]) -> tuple[Tensor, int]:
        """See the class."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[tuple[str, int, int]]) -> list[tuple[Tensor, int]]:
        """A batch, as torch's loader asks for one."""
        images = torch.stack([image for _, image, _ in self.clips.__getitems__(items)])
        frames = standardised(self.clips.view, images)[:, 0].transpose(1, 2)
        return [(one, label) for one, (_, _, label) in zip(frames, items, strict=True)]


def disturbed(waveform: Tensor, params: AugmentationParams, audio: AudioParams, transform: Transform, generator: Generator) -> Views:
    """(B, margin + T + margin) → views of the clip after RawBoost: waveform first, then the spectrogram of just that waveform."""
    noisy, margin = rawboost(waveform, params, generator), transform.margin_samples
    if params.rawboost:  # it leaves the peak at 1, and level is a cue
        power = noisy[:, margin : margin + audio.clip_samples].square().mean(-1, keepdim=True)
        noisy = noisy * 10 ** (audio.level_dbfs / 20) * torch.rsqrt(power.clamp_min(1e-12))
    clip = noisy[:, margin : margin + audio.clip_samples]
    if not isinstance(transform, Cqt):
        return Views(clip, transform(clip))
    first = margin // transform.params.hop_samples
    return Views(clip, transform(noisy)[..., first : first + clip_frames(audio.clip_samples)])


def blank(spectrogram: Tensor, bins: int, frames: int, generator: Generator) -> Tensor:
    """(B, C, K, F) with a random band of up to `bins` and a random stretch of up to `frames` of each clip taken out (SpecAugment).

    There the log-magnitude is the clip's mean and the phase 0.
    """
    fill = torch.zeros_like(spectrogram[:, :, :1, :1])
    fill[:, 0] = spectrogram[:, 0].mean((1, 2), keepdim=True)
    for axis, widest in ((2, bins), (3, frames)):
        if not widest:
            continue
        count, size = len(spectrogram), spectrogram.shape[axis]
        width = torch.randint(0, widest + 1, (count, 1), generator=generator)
        first = torch.randint(0, size, (count, 1), generator=generator)
        place = torch.arange(size)
        hit = ((place >= first) & (place < first + width)).to(spectrogram.device)
        spectrogram = torch.where(hit[:, None, :, None] if axis == 2 else hit[:, None, None, :], fill, spectrogram)
    return spectrogram


def windows(rows: pd.DataFrame, index: pd.DataFrame, audio: AudioParams, cqt: CqtParams) -> Iterator[tuple[str, int]]:
    """(utterance_id, first sample) of every scoring window: hop half a clip, the last one flush right on the frame grid."""
    hop = audio.clip_samples // 2 // cqt.hop_samples * cqt.hop_samples
    for utterance in rows["utterance_id"]:
        last = (int(index.at[utterance, "samples"]) - audio.clip_samples) // cqt.hop_samples * cqt.hop_samples
        for start in range(0, last, hop):
            yield utterance, start
        yield utterance, last


def mean_by_utterance(owners: list[str], values: np.ndarray, utterances: list[str]) -> np.ndarray:
    """(windows, X) values of the windows' owners → (utterances, X) means in float64, in the order of `utterances`."""
    owner = pd.Index(utterances).get_indexer(pd.Index(owners))
    sums = np.zeros((len(utterances), values.shape[1]))
    np.add.at(sums, owner, values)
    return sums / np.bincount(owner, minlength=len(utterances))[:, None]


def clip_frames(samples: int) -> int:
    """Frames that both views of a clip share, 201 of 64,600 samples: as many as wav2vec 2.0's seven convolutions make."""
    for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True):
        samples = (samples - kernel) // stride + 1
    return samples
