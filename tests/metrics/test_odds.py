import numpy as np
import pytest
import scipy.special

from earmark.metrics import odds

VALUES = np.array([[-900.0, -30.0, 0.0, 1e-9, 30.0], [900.0, 900.0, -900.0, 3.0, 2.0]])


def test_they_agree_with_scipy_where_numbers_are_large_too():
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(odds.expit(VALUES), scipy.special.expit(VALUES), rtol=1e-13)
        np.testing.assert_allclose(odds.logsumexp(VALUES, axis=1), scipy.special.logsumexp(VALUES, axis=1), rtol=1e-13)
        np.testing.assert_allclose(odds.softmax(VALUES, axis=1), scipy.special.softmax(VALUES, axis=1), rtol=1e-12)
    shares = np.array([1e-12, 0.05, 0.5, 1 - 1e-12])
    np.testing.assert_allclose(odds.logit(shares), scipy.special.logit(shares), rtol=1e-12)
    assert odds.logit(0.5) == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_may_be_kept(axis):
    kept = odds.logsumexp(VALUES, axis, keepdims=True)
    np.testing.assert_array_equal(kept.squeeze(axis), odds.logsumexp(VALUES, axis))
