"""Fréchet distance between two sets of embeddings. Shapes: N utterances, E embedding."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark import InputError

Matrix = NDArray[np.float64]


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """(N, E), (M, E) → ‖μ_A − μ_B‖² + Tr(S_A + S_B − 2 (S_A S_B)^½) of the Gaussians fitted to both (Dowson and Landau 1982).

    Covariances may be singular. Errors: InputError when a set has fewer than two rows, a value is not finite, or widths differ.
    """
    first, second = _check(a, "first"), _check(b, "second")
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"embeddings of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared: embed both sets with one model"
        )
    apart = float(np.sum(np.square(first.mean(0) - second.mean(0))))
    covariances = _covariance(first), _covariance(second)
    spread = sum(float(np.trace(covariance)) for covariance in covariances)
    return max(apart + spread - 2 * root_trace(*covariances), 0.0)


def root_trace(a: Matrix, b: Matrix) -> float:
    """Tr((A B)^½) of symmetric positive semi-definite (E, E) matrices.

    A B has the eigenvalues of the symmetric A^½ B A^½, so that no root of an unsymmetric matrix is needed.
    """
    values, vectors = np.linalg.eigh(a)
    half = vectors * np.sqrt(np.clip(values, 0, None))
    return float(np.sqrt(np.clip(np.linalg.eigvalsh(half.T @ b @ half), 0, None)).sum())


def _covariance(embeddings: Matrix) -> Matrix:
    centred = embeddings - embeddings.mean(0)
    return centred.T @ centred / (len(embeddings) - 1)


def _check(embeddings: ArrayLike, which: str) -> Matrix:
    array = np.asarray(embeddings, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise InputError(f"the {which} set has {len(array)} embeddings: a Fréchet distance needs at least two in either")
    if not np.isfinite(array).all():
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(array).all(1))} embeddings of the {which} set are NaN or infinite: embed them again"
        )
    return array
