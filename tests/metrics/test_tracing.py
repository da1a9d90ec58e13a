import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, recall_score, roc_auc_score

from earmark import InputError
from earmark.metrics import detection, tracing
from earmark.metrics.bootstrap import Clusters, difference, draws, interval, intervals
from earmark.metrics.detection import eer, eer_point
from earmark.metrics.tracing import Traced, auroc_by_source, classification_curve, identify, rejection_curve

coarse = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=30)
KNOWN, UNSEEN = ("a", "b", "c"), ("x", "y")
FIGURES = ("accuracy", "macro_f1", "auroc", "eer", "fpr95", "eer_classification", "oscr", "mean_auroc")


def auroc(seen, unseen):
    return detection.auroc(rejection_curve(seen, unseen))


def named_curve(seen, unseen, correct):
    """The curve of EERc and OSCR."""
    return classification_curve(rejection_curve(seen, unseen), np.concatenate([correct, np.zeros(len(unseen), bool)]))


def reject(seen, unseen, correct):
    truth = ["a"] * len(seen) + ["x"] * len(unseen)
    answer = ["a" if right else "b" for right in correct] + ["a"] * len(unseen)
    return Traced.of(truth, answer, [*seen, *unseen], [True] * len(seen) + [False] * len(unseen)).rejection()


