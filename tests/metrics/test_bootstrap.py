from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score, roc_curve

from earmark import InputError
from earmark.metrics import bootstrap, detection
from earmark.metrics.bootstrap import Clusters, difference, draws, interval, intervals
from earmark.metrics.detection import DetectionCurve, MissingKey, Ranked, TandemCost, eer

TANDEM = TandemCost(0.02, 0.9, 0.3)


def trials(rows=400, seed=0):
    generator = np.random.default_rng(seed)
    is_bonafide = generator.random(rows) < 0.3
    scores = np.round(generator.normal(size=rows) + 2 * is_bonafide, 1)  # rounded: ties
    return scores, is_bonafide, generator.integers(12, size=rows).astype(str), np.where(is_bonafide, None, generator.integers(7, size=rows))


def figures(ranked, weights=None):
    """Every figure of detection."""
    curve = ranked.curve(weights)
    return {
        "eer": detection.eer(curve),
        "min_dcf": detection.min_dcf(curve),
        "act_dcf": detection.act_dcf(curve),
        "at 1": detection.act_dcf(curve, threshold=1.0),
        "auroc": detection.auroc(curve),
        "tandem": TANDEM.least(curve.miss, curve.false_alarm),
        "cllr": detection.cllr(curve),
        "cllr_min": detection.min_cllr(curve),
    }


def of(scores, key):
    return partial(figures, Ranked.of(scores, key))


