import numpy as np
import pytest
from scipy.stats import norm

from earmark import InputError
from earmark.metrics import detection
from earmark.metrics.detection import DetectionCurve
from earmark.model.calibration import Calibration, probability_of_spoof

RNG = np.random.default_rng(0)
# scores whose log-likelihood ratio is known: unit normals at ±1 have llr 2·x, here stretched and shifted
TRUE = np.concatenate([RNG.normal(1, 1, 4000), RNG.normal(-1, 1, 1000)])
BONAFIDE = np.arange(5000) < 4000
SCORES = 5 * TRUE + 3
LOWEST = SCORES - 5 * RNG.random(5000)  # of an utterance's windows


def cllr(bonafide, spoof):
    return detection.cllr(DetectionCurve.of(bonafide, spoof))


def test_the_llr_is_that_of_the_distributions_whatever_the_share_of_keys():
    found = Calibration.fit(SCORES, LOWEST, BONAFIDE, 0.05)
    np.testing.assert_allclose(found.llr([3.0, 8.0]), [0, 2], atol=0.15)
    before, after = (cllr(x[BONAFIDE], x[~BONAFIDE]) for x in (SCORES, found.llr(SCORES)))
    assert after < 0.6 < before
    assert after == pytest.approx(cllr(2 * TRUE[BONAFIDE], 2 * TRUE[~BONAFIDE]), abs=0.01)


@pytest.mark.parametrize("error", [0.01, 0.05, 0.2])
def test_of_neither_key_more_is_decided_wrongly_than_asked(error):
    found = Calibration.fit(SCORES, LOWEST, BONAFIDE, error)
    decided = np.array([found.decide(value) for value in found.llr(SCORES)])
    wrong_bonafide, wrong_spoof = np.mean(decided[BONAFIDE] == "spoof"), np.mean(decided[~BONAFIDE] == "bonafide")
    assert error - 0.002 <= np.mean(found.llr(LOWEST)[BONAFIDE] <= found.part_below) <= error
    if error < norm.cdf(-1):
        assert error - 0.002 <= wrong_bonafide <= error
        assert error - 0.002 <= wrong_spoof <= error
        assert "inconclusive" in decided
    else:  # the best decision errs less than that
        assert found.spoof_below == found.bonafide_above == 0
        assert max(wrong_bonafide, wrong_spoof) <= error


def test_keys_that_dev_tells_apart_leave_nothing_inconclusive_and_a_finite_slope():
    found = Calibration.fit([-3, -2, -2.5, 2, 3, 4], [-3, -2, -2.5, 2, 3, 4], np.arange(6) > 2, 0.05)
    assert found.spoof_below == found.bonafide_above
    assert 0 < found.slope < 10
    assert [found.decide(x) for x in found.llr([-2, 2])] == ["spoof", "bonafide"]


def test_a_prior_moves_what_is_decided_and_how_probable_it_is():
    found = Calibration(1.0, 0.0, -1.0, 1.0, -2.0)
    assert [found.decide(1.5, prior) for prior in (0.5, 0.9, 0.99)] == ["bonafide", "inconclusive", "spoof"]
    assert probability_of_spoof(0.0, 0.3) == pytest.approx(0.3)
    assert probability_of_spoof(np.log(9), 0.5) == pytest.approx(0.1)
    assert np.all(np.diff(probability_of_spoof([-800, -1, 0, 1, 800], 0.2)) <= 0)


def test_flipped_scores_say_nothing(caplog):
    found = Calibration.fit(-SCORES, -SCORES, BONAFIDE, 0.05)
    assert set(found.llr(SCORES)) == {0.0}
    assert found.decide(0.0) == "inconclusive"
    assert "ranks spoofs above bona fide" in caplog.text


@pytest.mark.parametrize(
    ("scores", "keys", "message"), [([1, np.nan], [True, False], "1 scores of dev are NaN"), ([1, 2], [True, True], "one key")]
)
def test_unusable_scores_are_refused(scores, keys, message):
    with pytest.raises(InputError, match=message):
        Calibration.fit(scores, scores, keys, 0.05)
