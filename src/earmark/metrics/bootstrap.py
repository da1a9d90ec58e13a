"""Clustered bootstrap: how far the figures would move with other speakers and other spoofing systems.

Trials of one speaker or one system rise and fall together, so they are drawn together: an interval from single trials is far too narrow.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark import InputError
from earmark.metrics.detection import Costs, TandemCost, check

FIGURES = ("eer", "min_dcf", "cllr")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Trials:
    """Trials in rising order of score; r rows, u distinct scores."""

    is_bonafide: NDArray[np.bool_]  # (r,)
    last: NDArray[np.int64]  # (u,) last row of each distinct score
    loss: Floats  # (r,) a trial's part of Cllr, in bits
    speakers: NDArray[np.int64]  # (r,) cluster numbers
    sources: NDArray[np.int64]  # (r,) cluster numbers, -1 where a row has none and is weighted by its speaker alone


def intervals(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    speakers: Sequence[object] | None = None,
    sources: Sequence[object] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    costs: Costs = Costs(),  # noqa: B008 - frozen
    tandem: Mapping[str, TandemCost] | None = None,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of EER, minDCF and Cllr; (r,) arrays, one row a trial, None or NaN where speaker or source is unknown.

    With `tandem`, also of each least tandem cost, by its name; the verifier is held as it is.

    A row's weight is the product of two multinomial draws, its speaker's and its source's (pigeonhole bootstrap, Owen 2007). A row without
    speaker is a cluster of its own. Errors: InputError when scores are not finite or one key is missing.
    """
    trials = _sorted_trials(check(scores, "scored"), np.asarray(is_bonafide, dtype=bool), speakers, sources)
    generator = np.random.default_rng(seed)
    tandem, (speaker, source) = tandem or {}, (trials.speakers, trials.sources)
    draws = np.array([_figures(trials, draw_weights(speaker, source, generator), costs, tandem.values()) for _ in range(resamples)])
    usable = draws[np.isfinite(draws).all(axis=1)]
    if not len(usable):
        raise InputError("no resample holds both keys: too few speakers or sources for an interval, set the number of resamples to 0")
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate((*FIGURES, *tandem))}


def paired_draws(
    champion: ArrayLike,
    challenger: ArrayLike,
    is_bonafide: ArrayLike,
    speakers: Sequence[object] | None = None,
    sources: Sequence[object] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    costs: Costs = Costs(),  # noqa: B008 - frozen
) -> dict[str, Floats]:
    """Challenger − champion in EER, minDCF and Cllr on the same resamples of the same trials.

    Both score arrays are (r,), in the order of the trials. Each figure's draws are (resamples,), NaN where a resample lacks one key.
    Errors: as of `intervals`.
    """
    key, generator = np.asarray(is_bonafide, dtype=bool), np.random.default_rng(seed)
    both = [_sorted_trials(check(scores, "scored"), key, speakers, sources) for scores in (champion, challenger)]
    draws = np.empty((resamples, len(FIGURES)))
    for row in range(resamples):
        by_speaker, by_source = _draw(both[0].speakers, both[0].sources, generator)
        first, second = (np.array(_figures(one, by_speaker[one.speakers] * by_source[one.sources], costs)) for one in both)
        draws[row] = second - first
    return dict(zip(FIGURES, draws.T, strict=True))


