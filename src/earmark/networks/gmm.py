"""Classical tracer: a Gaussian mixture per source on LFCC, its means adapted from a common mixture (Reynolds et al., 2000).

Shapes: T samples, F frames (100 Hz), C components, S sources, 60 = 20 coefficients with deltas and double deltas.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.odds import logsumexp
from earmark.params import GmmParams

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class SourceMixtures:
    """Common mixture and each source's means; weights and variances are shared."""

    weights: Matrix  # (C,)
    variances: Matrix  # (C, 60)
    common: Matrix  # (C, 60)
    means: Matrix  # (S, C, 60)

    @classmethod
    def fit(cls, frames: list[NDArray], labels: NDArray[np.int64], params: GmmParams, seed: int) -> Self:
        """(F, 60) frames of every utterance and the number of its source → mixtures."""
        from sklearn.mixture import GaussianMixture

        pool = np.concatenate(frames)
        chosen = np.random.default_rng(seed).permutation(len(pool))[: params.frames]
        # k-means starts are what makes few iterations enough
        mixture = GaussianMixture(
            min(params.components, len(chosen)), covariance_type="diag", max_iter=30, reg_covar=1e-3, init_params="k-means++",
            random_state=seed,
        ).fit(pool[chosen])  # fmt: skip
        found = cls(mixture.weights_, mixture.covariances_, mixture.means_, mixture.means_[None])
        count = int(labels.max()) + 1
        own = [np.concatenate([part for part, label in zip(frames, labels, strict=True) if label == source]) for source in range(count)]
        return cls(found.weights, found.variances, found.common, np.stack([found._adapt(part, params.relevance) for part in own]))

    def score(self, frames: NDArray) -> Matrix:
        """(F, 60) → (S,) mean log-likelihood ratio per frame of each source's mixture to the common one, in nats."""
        common = logsumexp(self._log_densities(frames, self.common[None])[:, 0], axis=1)
        return (logsumexp(self._log_densities(frames, self.means), axis=2) - common[:, None]).mean(0)

    def _adapt(self, frames: NDArray, relevance: float) -> Matrix:
        """Means moved towards the frames, the more the more frames a component explains."""
        share = np.exp((logs := self._log_densities(frames, self.common[None])[:, 0]) - logsumexp(logs, axis=1, keepdims=True))
        count = share.sum(0)[:, None]
        mean = (share.T @ frames) / np.maximum(count, 1e-12)
        return (count * mean + relevance * self.common) / (count + relevance)

    def _log_densities(self, frames: NDArray, means: Matrix) -> Matrix:
        """(F, 60), (S, C, 60) → (F, S, C) log of weight · density, without the constant that all share."""
        precision = 1 / self.variances
        offset = np.log(self.weights) + 0.5 * np.log(precision).sum(1) - 0.5 * np.einsum("scd,cd->sc", means**2, precision)
        shared = -0.5 * frames**2 @ precision.T  # (F, C)
        cross = frames @ (means * precision).reshape(-1, frames.shape[1]).T
        return cross.reshape(len(frames), *means.shape[:2]) + shared[:, None] + offset


NAMES = tuple(one.name for one in fields(SourceMixtures))
