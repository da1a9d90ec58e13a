import logging

import numpy as np
import pytest
from scipy.special import softmax

from earmark import InputError
from earmark.corpora.sources import UNSEEN
from earmark.ensemble.fusion import (
    Ensemble,
    conformal_level,
    cross_entropy,
    fit_weights,
    fuse_embeddings,
    fuse_logits,
    load,
    save,
    temperature,
)
from earmark.metrics.detection import auroc
from earmark.metrics.tracing import rejection_curve
from earmark.scoring.outputs import Output

SOURCES = ("a", "b", "c", "d")


def outputs(seed: int, labels: np.ndarray, noise: float = 1.0, sharpness: float = 1.0) -> Output:
    """A member that sees its sources through noise; an unseen source is seen as nothing but noise."""
    rng = np.random.default_rng(seed)
    embeddings = noise * rng.standard_normal((len(labels), 6))
    embeddings[labels != UNSEEN] += 3 * np.eye(6)[labels[labels != UNSEEN]]
    return Output(sharpness * 2 * embeddings[:, :4], embeddings)


def truth(seed: int, count: int, unseen: int = 0) -> np.ndarray:
    return np.concatenate([np.random.default_rng(seed).integers(0, 4, count), np.full(unseen, UNSEEN)])


def members(seed: int, labels: np.ndarray) -> dict[str, Output]:
    return {"good": outputs(seed, labels, 0.8), "poor": outputs(seed + 1, labels, 2.5, sharpness=4.0)}


TRAIN, DEV, EVAL = truth(0, 300), truth(1, 300, 80), truth(2, 4000, 400)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return Ensemble.fit(SOURCES, members(10, TRAIN), TRAIN, members(20, DEV), DEV)


def test_an_ensemble_names_known_sources_better_than_either_member_and_tells_unseen_ones(ensemble):
    found = members(30, EVAL)
    answer, known = ensemble.answer(found), EVAL != UNSEEN
    accuracy = {name: (output.logits[known].argmax(1) == EVAL[known]).mean() for name, output in found.items()}
    assert (answer.logits[known].argmax(1) == EVAL[known]).mean() >= max(accuracy.values())
    assert auroc(rejection_curve(answer.ood_score[known], answer.ood_score[~known])) > 0.9
    assert ((answer.ood_score > ensemble.threshold) == ~known).mean() > 0.85


def test_the_posterior_sums_to_one_and_rises_with_the_unseen_score(ensemble):
    answer = ensemble.answer(members(30, EVAL))
    np.testing.assert_allclose(answer.posterior.sum(1), 1)
    order = np.argsort(answer.ood_score)
    assert (np.diff(answer.posterior[order, -1]) >= -1e-12).all()


def test_conformal_sets_cover_known_sources_as_stated():
    """On their own, without the rejection, which takes some of them."""
    posterior = softmax(outputs(5, truth(3, 500), 2.0).logits, axis=1)
    level = conformal_level(posterior, truth(3, 500), 0.9)
    fresh = softmax(outputs(6, truth(4, 20_000), 2.0).logits, axis=1)
    covered = (fresh >= level)[np.arange(20_000), truth(4, 20_000)]
    assert covered.mean() == pytest.approx(0.9, abs=0.03)
    assert conformal_level(posterior[:5], truth(3, 500)[:5], 0.9) == 0  # five trials cannot promise 90 %


def test_sets_hold_what_the_joint_posterior_leaves_so_that_they_cover_known_sources_and_are_empty_for_most_unseen_ones(ensemble):
    answer, known = ensemble.answer(members(30, EVAL)), EVAL != UNSEEN
    assert answer.sets[known, EVAL[known]].mean() == pytest.approx(0.9, abs=0.05)
    assert (~answer.sets[~known].any(1)).mean() > 0.8
    assert np.array_equal(answer.sets, answer.posterior[:, :-1] >= ensemble.conformal)


def test_fused_embeddings_have_length_one_whatever_the_shares():
    found = members(1, TRAIN)
    for share in (0.0, 0.25, 1.0):
        fused = fuse_embeddings(found, {"good": share, "poor": 1 - share})
        np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1)
    zero = {"good": Output(np.zeros((1, 4)), np.zeros((1, 6)))}
    assert np.array_equal(fuse_embeddings(zero, {"good": 1.0}), np.zeros((1, 6)))


def test_the_temperature_undoes_a_scale():
    labels = truth(3, 4000)
    logits = outputs(7, labels).logits
    plain = temperature(logits, labels)
    assert temperature(5 * logits, labels) == pytest.approx(5 * plain, rel=1e-3)
    assert cross_entropy(logits / plain, labels) <= min(cross_entropy(logits / t, labels) for t in (0.8 * plain, 1.25 * plain))


def test_weights_are_the_best_of_a_fine_grid():
    labels = truth(3, 500)
    found = {"one": outputs(1, labels, 1.0), "other": outputs(2, labels, 1.4)}
    heat = {name: temperature(output.logits, labels) for name, output in found.items()}
    weights = fit_weights(found, heat, labels)
    assert sum(weights.values()) == pytest.approx(1)
    grid = [cross_entropy(fuse_logits(found, heat, {"one": w, "other": 1 - w}), labels) for w in np.linspace(0, 1, 101)]
    assert cross_entropy(fuse_logits(found, heat, weights), labels) <= min(grid) + 1e-4


def test_without_unseen_sources_in_dev_the_threshold_is_a_quantile_of_seen_scores_and_that_is_said(caplog):
    dev = truth(1, 300)
    with caplog.at_level(logging.WARNING):
        found = Ensemble.fit(SOURCES, members(10, TRAIN), TRAIN, members(20, dev), dev)
    assert "no unseen source" in caplog.text
    assert found.score == "nsd"
    assert (found.answer(members(20, dev)).ood_score > found.threshold).mean() == pytest.approx(0.05, abs=0.01)


def test_members_that_do_not_fit_together_are_refused(ensemble):
    found = members(30, EVAL)
    with pytest.raises(InputError, match="member poor has no output"):
        ensemble.answer({"good": found["good"]})
    with pytest.raises(InputError, match=r"members differ .*good 4400 × 4, poor 4400 × 3"):
        ensemble.answer(found | {"poor": Output(found["poor"].logits[:, :3], found["poor"].embeddings)})
    with pytest.raises(InputError, match="dev has no utterance of a known source"):
        Ensemble.fit(SOURCES, members(10, TRAIN), TRAIN, members(20, np.full(9, UNSEEN)), np.full(9, UNSEEN))


def test_an_ensemble_read_back_answers_the_same(ensemble, tmp_path):
    save(tmp_path / "ensemble.safetensors", ensemble)
    before, after = ensemble.answer(members(30, EVAL)), load(tmp_path / "ensemble.safetensors").answer(members(30, EVAL))
    assert np.array_equal(before.ood_score, after.ood_score)
    assert np.array_equal(before.posterior, after.posterior)
    assert np.array_equal(before.sets, after.sets)
