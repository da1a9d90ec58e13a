import numpy as np
import pytest
from scipy.linalg import sqrtm

from earmark import InputError
from earmark.metrics.frechet import frechet_distance, root_trace


def test_distance_of_diagonal_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((400, 5))
    base = np.linalg.qr(base - base.mean(0))[0] * np.sqrt(399)  # exactly white
    scale, shift = np.array([1, 2, 3, 4, 5.0]), np.array([3, 0, 0, 4, 0.0])
    expected = 25 + np.sum((scale - 1) ** 2)
    assert frechet_distance(base, base * scale + shift) == pytest.approx(expected, rel=1e-10)


def test_root_trace_equals_scipy_square_root_of_the_product():
    rng = np.random.default_rng(1)
    a, b = (np.cov(rng.standard_normal((90, 30)) @ rng.standard_normal((30, 30)), rowvar=False) for _ in range(2))
    assert root_trace(a, b) == pytest.approx(np.trace(sqrtm(a @ b)).real, rel=1e-6)


def test_distance_is_symmetric_zero_for_one_set_and_finite_for_singular_covariances():
    rng = np.random.default_rng(2)
    few = np.float32(rng.standard_normal((6, 40)))  # rank 5 of 40
    many = rng.standard_normal((50, 40))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, many) == pytest.approx(frechet_distance(many, few), rel=1e-6)
    assert frechet_distance(np.ones((3, 4)), np.zeros((3, 4))) == pytest.approx(4)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((1, 3)), np.ones((4, 3)), "first set has 1 embeddings"),
        (np.ones((4, 3)), np.full((4, 3), np.nan), "4 embeddings of the second set are NaN"),
        (np.ones((4, 3)), np.ones((4, 2)), "3 and of 2 dimensions"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(a, b, message):
    with pytest.raises(InputError, match=message):
        frechet_distance(a, b)
