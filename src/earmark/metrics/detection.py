"""Detection metrics, each defined once, on a curve. Orientation everywhere: a higher score is more bona fide.

A curve is of all trials, or of those that a resample of the bootstrap holds: a trial of weight k counts as k trials.

Legend: r trials, n distinct scores, b bona fide trials, s spoofed trials.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark import InputError

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]


class MissingKey(InputError):
    """No trial of one of the two keys: error rates need both."""

    @classmethod
    def of(cls, what: str) -> Self:
        """Say which."""
        return cls(f"no {what} trial: error rates need both keys, bonafide and spoof")


@dataclass(frozen=True)
class Costs:
    """Prior of a spoof and the two costs of METHODS section 3 (ASVspoof 5 evaluation plan)."""

    p_spoof: float = 0.05
    c_miss: float = 1.0
    c_fa: float = 10.0

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of the miss and of the false-alarm rate, normalised by the cheaper of accepting or refusing everything."""
        miss, false_alarm = self.c_miss * (1 - self.p_spoof), self.c_fa * self.p_spoof
        default = min(miss, false_alarm)
        return miss / default, false_alarm / default

    @property
    def bayes_threshold(self) -> float:
        """Threshold −ln β that is best for scores that are log-likelihood ratios."""
        return -float(np.log(self.c_miss * (1 - self.p_spoof) / (self.c_fa * self.p_spoof)))


@dataclass(frozen=True)
class TandemCosts:
    """Priors and costs of spoofing countermeasure and speaker verification in tandem (ASVspoof 2019 and 2021 evaluation plans)."""

    p_spoof: float = 0.05
    p_target: float = (1 - 0.05) * 0.99
    p_nontarget: float = (1 - 0.05) * 0.01
    c_miss: float = 1.0
    c_fa: float = 10.0
    c_fa_spoof: float = 10.0
    c_miss_cm: float = 1.0  # the legacy form alone prices the countermeasure's errors by themselves
    c_fa_cm: float = 10.0


@dataclass(frozen=True)
class Ranked:
    """Trials sorted once by score, so that each curve of them costs one pass."""

    scores: Scores  # (r,) in the order of the trials
    is_bonafide: NDArray[np.bool_]  # (r,)
    order: Rows  # (r,) trials by rising score
    last: Rows  # (n,) place in that order of the last trial of each distinct score
    thresholds: Scores  # (n+1,) one below all scores, then each distinct score

    @classmethod
    def of(cls, scores: ArrayLike, is_bonafide: ArrayLike) -> Self:
        """(r,) scores and keys. Errors: InputError when there is no score, or one is not finite."""
        array, key = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(is_bonafide, dtype=bool)
        if array.size == 0 or not np.isfinite(array).all():
            for what, rows in (("bona fide", key), ("spoofed", ~key)):
                check(array[rows], what)
        order = np.argsort(array, kind="stable")
        rising = array[order]
        last = np.flatnonzero(np.append(rising[1:] != rising[:-1], True))
        return cls(array, key, order, last, np.append(rising[0] - 0.001, rising[last]))

    def curve(self, weights: Scores | None = None) -> "DetectionCurve":
        """Curve of all trials, or of a resample that holds each trial as often as its weight (r,) says.

        Errors: MissingKey when no trial of a key is held.
        """
        held = np.ones(len(self.scores)) if weights is None else weights
        rising = held if weights is None else held.take(self.order)
        rejected = self.up_to(rising * self.rising)
        spoof = self.up_to(rising) - rejected
        for what, mass in (("bona fide", rejected[-1]), ("spoofed", spoof[-1])):
            if mass == 0:
                raise MissingKey.of(what)
        return DetectionCurve(self, held, rejected, spoof[-1] - spoof)

    def up_to(self, weights: Scores) -> Scores:
        """(r,) weights by rising score → (n+1,) their sums over the trials at or below each threshold."""
        return np.append(0.0, np.cumsum(weights).take(self.last))

    @cached_property
    def rising(self) -> NDArray[np.bool_]:
        """(r,) keys by rising score: whether a trial is bona fide."""
        return self.is_bonafide[self.order]

    @cached_property
    def step(self) -> Rows:
        """(r,) number of each trial's score among the distinct ones."""
        return np.searchsorted(self.thresholds[1:], self.scores)

    @cached_property
    def losses(self) -> tuple[tuple[Rows, Scores], tuple[Rows, Scores]]:
        """Trials of either key, bona fide first, and each one's part of Cllr in nats."""
        bonafide, spoof = np.flatnonzero(self.is_bonafide), np.flatnonzero(~self.is_bonafide)
        return (bonafide, np.logaddexp(0, -self.scores[bonafide])), (spoof, np.logaddexp(0, self.scores[spoof]))