def trials(rows=600, seed=0):
    """truth, answer, ood_score with ties, known, speakers."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([*KNOWN, *UNSEEN], rows)
    known = np.isin(truth, KNOWN)
    answer = np.where(known & (rng.random(rows) < 0.7), truth, rng.choice(KNOWN, rows))
    return truth, answer, np.round(rng.normal(size=rows) + 1.5 * ~known, 1), known, rng.integers(12, size=rows).astype(str)


def plain(truth, answer, scores, known):
    """Figures by their definitions, of trials that each count once."""
    named = identify(truth[known].tolist(), answer[known].tolist())
    seen, unseen, right = scores[known], scores[~known], (truth == answer)[known]
    curve, missing = rejection_curve(seen, unseen), named_curve(seen, unseen, right)
    each = [roc_auc_score(np.r_[known[known], truth[truth == source] != source], -np.r_[seen, scores[truth == source]])
            for source in np.unique(truth[~known])]  # fmt: skip
    rejection = detection.auroc(curve), eer(curve), tracing.false_positive_rate(curve), eer(missing), detection.auroc(missing)
    return dict(zip(FIGURES, (named.accuracy, named.macro_f1, *rejection, np.mean(each)), strict=True))


def ask(truth, answer, scores, known, speakers=None, **options):
    clusters = Clusters.of(np.zeros(len(truth), bool), speakers, list(truth))
    return intervals(Traced.of(truth, answer, scores, known).figures, clusters, **options)


@settings(deadline=None)
@given(coarse, coarse)
def test_auroc_is_sklearn_s_with_unseen_as_the_positive_class(seen, unseen):
    labels = np.repeat([0, 1], [len(seen), len(unseen)])
    assert auroc(seen, unseen) == pytest.approx(roc_auc_score(labels, seen + unseen))


@given(coarse, coarse)
def test_with_every_trial_named_rightly_oscr_is_the_auroc(seen, unseen):
    named = np.ones(len(seen), dtype=bool)
    assert detection.auroc(named_curve(seen, unseen, named)) == pytest.approx(auroc(seen, unseen))


@settings(deadline=None)
@given(coarse, coarse, st.randoms())
def test_eerc_and_oscr_are_their_definitions(seen, unseen, random):
    known, novel, right = np.array(seen), np.array(unseen), np.array([random.random() < 0.6 for _ in seen])
    found = reject(seen, unseen, right)
    steps = [-np.inf, *np.unique(seen + unseen)]  # taken for known up to here
    rightly = np.array([np.mean(right & (known <= step)) for step in steps])
    accepted = np.array([np.mean(novel <= step) for step in steps])
    assert found["oscr"] == pytest.approx(np.trapezoid(rightly, accepted))
    gaps = np.abs(1 - rightly - accepted)
    closest = np.flatnonzero(gaps < gaps.min() + 1e-9)  # where some are equally close, rounding may choose
    assert np.isclose(found["eer_classification"], (1 - rightly[closest] + accepted[closest]) / 2).any()


def test_two_hand_made_scores_tell_the_orientation():
    right, flipped = reject([0.0], [1.0], [True]), reject([1.0], [0.0], [True])
    assert [right[name] for name in ("auroc", "eer", "fpr95", "oscr")] == [1, 0, 0, 1]
    assert [flipped[name] for name in ("auroc", "eer", "fpr95", "oscr")] == [0, 1, 1, 0]


def test_fpr95_counts_unseen_trials_below_the_score_that_95_percent_of_known_ones_have():
    seen = np.arange(100.0)  # 95 % are at most 94
    assert reject(seen, [93.0, 94.0, 94.5, 200.0], np.ones(100))["fpr95"] == 0.5


def test_a_misnamed_known_trial_is_missed_at_every_threshold():
    seen, unseen = np.array([0.0, 0.1, 0.2, 0.3]), np.array([1.0, 1.1, 1.2, 1.3])
    half = np.array([True, True, False, False])
    assert eer(named_curve(seen, unseen, ~half | half)) == 0.0
    curve = named_curve(seen, unseen, half)
    assert eer(curve) == pytest.approx(0.5)
    assert (curve.miss[0], curve.false_alarm[0]) == (0.5, 1)  # all unseen accepted, half of the known missed: the curves meet
    assert detection.auroc(curve) == pytest.approx(0.5)


def test_curves_always_cross_since_nothing_or_everything_may_be_accepted():
    curve = named_curve([0.0], [1.0], np.array([False]))
    assert eer_point(curve)[0] == 1.0
    assert curve.miss.tolist() == [1, 1, 1]
    assert (curve.false_alarm[0], curve.false_alarm[-1]) == (1, 0)


def test_identification_is_over_the_sources_that_occur():
    found = identify(["a", "a", "b", "b"], ["a", "c", "b", "b"])
    assert found.accuracy == 0.75
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert found.per_source.set_index("source")["recall"].to_dict() == {"a": 0.5, "b": 1.0}
    assert found.confusion.loc["a", "c"] == 1
    assert found.confusion.to_numpy().sum() == 4


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_identification_is_scikit_learn_s(rows):
    truth, answer = (list(column) for column in zip(*rows, strict=True))
    found, sources = identify(truth, answer), sorted(set(truth))
    assert found.accuracy == np.mean(np.array(truth) == np.array(answer))
    assert found.macro_f1 == f1_score(truth, answer, labels=sources, average="macro", zero_division=0)
    assert found.per_source["source"].tolist() == sources
    assert found.per_source["trials"].tolist() == [truth.count(source) for source in sources]
    assert found.per_source["recall"].tolist() == list(recall_score(truth, answer, labels=sources, average=None, zero_division=0))
    names = sorted({*truth, *answer})
    assert found.confusion.index.tolist() == found.confusion.columns.tolist() == names
    np.testing.assert_array_equal(found.confusion, confusion_matrix(truth, answer, labels=names))


def test_a_point_is_the_case_of_all_weights_one():
    rows = trials()[:4]
    traced = Traced.of(*rows)
    assert traced.figures(np.ones(600)) == traced.figures()
    assert tuple(traced.figures()) == FIGURES
    assert traced.figures() == pytest.approx(plain(*rows), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_weights_count_like_repeated_trials(seed):
    rows = trials(200, seed)[:4]
    weights = np.random.default_rng(seed).integers(0, 4, 200) * ((seed < 2) | (rows[0] != "y"))  # from seed 2 on without a source
    repeated = [np.repeat(column, weights) for column in rows]
    found = Traced.of(*rows).figures(weights.astype(float))
    assert found == pytest.approx(plain(*repeated), abs=1e-12)
    assert found == pytest.approx(Traced.of(*repeated).figures(), abs=1e-12)


def test_areas_by_source_are_those_of_each_source_alone():
    truth, answer, scores, known, _ = trials()
    traced = Traced.of(truth, answer, scores, known)
    table = traced.per_unseen()
    assert table["source"].tolist() == list(UNSEEN)
    assert table["trials"].tolist() == [np.count_nonzero(truth == source) for source in UNSEEN]
    assert table["auroc"].tolist() == pytest.approx([auroc(scores[known], scores[truth == source]) for source in UNSEEN])
    assert np.isnan(auroc_by_source(traced.ranked.curve(), traced.truth)[: len(KNOWN)]).all()


def test_an_interval_holds_its_figure_and_clusters_widen_it():
    truth, answer, scores, known, speakers = trials(3000)
    off = np.random.default_rng(3).normal(scale=1.5, size=12)[speakers.astype(int)]
    rows = truth, np.where((off > 0) & known, truth, answer), scores + off, known
    alone = ask(*rows, resamples=200)
    together = ask(*rows, speakers, resamples=200)
    for name, figure in plain(*rows).items():
        assert together[name][0] <= figure <= together[name][1], name
    narrow, wide = (np.diff(found["auroc"])[0] for found in (alone, together))
    assert wide > 1.5 * narrow


def test_with_known_sources_alone_they_are_only_named():
    truth, answer, scores, known, speakers = (column[trials()[3]] for column in trials())
    assert set(ask(truth, answer, scores, known, speakers, resamples=20)) == {"accuracy", "macro_f1"}
    assert ask(truth, answer, scores, ~known, speakers, resamples=20) == {}


def test_a_side_without_trials_has_no_figure():
    traced = Traced.of(["a", "a", "x", "x"], ["a"] * 4, np.arange(4.0), [True, True, False, False])
    assert set(traced.figures(np.array([1.0, 1.0, 0.0, 0.0]))) == {"accuracy", "macro_f1"}
    assert traced.figures(np.array([0.0, 0.0, 1.0, 1.0])) == {}


def test_seed_and_level_decide():
    rows = trials()
    assert ask(*rows, resamples=20, seed=5) == ask(*rows, resamples=20, seed=5)
    assert ask(*rows, resamples=20, seed=5) != ask(*rows, resamples=20, seed=6)
    wide, narrow = ask(*rows, resamples=100)["eer"], ask(*rows, resamples=100, level=0.5)["eer"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_better_tracer_is_told_and_the_same_one_twice_is_not():
    rng = np.random.default_rng(1)
    known, speakers, sources = np.arange(600) % 2 == 0, rng.integers(20, size=600), rng.integers(8, size=600)
    noise = rng.normal(size=600)
    weak = rng.random(600) < 0.6, noise + ~known
    strong = weak[0] | (rng.random(600) < 0.5), noise + 2.0 * ~known
    first, second = (Traced.of(sources, np.where(right, sources, 8), scores, known).figures for right, scores in (weak, strong))
    clusters = Clusters.of(np.zeros(600, bool), list(speakers), list(sources))
    drawn = draws(difference(first, second), clusters, resamples=100, seed=3)
    assert all(interval(drawn[figure])[0] > 0 for figure in ("accuracy", "auroc"))
    same = draws(difference(first, first), clusters, resamples=20)
    assert not any(same["accuracy"])
    assert not any(same["auroc"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: identify([], []), "0 trials"),
        (lambda: identify(["a"], []), "1 trials of known sources and 0 answers"),
        (lambda: rejection_curve([], [1.0]), "no known-source trial"),
        (lambda: rejection_curve([np.nan], [1.0]), "1 of 1 known-source scores are NaN"),
        (lambda: Traced.of(["a"] * 2, ["a"], [0.0, 1.0], [True, False]), "2 scores, 2 sources, 1 answers, 2 marks"),
        (lambda: Traced.of(["a"] * 2, ["a"] * 2, [0.0, np.nan], [True, False]), "1 of 2 traced scores are NaN"),
        (lambda: Traced.of([], [], [], []), "no traced trial"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
