import numpy as np
import pytest

from earmark import InputError
from earmark.metrics import tracing_intervals
from earmark.metrics.tracing import auroc, identify, reject
from earmark.metrics.tracing_intervals import FIGURES
from earmark.metrics.tracing_intervals import tracing_intervals as intervals

KNOWN, UNSEEN = ("a", "b", "c"), ("x", "y")


def trials(rows=600, seed=0):
    """truth, answer, ood_score with ties, known, speakers."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([*KNOWN, *UNSEEN], rows)
    known = np.isin(truth, KNOWN)
    answer = np.where(known & (rng.random(rows) < 0.7), truth, rng.choice(KNOWN, rows))
    return truth, answer, np.round(rng.normal(size=rows) + 1.5 * ~known, 1), known, rng.integers(12, size=rows).astype(str)


def plain(truth, answer, scores, known):
    named = identify(truth[known].tolist(), answer[known].tolist())
    found = reject(scores[known], scores[~known], (truth == answer)[known])
    each = [auroc(scores[known], scores[truth == source]) for source in np.unique(truth[~known])]
    rejection = found.auroc, found.eer, found.fpr95, found.eer_classification, found.oscr
    return named.accuracy, named.macro_f1, *rejection, np.mean(each)


def weighted(weights, truth, answer, scores, known):
    ranked = tracing_intervals._sorted_trials(truth, answer, scores, known, None)
    return tracing_intervals._figures(ranked, weights[np.argsort(scores, kind="stable")].astype(float))


def test_unit_weights_give_the_plain_figures():
    rows = trials()[:4]
    assert weighted(np.ones(600), *rows) == pytest.approx(plain(*rows), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_weights_count_like_repeated_trials(seed):
    rows = trials(200, seed)[:4]
    weights = np.random.default_rng(seed).integers(0, 4, 200) * ((seed < 2) | (rows[0] != "y"))  # from seed 2 on without a source
    repeated = [np.repeat(column, weights) for column in rows]
    assert weighted(weights, *rows) == pytest.approx(plain(*repeated), abs=1e-12)


def test_an_interval_holds_its_figure_and_clusters_widen_it():
    truth, answer, scores, known, speakers = trials(3000)
    off = np.random.default_rng(3).normal(scale=1.5, size=12)[speakers.astype(int)]
    rows = truth, np.where((off > 0) & known, truth, answer), scores + off, known
    alone = intervals(*rows, resamples=200)
    together = intervals(*rows, speakers, resamples=200)
    for name, figure in zip(FIGURES, plain(*rows), strict=True):
        assert together[name][0] <= figure <= together[name][1], name
    narrow, wide = (np.diff(found["auroc"])[0] for found in (alone, together))
    assert wide > 1.5 * narrow


def test_with_known_sources_alone_they_are_only_named():
    truth, answer, scores, known, speakers = (column[trials()[3]] for column in trials())
    assert set(intervals(truth, answer, scores, known, speakers, resamples=20)) == {"accuracy", "macro_f1"}
    assert intervals(truth, answer, scores, ~known, speakers, resamples=20) == {}


def test_seed_and_level_decide():
    rows = trials()
    assert intervals(*rows, resamples=20, seed=5) == intervals(*rows, resamples=20, seed=5)
    assert intervals(*rows, resamples=20, seed=5) != intervals(*rows, resamples=20, seed=6)
    wide, narrow = intervals(*rows, resamples=100)["eer"], intervals(*rows, resamples=100, level=0.5)["eer"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_what_does_not_fit_is_refused():
    truth, answer, scores, known, _ = trials()
    with pytest.raises(InputError, match="600 scores, 600 sources, 599 answers, 600 marks"):
        intervals(truth, answer[:-1], scores, known)
    with pytest.raises(InputError, match="1 of 600 traced scores are NaN"):
        intervals(truth, answer, np.where(np.arange(600) == 3, np.nan, scores), known)
    with pytest.raises(InputError, match="no traced trial"):
        intervals([], [], [], [])
