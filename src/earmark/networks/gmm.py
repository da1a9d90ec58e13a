"""A Gaussian mixture a class on LFCC, its means adapted from a common mixture (Reynolds et al., 2000).

Shapes: B batch, F frames (100 Hz), C components, S classes, 60 = 20 coefficients with deltas and double deltas.
"""

from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earmark.params import GmmParams

AT_ONCE = 20_000  # frames that are looked at together
NAMES = ("weights", "variances", "common", "means")


class Mixtures(nn.Module):
    """(B, F, 60) → (B, S) mean log-likelihood ratio per frame of each class's mixture to the common one, in nats and float64.

    Weights (C,) and variances (C, 60) are shared; `common` (C, 60) are the means of all frames, `means` (S, C, 60) those of the classes.
    """

    def __init__(self, **tensors: Tensor):
        super().__init__()
        for name in NAMES:
            self.register_buffer(name, tensors[name].double())

    @classmethod
    def fit(cls, frames: list[NDArray], labels: NDArray[np.int64], params: GmmParams, seed: int) -> Self:
        """(F, 60) frames of every utterance and the number of its class → mixtures."""
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        pool = np.concatenate(frames)
        chosen = np.random.default_rng(seed).permutation(len(pool))[: params.frames]
        mixture = GaussianMixture(
            min(params.components, len(chosen)), covariance_type="diag", max_iter=30, reg_covar=1e-3, random_state=seed,
            init_params="k-means++",  # with which few iterations are enough
        )  # fmt: skip
        with threadpool_limits(1):  # another number of threads changes the last bits
            mixture.fit(pool[chosen])
        fitted = (mixture.weights_, mixture.covariances_, mixture.means_, mixture.means_[None])
        common = cls(**{name: torch.from_numpy(values) for name, values in zip(NAMES, fitted, strict=True)})
        means = []
        for label in range(int(labels.max()) + 1):
            own = np.concatenate([part for part, other in zip(frames, labels, strict=True) if other == label])
            means.append(common._adapt(torch.from_numpy(own), params.relevance))
        return cls(**(dict(common.named_buffers()) | {"means": torch.stack(means)}))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        common = self._log_densities(frames.double(), self._own("common")[None]).logsumexp(-1)
        return (self._log_densities(frames.double(), self._own("means")).logsumexp(-1) - common).mean(1)

    def _own(self, name: str) -> Tensor:
        return cast(Tensor, self.get_buffer(name))

    def _adapt(self, frames: Tensor, relevance: float) -> Tensor:
        """(F, 60) → (C, 60) means moved towards the frames, the more the more frames a component explains."""
        common = self._own("common")
        count, total = common.new_zeros(len(common), 1), torch.zeros_like(common)
        for part in frames.split(AT_ONCE):
            share = self._log_densities(part.double()[None], common[None])[0, :, 0].softmax(1)
            count += share.sum(0)[:, None]
            total += share.T @ part.double()
        mean = total / count.clamp_min(1e-12)
        return (count * mean + relevance * common) / (count + relevance)

    def _log_densities(self, frames: Tensor, means: Tensor) -> Tensor:
        """(B, F, 60), (S, C, 60) → (B, F, S, C) log of weight · density, without the constant that all share."""
        precision = 1 / self._own("variances")
        offset = self._own("weights").log() + 0.5 * precision.log().sum(1) - 0.5 * (means.square() * precision).sum(2)
        shared = -0.5 * frames.square() @ precision.T  # (B, F, C)
        cross = frames @ (means * precision).flatten(0, 1).T
        return cross.unflatten(-1, means.shape[:2]) + shared[..., None, :] + offset
