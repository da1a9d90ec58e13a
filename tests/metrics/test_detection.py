import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from earmark import InputError
from earmark.metrics import detection
from earmark.metrics.detection import AsvScores, Costs, DetectionCurve, eer, eer_point, min_dcf, tandem_2021, tandem_legacy

# a coarse grid, so that ties within and between the keys come up often
coarse = st.lists(st.integers(-8, 8).map(float), min_size=1, max_size=40)


def act_dcf(bonafide, spoof, *, threshold=None):
    return detection.act_dcf(DetectionCurve.of(bonafide, spoof), threshold=threshold)


def cllr(bonafide, spoof):
    return detection.cllr(DetectionCurve.of(bonafide, spoof))


def min_cllr(bonafide, spoof):
    return detection.min_cllr(DetectionCurve.of(bonafide, spoof))


@given(coarse, coarse)
def test_rank_metrics_ignore_strictly_increasing_transforms(bonafide, spoof):
    before = DetectionCurve.of(bonafide, spoof)
    after = DetectionCurve.of(np.exp(bonafide) + 3, np.exp(spoof) + 3)
    assert eer(before) == eer(after)
    assert min_dcf(before) == min_dcf(after)


@given(coarse, coarse)
def test_flipped_scores_have_the_complementary_eer(bonafide, spoof):
    curve = DetectionCurve.of(bonafide, spoof)
    gap = np.sort(np.abs(curve.miss - curve.false_alarm))
    assume(gap[1] - gap[0] > 1e-9)  # where two thresholds are equally close, the lower one counts in either orientation
    flipped = DetectionCurve.of(np.negative(bonafide), np.negative(spoof))
    assert eer(flipped) == pytest.approx(1 - eer(curve), abs=1e-12)


@given(coarse, coarse, st.randoms())
def test_order_of_tied_trials_changes_nothing(bonafide, spoof, random):
    expected = eer(DetectionCurve.of(bonafide, spoof))
    random.shuffle(bonafide)
    assert eer(DetectionCurve.of(bonafide, spoof)) == expected


@given(coarse, coarse)
def test_rates_are_counted_shares(bonafide, spoof):
    curve = DetectionCurve.of(bonafide, spoof)
    for threshold, miss, false_alarm in zip(curve.thresholds, curve.miss, curve.false_alarm, strict=True):
        assert miss == pytest.approx(np.mean(np.array(bonafide) <= threshold))
        assert false_alarm == pytest.approx(np.mean(np.array(spoof) > threshold))


def test_higher_score_is_more_bonafide():
    curve = DetectionCurve.of([2.0, 3.0], [-1.0, 0.0])
    assert eer(curve) == 0
    assert min_dcf(curve) == 0
    assert 0 <= eer_point(curve)[1] < 2
    assert eer(DetectionCurve.of([-1.0, 0.0], [2.0, 3.0])) == 1


def test_constant_score_knows_nothing():
    curve = DetectionCurve.of([1.0] * 5, [1.0] * 9)
    assert eer(curve) == 0.5
    assert min_dcf(curve) == 1
    assert cllr([0.0] * 5, [0.0] * 9) == 1


def test_hand_counted_eer():
    # thresholds 1 and 2 both leave a gap of a quarter; the lower one counts: (1/4 + 2/4) / 2
    assert eer(DetectionCurve.of([1.0, 4.0, 5.0, 6.0], [0.0, 0.5, 2.0, 3.0])) == 0.25
    assert eer(DetectionCurve.of([0.0, 2.0], [1.0])) == 0.75


def test_costs_are_those_of_the_evaluation_plan():
    assert Costs().bayes_threshold == pytest.approx(-0.641854, abs=5e-7)
    assert Costs().weights == pytest.approx((1.9, 1.0))
    assert act_dcf([-1.0, 0.0], [-1.0, 0.0]) == pytest.approx(1.9 / 2 + 1 / 2)
    assert act_dcf([-1.0, 0.0], [-1.0, 0.0], threshold=0.5) == pytest.approx(1.9)


