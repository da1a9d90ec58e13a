"""Source-tracing metrics, pure functions of arrays. Orientation everywhere: a higher `ood_score` is more likely an unseen source.

Legend: n trials of known sources, u trials of unseen sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark import InputError
from earmark.metrics.detection import DetectionCurve, check, eer_point

SEEN_ACCEPTED = 0.95  # FPR95 is read where this share of known-source trials is accepted


@dataclass(frozen=True)
class Identification:
    """How known sources are named, by argmax without rejection; fractions."""

    accuracy: float
    macro_f1: float
    per_source: pd.DataFrame  # source, trials, recall
    confusion: pd.DataFrame  # counts: rows truth, columns answer


@dataclass(frozen=True)
class Rejection:
    """How unseen sources are told from known ones; fractions."""

    auroc: float
    eer: float
    threshold: float  # accept as known up to this ood_score: the EER's
    fpr95: float
    eer_classification: float
    crosses: bool  # whether the two curves of eer_classification meet
    oscr: float


def identify(truth: Sequence[str], answer: Sequence[str]) -> Identification:
    """(n,) true and (n,) named sources → figures over the sources that occur in `truth`.

    Errors: InputError when there is no trial, or the two differ in length.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score  # half a second, which no verdict has to wait for

    if len(truth) != len(answer) or not len(truth):
        raise InputError(f"{len(truth)} trials of known sources and {len(answer)} answers: give one answer for each, and at least one")
    sources = sorted(set(truth))
    names = sorted({*truth, *answer})
    recall = np.asarray(recall_score(truth, answer, labels=sources, average=None, zero_division=0))
    counts = pd.Series(list(truth)).value_counts()
    return Identification(
        float(accuracy_score(truth, answer)),
        float(f1_score(truth, answer, labels=sources, average="macro", zero_division=0)),
        pd.DataFrame({"source": sources, "trials": [int(counts[source]) for source in sources], "recall": recall}),
        pd.DataFrame(confusion_matrix(truth, answer, labels=names), index=names, columns=names),
    )


def reject(seen: ArrayLike, unseen: ArrayLike, correct: ArrayLike) -> Rejection:
    """ood_score of known (n,) and unseen (u,) trials, and whether each known one is named rightly (n,).

    Errors: InputError when a side has no trial or a score is not finite.
    """
    known, novel = check(seen, "known-source"), check(unseen, "unseen-source")
    named = np.asarray(correct, dtype=bool).ravel()
    if named.size != known.size:
        raise InputError(f"{known.size} known-source scores and {named.size} answers: give one answer for each")
    curve = DetectionCurve.of(-known, -novel)  # accepted = taken for known
    rate, threshold = eer_point(curve)
    tied, crosses = classification_eer(known, novel, named)
    return Rejection(auroc(known, novel), rate, -threshold, false_positive_rate(curve), tied, crosses, oscr(known, novel, named))


def auroc(seen: ArrayLike, unseen: ArrayLike) -> float:
    """Probability that an unseen trial scores above a known one, ties counting half; .5 = no information."""
    curve = DetectionCurve.of(-check(seen, "known-source"), -check(unseen, "unseen-source"))
    return float(np.trapezoid((1 - curve.miss)[::-1], curve.false_alarm[::-1]))


def false_positive_rate(curve: DetectionCurve, accepted: float = SEEN_ACCEPTED) -> float:
    """Least share of unseen trials accepted where at least `accepted` of the known ones are."""
    return float(curve.false_alarm[1 - curve.miss >= accepted - 1e-12].min())


def classification_eer(seen: NDArray, unseen: NDArray, correct: NDArray) -> tuple[float, bool]:
    """EERc and whether its curves cross: a known trial is missed when it is rejected or named wrongly.

    Misnamed trials are missed at every threshold, so the miss rate may stay above the false-alarm rate; the value is then the mean of
    both where they are closest, like an EER's.
    """
    floor = np.where(correct, -seen, -np.inf)
    thresholds = np.unique(np.concatenate([-seen, -unseen]))
    thresholds = np.concatenate([[np.nextafter(thresholds[0], -np.inf)], thresholds])
    missed = np.searchsorted(np.sort(floor), thresholds, side="right") / seen.size
    alarms = 1 - np.searchsorted(np.sort(-unseen), thresholds, side="right") / unseen.size
    at = int(np.argmin(np.abs(missed - alarms)))
    return float((missed[at] + alarms[at]) / 2), bool(missed[0] <= alarms[0])


def oscr(seen: NDArray, unseen: NDArray, correct: NDArray) -> float:
    """Area under the rate of known trials accepted and named rightly over the rate of unseen ones accepted (Dhamija et al., 2018)."""
    thresholds = np.unique(np.concatenate([seen, unseen]))
    rightly = np.concatenate([[0], np.searchsorted(np.sort(seen[correct]), thresholds, side="right") / seen.size])
    accepted = np.concatenate([[0], np.searchsorted(np.sort(unseen), thresholds, side="right") / unseen.size])
    return float(np.trapezoid(rightly, accepted))
