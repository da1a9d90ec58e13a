import numpy as np
import pytest

from earmark import InputError
from earmark.metrics import bootstrap, cost_intervals
from earmark.metrics.cost_intervals import decision_losses, information_losses
from earmark.metrics.detection import act_dcf, cllr, min_cllr


def trials(rows=400, seed=0):
    """scores with ties, keys, speakers, sources."""
    rng = np.random.default_rng(seed)
    key = rng.random(rows) < 0.3
    scores = np.round(rng.normal(size=rows) + 2 * key, 1)
    return scores, key, rng.integers(12, size=rows).astype(str), np.where(key, None, rng.integers(7, size=rows))


def losses(scores, key):
    return {
        "act_dcf": decision_losses(scores, key),
        "at 1": decision_losses(scores, key, threshold=1.0),
        "cllr": information_losses(scores, key),
    }


def plain(scores, key):
    both = scores[key], scores[~key]
    return act_dcf(*both), act_dcf(*both, threshold=1.0), cllr(*both), min_cllr(*both)


def weighted(scores, key, weights):
    ranked = cost_intervals._Ranked(scores, key)
    return cost_intervals._costs(np.stack([*losses(scores, key).values()]), ranked, key, weights.astype(float))


def test_unit_weights_give_the_plain_figures():
    scores, key, _, _ = trials()
    assert weighted(scores, key, np.ones(400)) == pytest.approx(plain(scores, key), abs=1e-9)


def test_weights_count_like_repeated_trials():
    scores, key, _, _ = trials()
    weights = np.random.default_rng(1).integers(0, 4, 400)
    assert weighted(scores, key, weights) == pytest.approx(plain(np.repeat(scores, weights), np.repeat(key, weights)), abs=1e-9)


def test_resamples_are_those_of_the_other_intervals():
    scores, key, speakers, sources = trials()
    found = cost_intervals.cost_intervals(scores, key, losses(scores, key), speakers, sources, resamples=50, seed=3)
    assert found["cllr"] == pytest.approx(bootstrap.intervals(scores, key, speakers, sources, resamples=50, seed=3)["cllr"])
    for figure, (low, high) in zip(plain(scores, key), found.values(), strict=True):
        assert low < figure < high
    assert found["cllr_min"][1] < found["cllr"][1]


def test_one_key_alone_and_scores_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="both keys"):
        cost_intervals.cost_intervals([1.0, 2.0], [True, True], {})
    with pytest.raises(InputError, match="1 of 2 scored scores are NaN"):
        cost_intervals.cost_intervals([1.0, np.nan], [True, False], {})
