"""From cm_score to a log-likelihood ratio and a decision, fitted on dev. Shapes: N trials.

Orientation: a higher cm_score and a higher llr are more bona fide.
"""

import logging
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark import InputError
from earmark.metrics.odds import expit, logit

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
Decision = Literal["bonafide", "spoof", "inconclusive"]
NAMES: dict[Decision, str] = {"bonafide": "bona fide", "spoof": "spoof", "inconclusive": "inconclusive"}  # as people read them


@dataclass(frozen=True)
class Calibration:
    """llr = slope · cm_score + intercept, natural logarithm; between `spoof_below` and `bonafide_above` nothing is decided.

    `part_below` is for stretches of a recording, whose llr scatters more than that of the whole.
    """

    slope: float
    intercept: float
    spoof_below: float
    bonafide_above: float
    part_below: float

    @classmethod
    def fit(cls, scores: ArrayLike, lowest: ArrayLike, is_bonafide: ArrayLike, max_error: float) -> Self:
        """Logistic regression of the key on (N,) scores with both keys weighing alike (Brümmer and du Preez, 2006).

        `max_error` is the share of either key's trials that may be decided wrongly: its quantiles bound the inconclusive region, and so
        that of (N,) `lowest`, the lowest score of a window of each trial: of bona fide trials no more may hold a spoofed part.
        Errors: InputError when a score is not finite or a key has no trial.
        """
        cm, bonafide = np.asarray(scores, np.float64), np.asarray(is_bonafide, bool)
        if not np.isfinite(cm).all():
            raise InputError(f"{np.count_nonzero(~np.isfinite(cm))} scores of dev are NaN or infinite: score dev again")
        if bonafide.all() or not bonafide.any():
            raise InputError("dev has trials of one key alone: calibration needs bona fide and spoofed ones")
        from sklearn.linear_model import LogisticRegression  # a second to import, which a fitted one has no need of

        centre, spread = cm.mean(), max(float(cm.std()), 1e-12)
        # sklearn's own penalty keeps the slope finite where dev is told apart without an error
        model = LogisticRegression(class_weight="balanced").fit(((cm - centre) / spread)[:, None], bonafide)
        slope, intercept = float(model.coef_[0, 0]) / spread, float(model.intercept_[0])
        if slope <= 0:
            log.warning("on dev the detector ranks spoofs above bona fide speech: its scores are taken to say nothing (llr 0)")
            slope, intercept = 0.0, 0.0
        line = cls(slope, intercept - slope * float(centre), 0.0, 0.0, 0.0)
        llr = line.llr(cm)
        part = _below(line.llr(lowest)[bonafide], max_error)
        return replace(line, **_region(llr[bonafide], llr[~bonafide], max_error), part_below=part)

    def llr(self, scores: ArrayLike) -> Floats:
        """(N,) cm_score → (N,) natural log of p(score | bona fide) / p(score | spoof)."""
        return self.slope * np.asarray(scores, np.float64) + self.intercept

    def decide(self, llr: float, prior_spoof: float = 0.5) -> Decision:
        """Decision on an llr; a prior other than one half moves both bounds by its log-odds."""
        odds = llr - float(logit(prior_spoof))
        if odds >= self.bonafide_above:
            return "bonafide"
        return "spoof" if odds <= self.spoof_below else "inconclusive"


def probability_of_spoof(llr: ArrayLike, prior_spoof: float) -> Floats:
    """(N,) llr → posterior probability of spoof (Bayes) under a prior probability of spoof."""
    return expit(float(logit(prior_spoof)) - np.asarray(llr, np.float64))


def _region(bonafide: Floats, spoof: Floats, max_error: float) -> dict[str, float]:
    """Bounds: at most `max_error` of the bona fide lie at or below the one, and of the spoofs at or above the other.

    Where these cross, any value between them errs less than asked: the best, llr 0, or the nearest to it, serves as both.
    """
    lower, upper = _below(bonafide, max_error), -_below(-spoof, max_error)
    if lower > upper:
        lower = upper = float(np.clip(0.0, upper, lower))
    return {"spoof_below": lower, "bonafide_above": upper}


def _below(scores: Floats, share: float) -> float:
    """Greatest bound at or below which at most `share` of the scores lie."""
    ranked = np.sort(scores)
    return float(np.nextafter(ranked[int(share * len(ranked))], -np.inf))
