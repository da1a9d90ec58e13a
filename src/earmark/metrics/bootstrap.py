"""Clustered bootstrap: how far any figure would move with other speakers and other spoofing systems.

Trials of one speaker or one system rise and fall together, so they are drawn together: an interval from single trials is far too narrow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark import InputError
from earmark.metrics.detection import MissingKey

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Figures = Callable[[Floats], Mapping[str, float]]  # (r,) weights of a resample → figures by name, those that its trials can give


@dataclass(frozen=True)
class Clusters:
    """Trials that are drawn together; r trials, p pairs of a speaker and a source that occur."""

    speakers: Numbers  # (p,) number of the pair's speaker
    sources: Numbers  # (p,) number of its source; -1: none, so it is weighted by its speaker alone
    pairs: Numbers  # (r,) number of each trial's pair

    @classmethod
    def of(cls, is_bonafide: NDArray[np.bool_], speakers: Sequence[object] | None = None, sources: Sequence[object] | None = None) -> Self:
        """(r,) each, None or NaN where unknown; a trial without speaker is a cluster of its own, and bona fide speech has no source."""
        nobody = [None] * len(is_bonafide)
        speaker, source = _number(nobody if speakers is None else speakers), _number(nobody if sources is None else sources)
        unknown = speaker < 0
        speaker[unknown] = speaker.max(initial=-1) + 1 + np.arange(np.count_nonzero(unknown))
        source[is_bonafide] = -1
        _, first, pairs = np.unique(speaker * (source.max() + 2) + source, return_index=True, return_inverse=True)
        return cls(speaker[first], source[first], pairs)

    def draw(self, generator: np.random.Generator) -> Floats:
        """(r,) weights of one resample: how often a trial's speaker is drawn, times how often its source.

        Both are multinomial (pigeonhole bootstrap, Owen 2007).
        """
        by_speaker = _multinomial(int(self.speakers.max()) + 1, generator)
        known = int(self.sources.max()) + 1
        by_source = np.append(_multinomial(known, generator) if known else [], 1.0)  # the last place, -1, is for none
        return (by_speaker[self.speakers] * by_source[self.sources]).take(self.pairs)


def draws(figures: Figures, clusters: Clusters, resamples: int = 1000, seed: int = 0) -> dict[str, Floats]:
    """(resamples,) values of every figure that a resample gives; NaN where one does not."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame([_measure(figures, clusters.draw(generator)) for _ in range(resamples)])
    return {str(name): table[name].to_numpy(np.float64) for name in table}


def intervals(
    figures: Figures, clusters: Clusters, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile interval of every figure that a resample gives (Efron and Tibshirani 1993, section 13.3)."""
    return {name: interval(drawn, level) for name, drawn in draws(figures, clusters, resamples, seed).items()}


def interval(drawn: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of (resamples,) draws, those that are NaN left out. Errors: InputError when all are."""
    usable = drawn[np.isfinite(drawn)]
    if not len(usable):
        raise InputError("no resample holds trials of both kinds: too few speakers or sources for an interval")
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference(champion: Figures, challenger: Figures) -> Figures:
    """Challenger − champion in every figure that both have, on the same resamples of the same trials."""

    def figures(weights: Floats) -> dict[str, float]:
        old, new = champion(weights), challenger(weights)
        return {name: value - old[name] for name, value in new.items() if name in old}

    return figures


def _measure(figures: Figures, weights: Floats) -> Mapping[str, float]:
    try:
        return figures(weights)
    except MissingKey:
        return {}


def _number(names: Sequence[object]) -> Numbers:
    """(r,) numbers of names as they come up, -1 where there is none."""
    return pd.factorize(np.asarray(names, dtype=object))[0].astype(np.int64)


def _multinomial(clusters: int, generator: np.random.Generator) -> Floats:
    return np.bincount(generator.integers(clusters, size=clusters), minlength=clusters).astype(np.float64)
