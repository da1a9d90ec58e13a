import numpy as np
import pytest

from earmark.metrics.bootstrap import interval
from earmark.metrics.paired import Ranked, accuracy, tracing_draws
from earmark.metrics.tracing import auroc


def test_weights_count_like_repeated_trials():
    rng = np.random.default_rng(0)
    scores, known, right = np.round(rng.normal(size=200), 1), rng.random(200) < 0.6, rng.random(200) < 0.7
    weights = rng.integers(0, 4, size=200)
    again, seen = np.repeat(scores, weights), np.repeat(known, weights)
    assert Ranked(scores, known).auroc(weights.astype(float)) == pytest.approx(auroc(again[seen], again[~seen]))
    assert accuracy(right, known, weights.astype(float)) == pytest.approx(np.repeat(right, weights)[seen].mean())


def test_a_side_without_trials_has_no_figure():
    scores, known = np.arange(4.0), np.array([True, True, False, False])
    assert np.isnan(Ranked(scores, known).auroc(np.array([1.0, 1.0, 0.0, 0.0])))
    assert np.isnan(accuracy(known, known, np.array([0.0, 0.0, 1.0, 1.0])))


def test_the_better_tracer_is_told_and_the_same_one_twice_is_not():
    rng = np.random.default_rng(1)
    known, speakers, sources = np.arange(600) % 2 == 0, rng.integers(20, size=600), rng.integers(8, size=600)
    noise = rng.normal(size=600)
    weak = rng.random(600) < 0.6, noise + ~known
    strong = weak[0] | (rng.random(600) < 0.5), noise + 2.0 * ~known
    draws = tracing_draws(weak, strong, known, list(speakers), list(sources), resamples=100, seed=3)
    assert all(interval(draws[figure])[0] > 0 for figure in ("accuracy", "auroc"))
    same = tracing_draws(weak, weak, known, list(speakers), list(sources), resamples=20)
    assert not any(same["accuracy"])
    assert not any(same["auroc"])