# trials of either key on a coarse grid, so that scores tie, each held so many times
weighted = st.lists(st.tuples(st.integers(-6, 6).map(float), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40)


def columns(rows):
    """(r,) scores, keys and weights, if either key is held."""
    scores, key, weights = (np.array(column) for column in zip(*rows, strict=True))
    assume(0 < weights[key].sum() < weights.sum())
    return scores, key, weights.astype(float)


def test_a_point_is_the_case_of_all_weights_one():
    scores, key, _, _ = trials()
    point = figures(Ranked.of(scores, key))
    assert figures(Ranked.of(scores, key), np.ones(len(scores))) == point
    assert figures(DetectionCurve.of(scores[key], scores[~key]).ranked) == pytest.approx(point, abs=1e-15)


def test_weights_count_like_repeated_trials():
    scores, key, _, _ = trials()
    weights = np.random.default_rng(1).integers(0, 4, size=len(scores))
    expected = of(np.repeat(scores, weights), np.repeat(key, weights))()
    assert figures(Ranked.of(scores, key), weights.astype(float)) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(weighted)
def test_weights_of_any_trials_count_like_repetition(rows):
    scores, key, weights = columns(rows)
    again = weights.astype(int)
    expected = of(np.repeat(scores, again), np.repeat(key, again))()
    assert figures(Ranked.of(scores, key), weights) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(weighted)
def test_figures_are_those_of_scikit_learn_s_weighted_curve(rows):
    scores, key, weights = columns(rows)
    found = figures(Ranked.of(scores, key), weights)
    false_alarm, hit, thresholds = roc_curve(key, scores, sample_weight=weights, drop_intermediate=False)
    miss = 1 - hit
    assert found["min_dcf"] == pytest.approx(np.min(1.9 * miss + false_alarm))
    assert found["tandem"] == pytest.approx(np.min(0.02 + 0.9 * miss + 0.3 * false_alarm) / 0.32)
    assert found["auroc"] == pytest.approx(roc_auc_score(key, scores, sample_weight=weights))
    at = np.flatnonzero(thresholds >= 1)[-1]  # accepted from a score of 1 on
    assert found["at 1"] == pytest.approx(1.9 * miss[at] + false_alarm[at])
    gaps = np.abs(miss - false_alarm)
    closest = np.flatnonzero(gaps < gaps.min() + 1e-9)  # where some are equally close, rounding may choose
    assert np.isclose(found["eer"], (miss[closest] + false_alarm[closest]) / 2).any()


@settings(deadline=None)
@given(weighted)
def test_cllr_is_its_formula_and_the_least_is_that_of_isotonic_regression(rows):
    scores, key, weights = columns(rows)
    found = figures(Ranked.of(scores, key), weights)

    def bits(llr):
        with np.errstate(divide="ignore"):
            losses = np.where(key, np.log2(1 + np.exp(-llr)), np.log2(1 + np.exp(llr)))
        held = weights > 0
        return sum(np.average(losses[part & held], weights=weights[part & held]) for part in (key, ~key)) / 2

    assert found["cllr"] == pytest.approx(bits(scores))
    share = IsotonicRegression(y_min=0, y_max=1).fit(scores, key, sample_weight=weights).predict(scores)
    with np.errstate(divide="ignore"):
        llr = np.log(share / (1 - share)) - np.log(weights[key].sum() / weights[~key].sum())
    assert found["cllr_min"] == pytest.approx(bits(llr), abs=1e-9)


def test_a_weight_is_speaker_times_source_and_bonafide_has_no_source():
    scores, key, speakers, sources = trials()
    weights = Clusters.of(key, speakers, sources).draw(np.random.default_rng(2))
    speaker, source = pd.factorize(speakers)[0], pd.factorize(sources)[0]
    generator = np.random.default_rng(2)
    by_speaker, by_source = bootstrap._multinomial(12, generator), bootstrap._multinomial(7, generator)
    assert by_speaker.sum() == 12
    assert by_source.sum() == 7
    for row in range(len(scores)):
        assert weights[row] == by_speaker[speaker[row]] * (1 if key[row] else by_source[source[row]])


def test_rows_without_speaker_are_clusters_of_their_own():
    _, key, _, _ = trials()
    some = Clusters.of(key, ["a", None] * 200)
    assert len(np.unique(some.speakers)) == 201
    nobody = Clusters.of(key)
    assert len(np.unique(nobody.speakers)) == 400


def test_interval_holds_the_figure_and_clusters_widen_it():
    scores, key, speakers, sources = trials(2000)
    scores = scores + np.random.default_rng(3).normal(scale=1.5, size=12)[speakers.astype(int)]
    figure = eer(DetectionCurve.of(scores[key], scores[~key]))
    plain = intervals(of(scores, key), Clusters.of(key), resamples=200)["eer"]
    clustered = intervals(of(scores, key), Clusters.of(key, speakers, sources), resamples=200)["eer"]
    assert plain[0] < figure < plain[1]
    assert clustered[0] < figure < clustered[1]
    assert clustered[1] - clustered[0] > 2 * (plain[1] - plain[0])


def test_every_interval_holds_its_figure():
    scores, key, speakers, sources = trials()
    found = intervals(of(scores, key), Clusters.of(key, speakers, sources), resamples=50, seed=3)
    for name, figure in figures(Ranked.of(scores, key)).items():
        assert found[name][0] < figure < found[name][1], name
    assert found["cllr_min"][1] < found["cllr"][1]


def test_seed_and_level_decide():
    scores, key, speakers, sources = trials()
    ask = partial(intervals, of(scores, key), Clusters.of(key, speakers, sources))
    assert ask(resamples=20, seed=5) == ask(resamples=20, seed=5)
    assert ask(resamples=20, seed=5) != ask(resamples=20, seed=6)
    wide, narrow = ask(resamples=100)["eer"], ask(resamples=100, level=0.5)["eer"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_one_key_alone_and_scores_that_are_no_numbers_are_refused():
    with pytest.raises(MissingKey, match="no spoofed trial: error rates need both keys"):
        Ranked.of([1.0, 2.0], [True, True]).curve()
    with pytest.raises(MissingKey, match="no bona fide trial: error rates need both keys"):
        Ranked.of([1.0, 2.0], [True, False]).curve(np.array([0.0, 2.0]))
    with pytest.raises(InputError, match="1 of 1 spoofed scores are NaN"):
        Ranked.of([1.0, np.nan], [True, False])


def test_a_resample_of_one_key_gives_nothing():
    scores, key = np.arange(4.0), np.array([True, True, False, False])
    clusters = Clusters.of(key, ["a", "a", "b", "b"])
    drawn = draws(of(scores, key), clusters, resamples=40)["eer"]
    assert 0 < np.isnan(drawn).sum() < 40
    assert np.isfinite(interval(drawn)).all()
    lone = next(seed for seed in range(20) if not draws(of(scores, key), clusters, resamples=1, seed=seed))
    assert intervals(of(scores, key), clusters, resamples=1, seed=lone) == {}


def test_paired_draws_are_the_differences_on_the_same_resamples():
    scores, key, speakers, sources = trials()
    other = scores + np.random.default_rng(9).normal(scale=0.3, size=len(scores))
    clusters = Clusters.of(key, speakers, sources)
    paired = draws(difference(of(scores, key), of(other, key)), clusters, resamples=20, seed=5)
    old, new = (draws(of(part, key), clusters, resamples=20, seed=5) for part in (scores, other))
    assert set(paired) == set(old)
    for name, drawn in paired.items():
        assert drawn == pytest.approx(new[name] - old[name], nan_ok=True)


def test_pairing_finds_a_small_gain_that_single_intervals_hide():
    scores, key, speakers, sources = trials(2000)
    better, clusters = scores + 0.15 * key, Clusters.of(key, speakers, sources)
    _, high = interval(draws(difference(of(scores, key), of(better, key)), clusters, resamples=200)["cllr"])
    assert high < 0
    one, two = (intervals(of(part, key), clusters, resamples=200)["cllr"] for part in (scores, better))
    assert two[1] > one[0]
    assert not any(draws(difference(of(scores, key), of(scores, key)), clusters, resamples=20)["eer"])


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(InputError, match="no resample holds trials of both kinds"):
        interval(np.full(5, np.nan))