@dataclass(frozen=True)
class DetectionCurve:
    """Error rates at every threshold that tells trials apart.

    A trial is accepted when its score lies above the threshold. Equal scores share one threshold, since none could part them, so the
    order of the trials never matters and a constant score has an EER of one half.
    """

    ranked: Ranked
    weights: Scores  # (r,) how often each trial is held
    rejected: Scores  # (n+1,) weight of the bona fide trials at or below each threshold, rising from 0
    accepted: Scores  # (n+1,) weight of the spoofed trials above each threshold, falling to 0

    @classmethod
    def of(cls, bonafide: ArrayLike, spoof: ArrayLike) -> "DetectionCurve":
        """Curve of (b,) and (s,) scores. Errors: InputError when a key has no trial or a score is not finite."""
        both = np.ravel(bonafide), np.ravel(spoof)
        return Ranked.of(np.concatenate(both), np.repeat([True, False], [len(part) for part in both])).curve()

    @property
    def thresholds(self) -> Scores:
        """(n+1,) rising."""
        return self.ranked.thresholds

    @cached_property
    def miss(self) -> Scores:
        """(n+1,) share of bona fide trials rejected, rising from 0 to 1."""
        return self.rejected / self.rejected[-1]

    @cached_property
    def false_alarm(self) -> Scores:
        """(n+1,) share of spoofed trials accepted, falling from 1 to 0."""
        return self.accepted / self.accepted[0]


@dataclass(frozen=True)
class AsvScores:
    """Scores of a speaker verifier on its target, nontarget and spoofed trials; a higher score is more the claimed speaker."""

    target: Scores
    nontarget: Scores
    spoof: Scores

    def error_rates(self) -> tuple[float, float, float]:
        """Target misses, nontarget acceptances and spoof acceptances, at the verifier's own EER threshold."""
        threshold = eer_point(DetectionCurve.of(self.target, self.nontarget))[1]
        spoof = check(self.spoof, "spoofed verification")
        return float(np.mean(self.target < threshold)), float(np.mean(self.nontarget >= threshold)), float(np.mean(spoof >= threshold))


@dataclass(frozen=True)
class TandemCost:
    """Cost of countermeasure and verifier together, of the countermeasure's error rates: always + miss · Pmiss + false_alarm · Pfa."""

    always: float
    miss: float
    false_alarm: float

    def __post_init__(self) -> None:
        """Errors: InputError when deciding without looking costs nothing, or gains."""
        if min(self.miss, self.false_alarm) < 0 or self.default == 0:
            raise InputError("min t-DCF is undefined with these verification scores: check labels, and that higher is the claimed speaker")

    @property
    def default(self) -> float:
        """Cost of deciding without looking."""
        return self.always + min(self.miss, self.false_alarm)

    def least(self, miss: Scores, false_alarm: Scores) -> float:
        """Least cost over the thresholds of both rates (n+1,), 1 = deciding without looking."""
        return float(np.min(self.always + self.miss * miss + self.false_alarm * false_alarm) / self.default)


def check(scores: ArrayLike, what: str) -> Scores:
    """Scores as a flat float64 array. Errors: InputError when there is none, or one is NaN or infinite."""
    array = np.asarray(scores, dtype=np.float64).ravel()
    if array.size == 0:
        raise MissingKey.of(what)
    if not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise InputError(f"{bad} of {array.size} {what} scores are NaN or infinite: score those trials again")
    return array


