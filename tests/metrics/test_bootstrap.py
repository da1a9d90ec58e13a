import numpy as np
import pytest

from earmark import InputError
from earmark.metrics import bootstrap
from earmark.metrics.bootstrap import intervals
from earmark.metrics.detection import Costs, DetectionCurve, TandemCost, cllr, eer, min_dcf


def trials(rows=400, seed=0):
    generator = np.random.default_rng(seed)
    is_bonafide = generator.random(rows) < 0.3
    scores = np.round(generator.normal(size=rows) + 2 * is_bonafide, 1)  # rounded: ties
    return scores, is_bonafide, generator.integers(12, size=rows).astype(str), np.where(is_bonafide, None, generator.integers(7, size=rows))


def test_unit_weights_give_the_plain_figures():
    scores, key, speakers, sources = trials()
    ranked = bootstrap._sorted_trials(scores, key, speakers, sources)
    curve = DetectionCurve.of(scores[key], scores[~key])
    expected = (eer(curve), min_dcf(curve), cllr(scores[key], scores[~key]))
    assert bootstrap._figures(ranked, np.ones(len(scores)), Costs()) == pytest.approx(expected, abs=1e-12)


def test_weights_count_like_repeated_trials():
    scores, key, speakers, sources = trials()
    weights = np.random.default_rng(1).integers(0, 4, size=len(scores))
    again, label = np.repeat(scores, weights), np.repeat(key, weights)
    curve = DetectionCurve.of(again[label], again[~label])
    tandem = TandemCost(0.02, 0.9, 0.3)
    expected = (eer(curve), min_dcf(curve), cllr(again[label], again[~label]), tandem.least(curve.miss, curve.false_alarm))
    order = np.argsort(scores, kind="stable")
    ranked = bootstrap._sorted_trials(scores, key, speakers, sources)
    assert bootstrap._figures(ranked, weights[order].astype(float), Costs(), [tandem]) == pytest.approx(expected, abs=1e-12)


def test_a_weight_is_speaker_times_source_and_bonafide_has_no_source():
    scores, key, speakers, sources = trials()
    ranked = bootstrap._sorted_trials(scores, key, speakers, sources)
    weights = bootstrap.draw_weights(ranked.speakers, ranked.sources, np.random.default_rng(2))
    generator = np.random.default_rng(2)
    by_speaker, by_source = bootstrap._multinomial(12, generator), bootstrap._multinomial(7, generator)
    assert by_speaker.sum() == 12
    assert by_source.sum() == 7
    for row in range(len(scores)):
        factor = 1 if ranked.is_bonafide[row] else by_source[ranked.sources[row]]
        assert weights[row] == by_speaker[ranked.speakers[row]] * factor


def test_rows_without_speaker_are_clusters_of_their_own():
    scores, key, _, _ = trials()
    some = bootstrap._sorted_trials(scores, key, ["a", None] * 200, None)
    assert len(np.unique(some.speakers)) == 201
    nobody = bootstrap._sorted_trials(scores, key, None, None)
    assert len(np.unique(nobody.speakers)) == 400


def test_interval_holds_the_figure_and_clusters_widen_it():
    scores, key, speakers, sources = trials(2000)
    scores = scores + np.random.default_rng(3).normal(scale=1.5, size=12)[speakers.astype(int)]
    figure = eer(DetectionCurve.of(scores[key], scores[~key]))
    plain = intervals(scores, key, resamples=200)["eer"]
    clustered = intervals(scores, key, speakers, sources, resamples=200)["eer"]
    assert plain[0] < figure < plain[1]
    assert clustered[0] < figure < clustered[1]
    assert clustered[1] - clustered[0] > 2 * (plain[1] - plain[0])


def test_seed_decides():
    assert intervals(*trials(), resamples=20, seed=5) == intervals(*trials(), resamples=20, seed=5)
    assert intervals(*trials(), resamples=20, seed=5) != intervals(*trials(), resamples=20, seed=6)


def test_level_narrows():
    wide, narrow = intervals(*trials(), resamples=100)["eer"], intervals(*trials(), resamples=100, level=0.5)["eer"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_one_key_alone_is_refused():
    with pytest.raises(InputError, match="both keys"):
        intervals([1.0, 2.0], [True, True])


def test_paired_draws_are_the_differences_on_the_same_resamples():
    scores, key, speakers, sources = trials()
    other = scores + np.random.default_rng(9).normal(scale=0.3, size=len(scores))
    draws = bootstrap.paired_draws(scores, other, key, speakers, sources, resamples=20, seed=5)
    ranked = [bootstrap._sorted_trials(part, key, speakers, sources) for part in (scores, other)]
    for row in range(20):
        pair = []
        for part in ranked:
            generator = np.random.default_rng(5)
            for _ in range(row):
                bootstrap.draw_weights(part.speakers, part.sources, generator)
            pair.append(bootstrap._figures(part, bootstrap.draw_weights(part.speakers, part.sources, generator), Costs()))
        found = [draws[name][row] for name in bootstrap.FIGURES]
        assert found == pytest.approx(np.subtract(pair[1], pair[0]), nan_ok=True)


def test_pairing_finds_a_small_gain_that_single_intervals_hide():
    scores, key, speakers, sources = trials(2000)
    better = scores + 0.15 * key
    _, high = bootstrap.interval(bootstrap.paired_draws(scores, better, key, speakers, sources, resamples=200)["cllr"])
    assert high < 0
    one, two = (intervals(part, key, speakers, sources, resamples=200)["cllr"] for part in (scores, better))
    assert two[1] > one[0]
    assert not any(bootstrap.paired_draws(scores, scores, key, speakers, sources, resamples=20)["eer"])


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(InputError, match="no resample holds trials of both kinds"):
        bootstrap.interval(np.full(5, np.nan))
