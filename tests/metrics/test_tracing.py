import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from earmark import InputError
from earmark.metrics.tracing import auroc, classification_eer, identify, oscr, reject

coarse = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=30)


@given(coarse, coarse)
def test_auroc_is_sklearn_s_with_unseen_as_the_positive_class(seen, unseen):
    labels = np.repeat([0, 1], [len(seen), len(unseen)])
    assert auroc(seen, unseen) == pytest.approx(roc_auc_score(labels, seen + unseen))


@given(coarse, coarse)
def test_with_every_trial_named_rightly_oscr_is_the_auroc(seen, unseen):
    named = np.ones(len(seen), dtype=bool)
    assert oscr(np.array(seen), np.array(unseen), named) == pytest.approx(auroc(seen, unseen))


def test_two_hand_made_scores_tell_the_orientation():
    right, flipped = reject([0.0], [1.0], [True]), reject([1.0], [0.0], [True])
    assert (right.auroc, right.eer, right.fpr95, right.oscr) == (1, 0, 0, 1)
    assert (flipped.auroc, flipped.eer, flipped.fpr95, flipped.oscr) == (0, 1, 1, 0)


def test_fpr95_counts_unseen_trials_below_the_score_that_95_percent_of_known_ones_have():
    seen = np.arange(100.0)  # 95 % are at most 94
    assert reject(seen, [93.0, 94.0, 94.5, 200.0], np.ones(100)).fpr95 == 0.5


def test_a_misnamed_known_trial_is_missed_at_every_threshold():
    seen, unseen = np.array([0.0, 0.1, 0.2, 0.3]), np.array([1.0, 1.1, 1.2, 1.3])
    half = np.array([True, True, False, False])
    assert classification_eer(seen, unseen, ~half | half) == (0.0, True)
    rate, crosses = classification_eer(seen, unseen, half)
    assert rate == pytest.approx(0.5)
    assert crosses  # all unseen accepted, half of the known missed: the curves meet
    assert oscr(seen, unseen, half) == pytest.approx(0.5)


def test_curves_that_never_cross_are_said():
    rate, crosses = classification_eer(np.array([0.0]), np.array([1.0]), np.array([False]))
    assert (rate, crosses) == (1.0, True)
    assert reject([0.0, 0.0], [1.0], [False, True]).crosses


def test_identification_is_over_the_sources_that_occur():
    found = identify(["a", "a", "b", "b"], ["a", "c", "b", "b"])
    assert found.accuracy == 0.75
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert found.per_source.set_index("source")["recall"].to_dict() == {"a": 0.5, "b": 1.0}
    assert found.confusion.loc["a", "c"] == 1
    assert found.confusion.to_numpy().sum() == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: identify([], []), "0 trials"),
        (lambda: identify(["a"], []), "1 trials of known sources and 0 answers"),
        (lambda: reject([], [1.0], []), "no known-source trial"),
        (lambda: reject([np.nan], [1.0], [True]), "1 of 1 known-source scores are NaN"),
        (lambda: reject([0.0], [1.0], [True, False]), "1 known-source scores and 2 answers"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
