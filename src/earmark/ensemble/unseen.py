"""Scores of how unlike every known source an utterance is. Orientation everywhere: a higher `ood_score` is more likely unseen.

Shapes: M training utterances, N utterances, E embedding, S known sources.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from earmark import InputError
from earmark.metrics.distances import squared_distance, within_classes
from earmark.metrics.odds import logsumexp, softmax

Matrix = NDArray[np.float64]
BLOCK = 4096  # rows whose distances are held at once
NEIGHBOURS = 4096  # most training utterances that neighbours are sought among: a sample serves as well (Sun et al., section 4)


@dataclass(frozen=True)
class Bank:
    """What unseen-source scores know of the training utterances; float64 but for `units`."""

    direction: Matrix  # (E,) mean of E_i · f̂_i: the whole of what NSD needs
    units: NDArray[np.float32]  # (≤ NEIGHBOURS, E) embeddings of length 1, or 0, of utterances spread evenly over the sources' own
    means: Matrix  # (S, E) mean embedding of each source
    precision: Matrix  # (E, E) inverse of the covariance within sources

    @classmethod
    def fit(cls, logits: Matrix, embeddings: Matrix, labels: NDArray[np.int64]) -> Self:
        """(M, S), (M, E), (M,) numbers of sources → bank. Errors: InputError when a value is not finite or a source has no utterance."""
        logits, embeddings = _finite(logits, "logits"), _finite(embeddings, "embeddings")
        counts = np.bincount(labels, minlength=logits.shape[1])
        if not counts.all():
            raise InputError(f"known sources number {', '.join(map(str, np.flatnonzero(counts == 0)))} have no training utterance")
        means, precision = within_classes(embeddings, labels)
        units = unit(embeddings)
        kept = np.argsort(labels, kind="stable")[np.linspace(0, len(labels) - 1, min(len(labels), NEIGHBOURS)).astype(np.int64)]
        return cls(logsumexp(logits, axis=1) @ units / len(units), units[kept].astype(np.float32), means, precision)


def nsd(bank: Bank, logits: Matrix, embeddings: Matrix) -> Matrix:
    """Negative of novel similarity detection: −E(x)·⟨f̂(x), m⟩, E = logsumexp of the logits, m = the bank's direction; (N,).

    The mean over training utterances of E(x)·E_i·⟨f̂(x), f̂_i⟩ is exactly this, since the product is linear in f̂_i.
    """
    return -logsumexp(_finite(logits, "logits"), axis=1) * (unit(_finite(embeddings, "embeddings")) @ bank.direction)


def energy(bank: Bank, logits: Matrix, embeddings: Matrix) -> Matrix:
    """−logsumexp of the logits (Liu et al., NeurIPS 2020); (N,)."""
    return -logsumexp(_finite(logits, "logits"), axis=1)


def max_softmax(bank: Bank, logits: Matrix, embeddings: Matrix) -> Matrix:
    """Negative of the greatest posterior (Hendrycks and Gimpel, ICLR 2017); (N,)."""
    return -softmax(_finite(logits, "logits"), axis=1).max(1)


def nearest(bank: Bank, logits: Matrix, embeddings: Matrix, neighbours: int = 5) -> Matrix:
    """Distance to the k-th nearest training embedding, all of length 1 (Sun et al., ICML 2022), in float32; (N,)."""
    own, theirs = torch.from_numpy(unit(_finite(embeddings, "embeddings"))).float(), torch.from_numpy(bank.units).T
    k = min(neighbours, len(bank.units))
    cosines = torch.cat([(part @ theirs).topk(k, sorted=False).values.amin(1) for part in own.split(BLOCK)])
    return np.sqrt(np.clip(2 - 2 * cosines.double().numpy(), 0, None))


def mahalanobis(bank: Bank, logits: Matrix, embeddings: Matrix) -> Matrix:
    """Squared distance to the nearest source mean under the covariance within sources (Lee et al., NeurIPS 2018); (N,)."""
    return squared_distance(_finite(embeddings, "embeddings"), bank.means, bank.precision)


SCORES = {"nsd": nsd, "energy": energy, "max_softmax": max_softmax, "knn": nearest, "mahalanobis": mahalanobis}


def unit(embeddings: Matrix) -> Matrix:
    """Rows brought to length 1; a row of zeros, which has no direction, stays zero."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return np.divide(embeddings, length, out=np.zeros_like(embeddings), where=length > 0)


def _finite(values: Matrix, what: str) -> Matrix:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{what} of {np.count_nonzero(~np.isfinite(array).all(-1))} utterances are NaN or infinite: embed them again")
    return array
