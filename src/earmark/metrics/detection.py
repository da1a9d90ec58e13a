"""Detection metrics, pure functions of score arrays. Orientation everywhere: a higher score is more bona fide.

Legend: n distinct scores, b bona fide trials, s spoofed trials.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark import InputError

Scores = NDArray[np.float64]


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
class DetectionCurve:
    """Error rates at every threshold that tells trials apart: three (n+1,) arrays, from one sort of all scores.

    A trial is accepted when its score lies above the threshold. Equal scores share one threshold, since none could part them, so the
    order of the trials never matters and a constant score has an EER of one half.
    """

    thresholds: Scores
    miss: Scores  # share of bona fide trials rejected, rising from 0 to 1
    false_alarm: Scores  # share of spoofed trials accepted, falling from 1 to 0

    @classmethod
    def of(cls, bonafide: ArrayLike, spoof: ArrayLike) -> Self:
        """Curve of (b,) and (s,) scores. Errors: InputError when a key has no trial or a score is not finite."""
        accepted, refused = check(bonafide, "bona fide"), check(spoof, "spoofed")
        scores = np.concatenate([accepted, refused])
        order = np.argsort(scores, kind="stable")
        thresholds = scores[order]
        is_bonafide = order < accepted.size
        last = np.flatnonzero(np.append(thresholds[1:] != thresholds[:-1], True))
        missed = np.cumsum(is_bonafide)[last]
        alarms = refused.size - (last + 1 - missed)
        return cls(
            np.concatenate([[thresholds[0] - 0.001], thresholds[last]]),
            np.concatenate([[0.0], missed / accepted.size]),
            np.concatenate([[1.0], alarms / refused.size]),
        )


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
        raise InputError(f"no {what} trial: error rates need both keys, bonafide and spoof")
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


def act_dcf(bonafide: ArrayLike, spoof: ArrayLike, costs: Costs = Costs(), threshold: float | None = None) -> float:
    """Detection cost at `threshold`; without one at the threshold that is right for log-likelihood ratios."""
    at = costs.bayes_threshold if threshold is None else threshold
    miss, false_alarm = costs.weights
    missed = np.mean(check(bonafide, "bona fide") < at)
    return float(miss * missed + false_alarm * np.mean(check(spoof, "spoofed") >= at))


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Cost of scores read as natural-log likelihood ratios, in bits; 1 = no information (Brümmer and du Preez 2006)."""
    missed = np.logaddexp(0, -check(bonafide, "bona fide")).mean()
    return float((missed + np.logaddexp(0, check(spoof, "spoofed")).mean()) / 2 / np.log(2))


def min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Least Cllr in bits that any rising calibration of these scores has: isotonic regression (Brümmer and du Preez 2006)."""
    from sklearn.isotonic import IsotonicRegression  # a second to import, for this figure alone

    accepted, refused = check(bonafide, "bona fide"), check(spoof, "spoofed")
    scores, key = np.concatenate([accepted, refused]), np.repeat([1.0, 0.0], [accepted.size, refused.size])
    share = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, key)
    odds = accepted.size / refused.size
    with np.errstate(divide="ignore"):
        missed, alarms = np.log1p((1 / share[: accepted.size] - 1) * odds), np.log1p(1 / ((1 / share[accepted.size :] - 1) * odds))
    return float((missed.mean() + alarms.mean()) / 2 / np.log(2))


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
