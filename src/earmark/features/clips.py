"""Clips as networks take them: a crop of the waveform and the CQT frames of the same instant.

Shapes: B batch, T samples of a clip, K CQT bins, F frames of a clip.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from earmark.audio.augment import rawboost
from earmark.features.cqt import Cqt
from earmark.features.shards import Stored
from earmark.networks.wavespec import clip_frames
from earmark.params import AudioParams, AugmentationParams, CqtParams, TrainingParams


class Views(NamedTuple):
    """waveform (B, T) and cqt (B, 2, K, F) of the same instants."""

    waveform: Tensor
    cqt: Tensor


class Clips(Dataset):
    """Clips cut from stored utterances: item (utterance_id, first sample, label) → waveform, CQT (empty with a margin), label.

    With `margin` > 0 the waveform has that many samples more on both sides (zeros beyond the file's ends) and its CQT is left to
    `augmented`, which transforms what it disturbed.
    """

    def __init__(self, features: Stored, audio: AudioParams, cqt: CqtParams, margin: int = 0):
        self.features, self.samples, self.hop, self.margin = features, audio.clip_samples, cqt.hop_samples, margin
        self.frames = clip_frames(audio.clip_samples)

    def __getitem__(self, item: tuple[str, int, int]) -> tuple[Tensor, Tensor, int]:
        """See the class."""
        utterance, start, label = item
        if not self.margin:
            waveform = self.features.waveform(utterance, start, self.samples)
            return torch.from_numpy(waveform), torch.from_numpy(self.features.cqt(utterance, start // self.hop, self.frames).copy()), label
        left = min(start, self.margin)
        waveform = self.features.waveform(utterance, start - left, left + self.samples + self.margin)
        padded = np.pad(waveform, (self.margin - left, left + self.samples + self.margin - len(waveform)))
        return torch.from_numpy(padded), torch.empty(0), label


def augmented(waveform: Tensor, params: AugmentationParams, audio: AudioParams, cqt: Cqt, generator: Generator) -> Views:
    """(B, margin + T + margin) → views of the disturbed clip: waveform first, then the CQT of just that waveform."""
    noisy, margin, hop = rawboost(waveform, params, generator), cqt.margin_samples, cqt.params.hop_samples
    if params.rawboost:  # it leaves the peak at 1, and level is a cue
        power = noisy[:, margin : margin + audio.clip_samples].square().mean(-1, keepdim=True)
        noisy = noisy * 10 ** (audio.level_dbfs / 20) * torch.rsqrt(power.clamp_min(1e-12))
    frames = cqt(noisy)[..., margin // hop : margin // hop + clip_frames(audio.clip_samples)]
    return Views(noisy[:, margin : margin + audio.clip_samples], blank_bands(frames, params.spectrogram_bands, generator))


def blank_bands(cqt: Tensor, widest: int, generator: Generator) -> Tensor:
    """(B, 2, K, F) with one random band of up to `widest` bins a clip set to the clip's mean log-magnitude and to phase 0."""
    if not widest:
        return cqt
    bins = torch.arange(cqt.shape[2])
    width = torch.randint(0, widest + 1, (len(cqt), 1), generator=generator)
    first = torch.randint(0, cqt.shape[2], (len(cqt), 1), generator=generator)
    hit = ((bins >= first) & (bins < first + width)).to(cqt.device)[:, None, :, None]
    fill = torch.stack((cqt[:, 0].mean((1, 2)), torch.zeros(len(cqt), device=cqt.device)), dim=1)[:, :, None, None]
    return torch.where(hit, fill, cqt)


def draw(rows: pd.DataFrame, index: pd.DataFrame, audio: AudioParams, cqt: CqtParams, training: TrainingParams, seed: Any) -> list:
    """One epoch's items in order: every row once a pass, or balanced draws; a random crop each, starting on a whole frame."""
    rng = np.random.default_rng(seed)
    passes = [_balanced(rows, training, rng) if training.balance else rng.permutation(len(rows)) for _ in range(training.repeats)]
    order = np.concatenate(passes)
    ids, labels = rows["utterance_id"].to_numpy()[order], (rows["key"] == "bonafide").to_numpy()[order].astype(int)
    spare = (index.loc[ids, "samples"].to_numpy() - audio.clip_samples) // cqt.hop_samples
    starts = rng.integers(0, spare + 1) * cqt.hop_samples
    return list(zip(ids.tolist(), starts.tolist(), labels.tolist(), strict=True))


def _balanced(rows: pd.DataFrame, training: TrainingParams, rng: np.random.Generator) -> np.ndarray:
    """Row numbers, twice as many as bona fide rows: half bona fide, and spoofs split between made ones and others, sources alike."""
    bonafide, made = (rows["key"] == "bonafide").to_numpy(), rows["made"].to_numpy(bool)
    count = int(bonafide.sum())
    copies = round(count * training.made_share) if made.any() else 0
    copies = count if not (~bonafide & ~made).any() else copies
    parts = [rng.permutation(np.flatnonzero(bonafide))]
    for chosen, size in ((~bonafide & made, copies), (~bonafide & ~made, count - copies)):
        parts.append(_cycle(np.flatnonzero(chosen), size, rng))
    return rng.permutation(np.concatenate(parts))


def _cycle(numbers: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of the numbers, none a second time before all were taken once."""
    rounds = [rng.permutation(numbers) for _ in range(-(-size // len(numbers)))] if size else []
    return np.concatenate(rounds)[:size] if rounds else numbers[:0]


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
