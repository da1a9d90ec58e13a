import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from earmark.networks.gmm import Mixtures
from earmark.params import GmmParams

PARAMS = GmmParams(components=3, frames=1000)


def frames(centre: float, count: int, seed: int) -> np.ndarray:
    """(count, 4) frames of three clusters, moved by `centre`."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 4)) + 6 * rng.integers(0, 3, (count, 1)) + centre


@pytest.fixture(scope="module")
def mixtures() -> Mixtures:
    parts = [frames(centre, 100, seed) for seed, centre in enumerate([0.0, 0.0, 1.5, 1.5])]
    return Mixtures.fit(parts, np.array([0, 0, 1, 1]), PARAMS, 688)


def score(mixtures: Mixtures, own: np.ndarray) -> np.ndarray:
    """(S,) of (F, 4) frames."""
    return mixtures(torch.from_numpy(own)[None])[0].numpy()


def test_a_source_s_own_frames_are_likeliest_under_its_mixture(mixtures):
    assert score(mixtures, frames(0.0, 80, 9)).argmax() == 0
    assert score(mixtures, frames(1.5, 80, 9)).argmax() == 1


def test_a_score_is_the_mean_log_likelihood_ratio(mixtures):
    own = frames(0.7, 20, 5)

    def density(means: np.ndarray) -> np.ndarray:
        parts = [
            w * multivariate_normal(m, np.diag(v)).pdf(own) for w, m, v in zip(mixtures.weights, means, mixtures.variances, strict=True)
        ]
        return np.log(np.sum(parts, axis=0))

    expected = [(density(means) - density(mixtures.common)).mean() for means in mixtures.means]
    np.testing.assert_allclose(score(mixtures, own), expected, rtol=1e-9)


def test_adapted_means_lie_between_the_common_mixture_and_the_frames():
    parts = [frames(0.0, 60, 1), frames(2.0, 60, 2)]
    loose, firm = (Mixtures.fit(parts, np.array([0, 1]), PARAMS.model_copy(update={"relevance": r}), 0) for r in (1e-6, 1e9))
    np.testing.assert_allclose(firm.means, np.broadcast_to(firm.common, firm.means.shape), atol=1e-5)
    assert (loose.means[1] - loose.means[0]).abs().mean() > 0.5


def test_fewer_frames_than_components_still_make_a_mixture():
    found = Mixtures.fit([frames(0, 2, 0), frames(1, 2, 1)], np.array([0, 1]), PARAMS.model_copy(update={"components": 64}), 0)
    assert np.isfinite(score(found, frames(0, 5, 2))).all()
