"""Whether a recording is like what the detector was trained on. Shapes: M train utterances, N utterances, E embedding."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.distances import squared_distance, within_classes

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Conditions:
    """Training's embeddings by key, and the distance beyond which a recording is unlike them."""

    means: Matrix  # (2, E) of spoof, bona fide
    precision: Matrix  # (E, E)
    threshold: float

    @classmethod
    def fit(cls, train: Matrix, is_bonafide: NDArray[np.bool_], dev: Matrix, quantile: float) -> Self:
        """(M, E), (M,) of train and (N, E) of dev; the threshold is that quantile of dev's distances."""
        means, precision = within_classes(train, np.unique(is_bonafide, return_inverse=True)[1])
        unbounded = cls(means, precision, np.inf)
        return replace(unbounded, threshold=float(np.quantile(unbounded.distance(dev), quantile)))

    def distance(self, embeddings: Matrix) -> Matrix:
        """(N, E) → (N,) Mahalanobis distance to the nearer key's mean (Lee et al., NeurIPS 2018)."""
        return np.sqrt(np.maximum(squared_distance(np.asarray(embeddings, np.float64), self.means, self.precision), 0))