def interval(draws: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of (resamples,) draws without NaN. Errors: InputError when none is usable."""
    usable = draws[np.isfinite(draws)]
    if not len(usable):
        raise InputError("no resample holds trials of both kinds: too few speakers or sources for an interval")
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sorted_trials(
    scores: Floats, is_bonafide: NDArray[np.bool_], speakers: Sequence[object] | None, sources: Sequence[object] | None
) -> _Trials:
    if is_bonafide.all() or not is_bonafide.any():
        raise InputError("an interval needs trials of both keys, bonafide and spoof")
    order = np.argsort(scores, kind="stable")
    ranked, key = scores[order], is_bonafide[order]
    speaker, source = number_clusters(is_bonafide, speakers, sources)
    return _Trials(
        is_bonafide=key,
        last=np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)),
        loss=np.logaddexp(0, np.where(key, -ranked, ranked)) / np.log(2),
        speakers=speaker[order],
        sources=source[order],
    )


def number_clusters(
    is_bonafide: NDArray[np.bool_], speakers: Sequence[object] | None, sources: Sequence[object] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(r,) cluster numbers by speaker, where a row without one is a cluster of its own, and by source, -1 for bona fide and for none."""
    nobody = [None] * len(is_bonafide)
    speaker = clusters(nobody if speakers is None else speakers, alone=True)
    return speaker, np.where(is_bonafide, -1, clusters(nobody if sources is None else sources))


def clusters(names: Sequence[object], *, alone: bool = False) -> NDArray[np.int64]:
    """(r,) cluster numbers; a row without name is −1, or a cluster of its own."""
    numbers = pd.factorize(np.asarray(names, dtype=object))[0].astype(np.int64)
    if alone:
        nameless = numbers < 0
        numbers[nameless] = numbers.max(initial=-1) + 1 + np.arange(np.count_nonzero(nameless))
    return numbers


def draw_weights(speakers: NDArray[np.int64], sources: NDArray[np.int64], generator: np.random.Generator) -> Floats:
    """(r,) weights of one resample, from `number_clusters`."""
    by_speaker, by_source = _draw(speakers, sources, generator)
    return by_speaker[speakers] * by_source[sources]


def _draw(speakers: NDArray[np.int64], sources: NDArray[np.int64], generator: np.random.Generator) -> tuple[Floats, Floats]:
    """How often each speaker and each source is drawn; the last place of the latter is for rows without one."""
    by_speaker = _multinomial(int(speakers.max()) + 1, generator)
    known = int(sources.max()) + 1
    return by_speaker, np.append(_multinomial(known, generator), 1.0) if known else np.ones(1)


def resample(numbers: NDArray[np.int64], generator: np.random.Generator) -> Floats:
    """(r,) how often each row's cluster is drawn."""
    return _multinomial(int(numbers.max()) + 1, generator)[numbers]


def _multinomial(clusters: int, generator: np.random.Generator) -> Floats:
    return np.bincount(generator.integers(clusters, size=clusters), minlength=clusters).astype(np.float64)


def total(weights: Floats, losses: Floats) -> Floats:
    """Weighted sums of losses (…, r) → (…,), not by BLAS: its threads wait for each other ten times as long when other programs run."""
    return np.einsum("...r,r->...", losses, weights)


def _figures(trials: _Trials, weights: Floats, costs: Costs, tandem: Collection[TandemCost] = ()) -> tuple[float, ...]:
    """Weighted EER, minDCF, Cllr and tandem costs; NaN when the resample holds one key alone."""
    bonafide = weights * trials.is_bonafide
    rejected, heard = np.cumsum(bonafide), np.cumsum(weights)
    accepted, refused = rejected[-1], heard[-1] - rejected[-1]
    if accepted == 0 or refused == 0:
        return (np.nan,) * (len(FIGURES) + len(tandem))
    miss = np.append(0.0, rejected[trials.last] / accepted)
    false_alarm = np.append(1.0, (refused - (heard - rejected)[trials.last]) / refused)
    at = int(np.argmin(np.abs(miss - false_alarm)))
    missed = total(bonafide, trials.loss)
    bits = (missed / accepted + (total(weights, trials.loss) - missed) / refused) / 2
    weight_miss, weight_alarm = costs.weights
    least = float(np.min(weight_miss * miss + weight_alarm * false_alarm))
    return (miss[at] + false_alarm[at]) / 2, least, float(bits), *(cost.least(miss, false_alarm) for cost in tandem)
