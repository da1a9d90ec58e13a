"""Mahalanobis distance of embeddings to classes. Shapes: M fitted and N asked utterances, E embedding, S classes."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def within_classes(embeddings: Matrix, labels: NDArray[np.int64]) -> tuple[Matrix, Matrix]:
    """(M, E), (M,) numbers of S classes → means (S, E) and the inverse (E, E) of the covariance within classes."""
    from sklearn.covariance import LedoitWolf

    means = np.stack([embeddings[labels == number].mean(0) for number in range(labels.max() + 1)])
    # shrunk towards a sphere, so that few utterances or flat dimensions leave it invertible; the floor serves equal embeddings
    covariance = LedoitWolf(assume_centered=True).fit(embeddings - means[labels]).covariance_
    floor = max(float(np.trace(covariance)) / len(covariance), 1e-12) * 1e-6
    return means, np.linalg.inv(covariance + floor * np.eye(len(covariance)))


def squared_distance(embeddings: Matrix, means: Matrix, precision: Matrix) -> Matrix:
    """(N, E) → (N,) squared Mahalanobis distance to the nearest of the means (S, E)."""
    # ‖x‖² + ‖μ‖² − 2·x·μ in the metric of the precision: one product for all means
    shaped, centres = embeddings @ precision, means @ precision
    own, theirs = np.einsum("ne,ne->n", shaped, embeddings), np.einsum("se,se->s", centres, means)
    return (own[:, None] + theirs - 2 * shaped @ means.T).min(1)
