"""Two tracers on the same trials: how far their difference would move with other speakers and other sources.

Legend: r trials, of which some are of known and the others of unseen sources.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.bootstrap import Floats, clusters, resample
from earmark.metrics.detection import check

Flags = NDArray[np.bool_]


def tracing_draws(
    champion: tuple[ArrayLike, ArrayLike],
    challenger: tuple[ArrayLike, ArrayLike],
    known: ArrayLike,
    speakers: Sequence[object],
    sources: Sequence[object],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """Challenger − champion in accuracy over known sources and in AUROC of unseen ones; (resamples,) each, NaN where a resample has none.

    A model is given as two (r,) arrays: whether it names the source rightly, and its ood_score (higher = more likely unseen).
    """
    seen, generator = np.asarray(known, dtype=bool), np.random.default_rng(seed)
    models = [(np.asarray(right, dtype=bool), Ranked(check(scores, "traced"), seen)) for right, scores in (champion, challenger)]
    rows = clusters(speakers, alone=True), clusters(sources, alone=True)
    draws = np.empty((resamples, 2))
    for row in range(resamples):
        weights = resample(rows[0], generator) * resample(rows[1], generator)
        first, second = (np.array([accuracy(right, seen, weights), ranked.auroc(weights)]) for right, ranked in models)
        draws[row] = second - first
    return {"accuracy": draws[:, 0], "auroc": draws[:, 1]}


def accuracy(right: Flags, known: Flags, weights: Floats) -> float:
    """Weighted share of known-source trials that are named rightly; NaN without such trials."""
    mass = np.sum(weights, where=known)
    return float(np.sum(weights, where=right & known) / mass) if mass else np.nan


class Ranked:
    """Trials sorted once by ood_score, so that each resample costs one pass."""

    def __init__(self, scores: Floats, known: Flags):
        self.order = np.argsort(scores, kind="stable")
        self.known = known[self.order]
        ranked = scores[self.order]
        self.last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last row of each distinct score

    def auroc(self, weights: Floats) -> float:
        """Weighted probability that an unseen trial scores above a known one, ties counting half; NaN without trials of both kinds."""
        sorted_weights = weights[self.order]
        known = np.append(0.0, np.cumsum(sorted_weights * self.known)[self.last])
        unseen = np.append(0.0, np.cumsum(sorted_weights * ~self.known)[self.last])
        pairs = known[-1] * unseen[-1]
        return float(np.sum(np.diff(unseen) * (known[1:] + known[:-1])) / 2 / pairs) if pairs else np.nan
