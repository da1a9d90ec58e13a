"""Probabilities and their logarithms, in numpy alone: every verdict would wait for scipy.special to load."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def logit(probability: ArrayLike) -> Floats:
    """Log-odds: p → ln(p / (1 − p))."""
    share = np.asarray(probability, np.float64)
    return np.log(share) - np.log1p(-share)


def expit(log_odds: ArrayLike) -> Floats:
    """Inverse of `logit`; no value overflows."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(log_odds, np.float64)))


def logsumexp(values: ArrayLike, axis: int, keepdims: bool = False) -> Floats:
    """ln Σ exp along an axis; no value overflows."""
    return np.logaddexp.reduce(np.asarray(values, np.float64), axis=axis, keepdims=keepdims)


def softmax(values: ArrayLike, axis: int) -> Floats:
    """exp(x) / Σ exp(x) along an axis."""
    return np.exp(np.asarray(values, np.float64) - logsumexp(values, axis, keepdims=True))