def test_min_dcf_moves_with_its_costs():
    curve = DetectionCurve.of([0.0, 2.0], [1.0])
    assert min_dcf(curve) == pytest.approx(0.95)  # give up one bona fide trial of two
    assert min_dcf(curve, Costs(p_spoof=0.5, c_fa=1.0)) == pytest.approx(0.5)


def test_cllr_survives_huge_scores():
    assert cllr([1e4], [-1e4]) == 0
    assert cllr([-1e4], [1e4]) == pytest.approx(1e4 / np.log(2))


@given(coarse, coarse, st.floats(0.1, 4), st.floats(-3, 3))
def test_no_rising_calibration_beats_the_least_cllr(bonafide, spoof, slope, shift):
    least = min_cllr(bonafide, spoof)
    assert 0 <= least <= 1 + 1e-12
    assert least <= cllr(slope * np.array(bonafide) + shift, slope * np.array(spoof) + shift) + 1e-9


def test_least_cllr_by_hand():
    # two spoofs below one of either key: the upper pair has the odds 1 : 1/3, and costs bits; the lower pair costs nothing
    expected = (np.log2(1 + 1 / 3) + (np.log2(1 + 3) / 3)) / 2
    assert min_cllr([1.0], [0.0, 0.0, 1.0]) == pytest.approx(expected)
    assert min_cllr([0.0], [1.0]) == pytest.approx(1)


def test_tandem_costs_by_hand():
    asv = AsvScores(np.array([1.0, 2.0]), np.array([-1.0, -2.0]), np.array([1.5, -3.0]))
    assert asv.error_rates() == (0.0, 1 / 2, 1 / 2)  # its EER threshold is a nontarget's own score, which counts as accepted
    curve = DetectionCurve.of([0.0, 2.0], [1.0])
    c1, c2 = 0.9405 - 0.0095 * 10 / 2, 10 * 0.05 / 2
    assert tandem_legacy(asv).least(curve.miss, curve.false_alarm) == pytest.approx(min(c1 / 2, c2) / c2)
    c0 = 0.0095 * 10 / 2
    assert tandem_2021(asv).least(curve.miss, curve.false_alarm) == pytest.approx((c0 + min(c1 / 2, c2)) / (c0 + c2))


def test_useless_verifier_is_refused():
    asv = AsvScores(-np.arange(1.0, 51.0), np.array([1.0, 2.0]), np.array([9.0]))
    with pytest.raises(InputError, match="t-DCF is undefined"):
        tandem_legacy(asv)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_refused(bad):
    with pytest.raises(InputError, match="1 of 2 spoofed scores"):
        DetectionCurve.of([1.0], [bad, 0.0])
    with pytest.raises(InputError, match="1 of 2 bona fide scores"):
        cllr([bad, 0.0], [1.0])


def test_one_key_alone_is_refused():
    with pytest.raises(InputError, match="no spoofed trial"):
        DetectionCurve.of([1.0], [])
    with pytest.raises(InputError, match="no bona fide trial"):
        act_dcf([], [1.0])


def test_min_cllr_is_that_of_the_best_rising_calibration():
    rng = np.random.default_rng(0)
    bonafide, spoof = rng.normal(2, 2, 400), rng.normal(-2, 2, 3000)  # log-likelihood ratios as they are
    least = min_cllr(bonafide, spoof)
    assert least <= cllr(bonafide, spoof) < least + 0.05
    assert min_cllr(3 * bonafide - 7, 3 * spoof - 7) == pytest.approx(least)
    assert cllr(3 * bonafide - 7, 3 * spoof - 7) > least + 0.5
    assert min_cllr([1.0, 2.0], [-1.0, 0.0]) == 0
    assert min_cllr([0.0], [0.0, 0.0]) == pytest.approx(1)
