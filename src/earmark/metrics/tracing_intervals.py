"""Clustered bootstrap of tracing's figures: how far they would move with other speakers and other sources.

Legend: r trials, of known or of unseen sources; u distinct scores. A higher `ood_score` is more likely unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark import InputError
from earmark.metrics.bootstrap import Floats, draw_weights, number_clusters
from earmark.metrics.detection import check
from earmark.metrics.tracing import SEEN_ACCEPTED

FIGURES = ("accuracy", "macro_f1", "auroc", "eer", "fpr95", "eer_classification", "oscr", "mean_auroc")
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class _Trials:
    """Trials in rising order of ood_score; all arrays but the first are (r,)."""

    last: Numbers  # (u,) last row of each distinct score
    known: Flags
    right: Flags  # named rightly; False where the source is unseen
    truth: Numbers  # number of the source
    answer: Numbers  # number of the source named, in the same numbering
    step: Numbers  # number of the row's score among the distinct ones
    speakers: Numbers
    sources: Numbers


def tracing_intervals(
    truth: Sequence[str],
    answer: Sequence[str],
    ood_score: ArrayLike,
    known: ArrayLike,
    speakers: Sequence[object] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the figures of `metrics.tracing`; (r,) each, one row a trial, None or NaN where a speaker is unknown.

    A row's weight is the product of two multinomial draws, its speaker's and its source's, as in `bootstrap.intervals`. A figure that no
    resample gives, because all sources are known or none is, has no interval. Errors: InputError when lengths differ, there is no trial,
    or a score is not finite.
    """
    trials = _sorted_trials(truth, answer, check(ood_score, "traced"), np.asarray(known, dtype=bool), speakers)
    generator = np.random.default_rng(seed)
    draws = np.array([_figures(trials, draw_weights(trials.speakers, trials.sources, generator)) for _ in range(resamples)])
    found = {}
    for name, drawn in zip(FIGURES, draws.reshape(-1, len(FIGURES)).T, strict=True):
        usable = drawn[np.isfinite(drawn)]
        if len(usable):
            low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
            found[name] = float(low), float(high)
    return found


def _sorted_trials(truth: Sequence[str], answer: Sequence[str], scores: Floats, known: Flags, speakers: Sequence[object] | None) -> _Trials:
    if {len(truth), len(answer), len(known)} != {len(scores)}:
        raise InputError(f"{len(scores)} scores, {len(truth)} sources, {len(answer)} answers, {len(known)} marks: give one of each a trial")
    order = np.argsort(scores, kind="stable")
    fresh = np.append(True, np.diff(scores[order]) != 0)
    names = pd.factorize(np.concatenate([np.asarray(truth, object), np.asarray(answer, object)]))[0].astype(np.int64)
    source, named = names[: len(scores)], names[len(scores) :]
    speaker, cluster = number_clusters(np.zeros(len(scores), bool), speakers, list(truth))
    return _Trials(
        last=np.flatnonzero(np.append(fresh[1:], True)),
        known=known[order],
        right=(known & (source == named))[order],
        truth=source[order],
        answer=named[order],
        step=np.cumsum(fresh) - 1,
        speakers=speaker[order],
        sources=cluster[order],
    )


def _figures(trials: _Trials, weights: Floats) -> tuple[float, ...]:
    """Weighted figures in the order of FIGURES; NaN where the resample holds no trial of the kind they need."""
    seen, novel = weights * trials.known, weights * ~trials.known
    known_mass, novel_mass = seen.sum(), novel.sum()
    if not known_mass:
        return (np.nan,) * len(FIGURES)
    named = float(np.sum(seen, where=trials.right) / known_mass), _macro_f1(trials, seen)
    if not novel_mass:
        return *named, *(np.nan,) * (len(FIGURES) - len(named))
    # shares accepted as known, at thresholds falling from all trials accepted to none
    known, right, unseen = (
        np.append(0.0, np.cumsum(part)[trials.last])[::-1] / mass
        for part, mass in ((seen, known_mass), (seen * trials.right, known_mass), (novel, novel_mass))
    )
    return (
        *named,
        float(np.trapezoid(known[::-1], unseen[::-1])),
        _meet(1 - known, unseen),
        float(unseen[known >= SEEN_ACCEPTED - 1e-12].min()),
        _meet(1 - right, unseen),
        float(np.trapezoid(right[::-1], unseen[::-1])),
        _mean_auroc(trials, novel, known),
    )


def _meet(miss: Floats, alarm: Floats) -> float:
    at = int(np.argmin(np.abs(miss - alarm)))
    return float(miss[at] + alarm[at]) / 2


def _macro_f1(trials: _Trials, seen: Floats) -> float:
    """Mean over the sources that the resample holds, as if a trial of weight two were there twice."""
    size = int(max(trials.truth.max(), trials.answer.max())) + 1
    true, named, both = (
        np.bincount(numbers, part, size)
        for numbers, part in ((trials.truth, seen), (trials.answer, seen), (trials.truth, seen * trials.right))
    )
    there = true > 0
    return float(np.mean(2 * both[there] / (true + named)[there]))


def _mean_auroc(trials: _Trials, novel: Floats, known: Floats) -> float:
    """Mean over the unseen sources that the resample holds; `known` is (u + 1,), falling."""
    below = ((known[1:] + known[:-1]) / 2)[::-1][trials.step]  # share of known trials below a row's score, ties counting half
    mass = np.bincount(trials.truth, novel)
    there = mass > 0
    return float(np.mean(np.bincount(trials.truth, novel * below)[there] / mass[there]))
