import numpy as np
import pytest
from scipy.special import logsumexp

from earmark import InputError
from earmark.ensemble import unseen
from earmark.ensemble.unseen import SCORES, Bank, mahalanobis, nearest, nsd, unit
from earmark.metrics.detection import auroc
from earmark.metrics.tracing import rejection_curve


def clouds(seed: int, centres: np.ndarray, each: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, embeddings and labels of sources as clouds; a logit is the embedding's product with the source's centre."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(centres)), each)
    embeddings = 4 * centres[labels] + 0.5 * rng.standard_normal((len(labels), centres.shape[1]))
    return embeddings @ CENTRES.T, embeddings, labels


CENTRES = np.eye(6)[:3] + 0.2
STRANGE = -np.ones((1, 6)) / 3


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.fit(*clouds(0, CENTRES))


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_higher_for_a_source_never_seen(bank, name):
    seen, unseen = (SCORES[name](bank, *clouds(1, centres)[:2]) for centres in (CENTRES, STRANGE))
    assert seen.shape == (180,)
    assert auroc(rejection_curve(seen, unseen)) > 0.97


def test_nsd_is_the_mean_of_all_pairs(bank):
    logits, embeddings, _ = clouds(0, CENTRES)
    mine, own = clouds(2, CENTRES, 4)[:2]
    pairs = [
        [e * e_i * (f @ f_i) for e_i, f_i in zip(logsumexp(logits, axis=1), unit(embeddings), strict=True)]
        for e, f in zip(logsumexp(mine, axis=1), unit(own), strict=True)
    ]
    np.testing.assert_allclose(nsd(bank, mine, own), -np.mean(pairs, axis=1), rtol=1e-12)


def test_the_nearest_neighbour_is_that_of_a_full_search(bank):
    own, everyone = clouds(3, CENTRES, 5)[1], clouds(0, CENTRES)[1]
    assert len(bank.units) == len(everyone)
    distances = np.sort(np.linalg.norm(unit(own)[:, None] - unit(everyone)[None], axis=-1), axis=1)
    np.testing.assert_allclose(nearest(bank, own, own, neighbours=5), distances[:, 4], atol=1e-4)
    np.testing.assert_allclose(nearest(bank, own, own, neighbours=10_000), distances[:, -1], atol=1e-4)


def test_neighbours_are_sought_among_a_sample_of_every_source(monkeypatch):
    monkeypatch.setattr(unseen, "NEIGHBOURS", 12)
    logits, embeddings, labels = clouds(0, CENTRES)
    found = Bank.fit(logits, embeddings, labels)
    sources = [np.flatnonzero((np.abs(unit(embeddings) - row) < 1e-6).all(1))[0] // 60 for row in found.units]
    assert sorted(sources) == [0] * 4 + [1] * 4 + [2] * 4


def test_mahalanobis_is_the_least_of_the_quadratic_forms(bank):
    own = clouds(4, CENTRES, 5)[1]
    apart = own[:, None] - bank.means[None]
    np.testing.assert_allclose(mahalanobis(bank, own, own), np.einsum("nse,ef,nsf->ns", apart, bank.precision, apart).min(1), rtol=1e-9)


@pytest.mark.parametrize("name", SCORES)
def test_embeddings_of_zero_norm_and_singular_covariances_give_finite_scores(name):
    embeddings, labels = np.zeros((6, 40)), np.array([0, 0, 0, 1, 1, 1])
    embeddings[3:, 0] = 1
    bank = Bank.fit(np.eye(2)[labels], embeddings, labels)
    assert np.isfinite(SCORES[name](bank, np.zeros((3, 2)), np.stack([np.zeros(40), np.ones(40), embeddings[3]]))).all()


def test_what_is_not_finite_or_lacks_utterances_is_refused(bank):
    logits, embeddings, labels = clouds(0, CENTRES)
    with pytest.raises(InputError, match="embeddings of 1 utterances are NaN"):
        nsd(bank, logits[:2], np.stack([embeddings[0], np.full(6, np.nan)]))
    with pytest.raises(InputError, match="number 2 have no training utterance"):
        Bank.fit(logits[:120], embeddings[:120], labels[:120])
