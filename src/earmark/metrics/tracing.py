"""Source-tracing metrics, each defined once. Orientation everywhere: a higher `ood_score` is more likely an unseen source.

Weights are those of a resample: a trial of weight k counts as k trials; without them each counts once.

Legend: r trials, of which n are of known and u of unseen sources; S names of sources.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark import InputError
from earmark.metrics.detection import DetectionCurve, MissingKey, Ranked, auroc, check, eer

SEEN_ACCEPTED = 0.95  # FPR95 is read where this share of known-source trials is accepted
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Identification:
    """How known sources are named, by argmax without rejection; fractions."""

    accuracy: float
    macro_f1: float
    per_source: pd.DataFrame  # source, trials, recall
    confusion: pd.DataFrame  # counts: rows truth, columns answer


def identify(truth: Sequence[str], answer: Sequence[str]) -> Identification:
    """(n,) true and (n,) named sources → figures over the sources that occur in `truth`.

    Errors: InputError when there is no trial, or the two differ in length.
    """
    if len(truth) != len(answer) or not len(truth):
        raise InputError(f"{len(truth)} trials of known sources and {len(answer)} answers: give one answer for each, and at least one")
    names, (rows, columns) = _number(truth, answer)
    counts = count(rows, columns, len(names), np.ones(len(rows)))
    trials = counts.sum(1).astype(np.int64)
    there = np.flatnonzero(trials)
    per_source = {"source": [names[row] for row in there], "trials": trials[there], "recall": counts[there, there] / trials[there]}
    return Identification(
        accuracy(counts), macro_f1(counts), pd.DataFrame(per_source), pd.DataFrame(counts.astype(np.int64), index=names, columns=names)
    )


def count(truth: Numbers, answer: Numbers, names: int, weights: Floats) -> Floats:
    """(n,) numbers of the true and the named source → (S, S) weight of each true source (rows) under each name (columns)."""
    cells = np.bincount(truth * names + answer, weights, names * names).astype(np.float64, copy=False)
    return cells.reshape(names, names)


def accuracy(counts: Floats) -> float:
    """Share of trials that are named rightly, of (S, S) counts."""
    return float(np.trace(counts) / counts.sum())


def macro_f1(counts: Floats) -> float:
    """Mean F1 over the true sources that occur, of (S, S) counts."""
    true, named, both = counts.sum(1), counts.sum(0), np.diagonal(counts)
    there = true > 0
    return float(np.mean(2 * both[there] / (true + named)[there]))


def rejection_curve(seen: ArrayLike, unseen: ArrayLike) -> DetectionCurve:
    """Curve of ood_score of known (n,) and unseen (u,) trials: accepted is what is taken for known, from a falling score on.

    Errors: InputError when a side has no trial or a score is not finite.
    """
    return DetectionCurve.of(-check(seen, "known-source"), -check(unseen, "unseen-source"))


def false_positive_rate(curve: DetectionCurve, accepted: float = SEEN_ACCEPTED) -> float:
    """Least share of unseen trials accepted where at least `accepted` of the known ones are."""
    return float(curve.false_alarm[1 - curve.miss >= accepted - 1e-12].min())


def classification_curve(curve: DetectionCurve, right: Flags) -> DetectionCurve:
    """The curve with known trials that are not named rightly, of (r,) all, missed at every threshold.

    Its EER is EERc; its AUROC is OSCR, the area under the rate of known trials accepted and named rightly over the rate of unseen ones
    accepted (Dhamija et al., 2018).
    """
    named = curve.ranked.up_to((curve.weights * (right & curve.ranked.is_bonafide)).take(curve.ranked.order))
    return replace(curve, rejected=named + (curve.rejected[-1] - named[-1]))


def auroc_by_source(curve: DetectionCurve, source: Numbers) -> Floats:
    """AUROC of each source's unseen trials against all known ones; (r,) numbers of sources → (S,), NaN where a source has none."""
    rows = np.flatnonzero(~curve.ranked.is_bonafide)
    accepted = 1 - curve.miss
    outscored = (accepted[1:] + accepted[:-1])[curve.ranked.step[rows]] / 2  # share of known trials that score lower, ties counting half
    weights, size = curve.weights[rows], int(source.max()) + 1
    mass = np.bincount(source[rows], weights, size)
    return np.divide(np.bincount(source[rows], weights * outscored, size), mass, out=np.full(size, np.nan), where=mass > 0)


@dataclass(frozen=True)
class Traced:
    """Trials of known and of unseen sources with what a tracer answers."""

    names: list[str]  # S sources, true or named
    truth: Numbers  # (r,) among them
    answer: Numbers  # (r,) among them
    ranked: Ranked  # by −ood_score; known sources are its bona fide

    @classmethod
    def of(cls, truth: Sequence[str], answer: Sequence[str], ood_score: ArrayLike, known: ArrayLike) -> Self:
        """(r,) each. Errors: InputError when lengths differ, there is no trial, or a score is not finite."""
        scores, marks = check(ood_score, "traced"), np.asarray(known, dtype=bool)
        if {len(truth), len(answer), len(marks)} != {len(scores)}:
            told = f"{len(scores)} scores, {len(truth)} sources, {len(answer)} answers, {len(marks)} marks"
            raise InputError(f"{told}: give one of each a trial")
        names, (rows, columns) = _number(truth, answer)
        return cls(names, rows, columns, Ranked.of(-scores, marks))

    def naming(self, weights: Floats | None = None) -> dict[str, float]:
        """Accuracy and macro-F1 of known sources; nothing where no such trial is held."""
        known = np.flatnonzero(self.ranked.is_bonafide)
        held = np.ones(len(known)) if weights is None else weights[known]
        counts = count(self.truth[known], self.answer[known], len(self.names), held)
        return {"accuracy": accuracy(counts), "macro_f1": macro_f1(counts)} if counts.any() else {}

    def rejection(self, weights: Floats | None = None) -> dict[str, float]:
        """How unseen sources are told from known ones. Errors: MissingKey when no trial of either is held."""
        curve = self.ranked.curve(weights)
        named = classification_curve(curve, self.truth == self.answer)
        return {
            "auroc": auroc(curve),
            "eer": eer(curve),
            "fpr95": false_positive_rate(curve),
            "eer_classification": eer(named),
            "oscr": auroc(named),
            "mean_auroc": float(np.nanmean(auroc_by_source(curve, self.truth))),
        }

    def figures(self, weights: Floats | None = None) -> dict[str, float]:
        """Naming and rejection, what the trials can give of them."""
        found = self.naming(weights)
        with suppress(MissingKey):
            found |= self.rejection(weights)
        return found

    def per_unseen(self) -> pd.DataFrame:
        """A row an unseen source: trials and AUROC against all known-source trials; a mean over them lets no large source rule."""
        areas = auroc_by_source(self.ranked.curve(), self.truth)
        trials = np.bincount(self.truth[~self.ranked.is_bonafide], minlength=len(areas))
        there = np.flatnonzero(trials)
        return pd.DataFrame({"source": [self.names[row] for row in there], "trials": trials[there], "auroc": areas[there]})


def _number(truth: Sequence[str], answer: Sequence[str]) -> tuple[list[str], tuple[Numbers, Numbers]]:
    """Sorted names of all sources, and the number of each trial's true and named one."""
    numbers, names = pd.factorize(np.asarray([*truth, *answer], dtype=object), sort=True)
    return [str(name) for name in names], (numbers[: len(truth)].astype(np.int64), numbers[len(truth) :].astype(np.int64))