def eer_point(curve: DetectionCurve) -> tuple[float, float]:
    """Equal error rate and its threshold: mean of both rates where they are closest (ASVspoof 5 evaluation plan)."""
    at = int(np.argmin(np.abs(curve.miss - curve.false_alarm)))
    return float((curve.miss[at] + curve.false_alarm[at]) / 2), float(curve.thresholds[at])


def eer(curve: DetectionCurve) -> float:
    """Equal error rate, a fraction."""
    return eer_point(curve)[0]


def min_dcf(curve: DetectionCurve, costs: Costs = Costs()) -> float:
    """Detection cost at the best threshold, 1 = deciding without looking (ASVspoof 5 evaluation plan)."""
    miss, false_alarm = costs.weights
    return float(np.min(miss * curve.miss + false_alarm * curve.false_alarm))


def act_dcf(curve: DetectionCurve, costs: Costs = Costs(), threshold: float | None = None) -> float:
    """Detection cost of accepting from `threshold` on; without one from where it is right for log-likelihood ratios."""
    at = np.searchsorted(curve.thresholds[1:], costs.bayes_threshold if threshold is None else threshold)
    miss, false_alarm = costs.weights
    return float(miss * curve.miss[at] + false_alarm * curve.false_alarm[at])


def cllr(curve: DetectionCurve) -> float:
    """Cost of scores read as natural-log likelihood ratios, in bits; 1 = no information (Brümmer and du Preez 2006)."""
    held = curve.rejected[-1], curve.accepted[0]
    missed, alarms = (
        np.sum(curve.weights.take(rows) * losses) / mass for (rows, losses), mass in zip(curve.ranked.losses, held, strict=True)
    )
    return float((missed + alarms) / 2 / np.log(2))


def min_cllr(curve: DetectionCurve) -> float:
    """Least Cllr in bits that any rising calibration of these scores has: isotonic regression (Brümmer and du Preez 2006)."""
    from scipy.optimize import isotonic_regression  # of no use to a verdict, which would wait for scipy to load
    from scipy.special import xlogy

    bonafide, spoof = np.diff(curve.rejected) / curve.rejected[-1], -np.diff(curve.accepted) / curve.accepted[0]
    held = np.flatnonzero(bonafide + spoof)
    bonafide, spoof = bonafide[held], spoof[held]
    mass = bonafide + spoof
    pooled = isotonic_regression(bonafide / mass, weights=mass).blocks[:-1]
    bonafide, spoof, mass = (np.add.reduceat(part, pooled) for part in (bonafide, spoof, mass))
    return float(-np.sum(xlogy(bonafide, bonafide / mass) + xlogy(spoof, spoof / mass)) / np.log(4))


def auroc(curve: DetectionCurve) -> float:
    """Probability that a bona fide trial scores above a spoofed one, ties counting half; .5 = no information (Hanley and McNeil 1982)."""
    return float(np.trapezoid((1 - curve.miss)[::-1], curve.false_alarm[::-1]))


def tandem_legacy(asv: AsvScores, costs: TandemCosts = TandemCosts()) -> TandemCost:
    """Tandem cost in the form of ASVspoof 2019 (Kinnunen et al., Odyssey 2018); its least value is the min t-DCF.

    Errors: InputError when the verifier is so poor that the form's constants turn negative.
    """
    asv_miss, asv_fa, asv_spoof_fa = asv.error_rates()
    miss = costs.p_target * (costs.c_miss_cm - costs.c_miss * asv_miss) - costs.p_nontarget * costs.c_fa * asv_fa
    return TandemCost(0.0, miss, costs.c_fa_cm * costs.p_spoof * asv_spoof_fa)


def tandem_2021(asv: AsvScores, costs: TandemCosts = TandemCosts()) -> TandemCost:
    """Tandem cost in the form of ASVspoof 2021, with the verifier's own cost C0 (Kinnunen et al., TASLP 2020).

    Errors: as `tandem_legacy`.
    """
    asv_miss, asv_fa, asv_spoof_fa = asv.error_rates()
    verifier = costs.p_target * costs.c_miss * asv_miss + costs.p_nontarget * costs.c_fa * asv_fa
    return TandemCost(verifier, costs.p_target * costs.c_miss - verifier, costs.p_spoof * costs.c_fa_spoof * asv_spoof_fa)
