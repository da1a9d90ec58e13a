"""Clustered bootstrap of what decisions and calibrated scores cost, on the resamples that `bootstrap.intervals` draws with the same seed.

Legend: r trials, u distinct scores, c costs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from earmark import InputError
from earmark.metrics.bootstrap import Floats, draw_weights, number_clusters, total
from earmark.metrics.detection import Costs, check

LEAST = "cllr_min"
Flags = NDArray[np.bool_]


def decision_losses(scores: ArrayLike, is_bonafide: ArrayLike, costs: Costs = Costs(), threshold: float | None = None) -> Floats:  # noqa: B008
    """(r,) parts of actDCF: the figure is the sum of both keys' means."""
    at = costs.bayes_threshold if threshold is None else threshold
    rejected, (miss, false_alarm) = check(scores, "scored") < at, costs.weights
    return np.where(np.asarray(is_bonafide, bool), miss * rejected, false_alarm * ~rejected)


def information_losses(llr: ArrayLike, is_bonafide: ArrayLike) -> Floats:
    """(r,) parts of Cllr in bits: the figure is the sum of both keys' means."""
    ratios = check(llr, "scored")
    return np.logaddexp(0, np.where(np.asarray(is_bonafide, bool), -ratios, ratios)) / np.log(4)


def cost_intervals(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    losses: Mapping[str, Floats],
    speakers: Sequence[object] | None = None,
    sources: Sequence[object] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of each of c `losses` (r,), summed over the means of both keys, and of the least Cllr of the scores (r,).

    Errors: InputError when scores are not finite or one key is missing, from all trials or from every resample.
    """
    key, array = np.asarray(is_bonafide, dtype=bool), check(scores, "scored")
    if key.all() or not key.any():
        raise InputError("an interval needs trials of both keys, bonafide and spoof")
    clusters, generator = number_clusters(key, speakers, sources), np.random.default_rng(seed)
    parts, ranked = np.stack([*losses.values()]) if losses else np.zeros((0, len(key))), _Ranked(array, key)
    draws = np.array([_costs(parts, ranked, key, draw_weights(*clusters, generator)) for _ in range(resamples)])
    usable = draws[np.isfinite(draws).all(axis=1)]
    if not len(usable):
        raise InputError("no resample holds both keys: too few speakers or sources for an interval, set the number of resamples to 0")
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate((*losses, LEAST))}


def _costs(losses: Floats, ranked: "_Ranked", key: Flags, weights: Floats) -> Floats:
    """(c + 1,) weighted costs; NaN when the resample holds one key alone."""
    bonafide, spoof = weights * key, weights * ~key
    both = bonafide.sum(), spoof.sum()
    if not all(both):
        return np.full(len(losses) + 1, np.nan)
    bonafide, spoof = bonafide / both[0], spoof / both[1]
    return np.append(total(bonafide + spoof, losses), ranked.least(bonafide, spoof))


class _Ranked:
    """Trials sorted once by score, so that each resample costs one pass."""

    def __init__(self, scores: Floats, key: Flags):
        self.order = np.argsort(scores, kind="stable")
        self.first = np.flatnonzero(np.append(True, np.diff(scores[self.order]) != 0))  # row of each distinct score

    def least(self, bonafide: Floats, spoof: Floats) -> float:
        """Least Cllr in bits, as `detection.min_cllr`, with weights (r,) of either key that sum to 1."""
        accepted, refused = (np.add.reduceat(part[self.order], self.first) for part in (bonafide, spoof))
        drawn = (mass := accepted + refused) > 0
        accepted, refused, mass = accepted[drawn], refused[drawn], mass[drawn]
        share = isotonic_regression(accepted / mass, weights=mass).x
        return float(-np.sum(xlogy(accepted, share) + xlogy(refused, 1 - share)) / np.log(4))
