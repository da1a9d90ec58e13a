"""Score-embedding fusion of tracers, fitted on dev alone (METHODS section 2, after Kulkarni et al., Interspeech 2025).

Shapes: N utterances, S known sources, E embedding of a member. Orientation: a higher `ood_score` is more likely an unseen source.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from earmark import InputError
from earmark.corpora.sources import UNSEEN, Labels
from earmark.ensemble.unseen import SCORES, Bank, unit
from earmark.metrics.detection import auroc, eer_point
from earmark.metrics.odds import logsumexp, softmax
from earmark.metrics.tracing import rejection_curve
from earmark.scoring.outputs import Matrix, Output
from earmark.storage import checkpoint

log = logging.getLogger(__name__)
FILE = "ensemble.safetensors"
FUSION = "score-embedding fusion"  # name of the whole ensemble among the systems of the ablation
ORIENTATION = "ood_score: higher = more likely unseen"
BANK = tuple(one.name for one in fields(Bank))
FEW = 5  # clips that a source is enrolled from at least
GRID = 4  # shares of embeddings are tried in steps of a quarter


@dataclass(frozen=True)
class Answer:
    """The ensemble's answer for N utterances."""

    logits: Matrix  # (N, S) fused
    embeddings: Matrix  # (N, E_F) fused, of length 1
    ood_score: Matrix  # (N,)
    posterior: Matrix  # (N, S + 1): known sources, then unseen
    sets: NDArray[np.bool_]  # (N, S) conformal set of sources; empty: none of them, so unseen


@dataclass(frozen=True)
class Ensemble:
    """Everything that is fitted: small enough for one file beside the members."""

    sources: tuple[str, ...]
    temperatures: dict[str, float]
    weights: dict[str, float]  # w of the logits, summing to 1
    shares: dict[str, float]  # v of the embeddings, summing to 1
    score: str  # unseen-source score, a key of SCORES
    bank: Bank
    threshold: float  # of ood_score: unseen above it
    unseen_slope: tuple[float, float]  # log-odds of unseen = first · ood_score + second
    conformal: float  # a source is in the set when its posterior is at least this
    radius: float  # cosine to a prototype of few clips of its source that `coverage` of dev's seen utterances reach

    def answer(self, outputs: Mapping[str, Output]) -> Answer:
        """Fuse the members' outputs. Errors: InputError when members are missing or their class lists differ."""
        logits, embeddings = fuse_logits(outputs, self.temperatures, self.weights), fuse_embeddings(outputs, self.shares)
        ood = SCORES[self.score](self.bank, logits, embeddings)
        joint = posterior(logits, ood, self.unseen_slope)
        return Answer(logits, embeddings, ood, joint, joint[:, :-1] >= self.conformal)

    @classmethod
    def fit(
        cls, sources: tuple[str, ...], train: Mapping[str, Output], train_labels: Labels, dev: Mapping[str, Output], dev_labels: Labels,
        coverage: float = 0.9, fallback: float = 0.95,
    ) -> Self:  # fmt: skip
        """Bank on train; temperatures, weights, shares, unseen-source score, threshold and conformal quantile on dev.

        Without unseen sources in dev the score is NSD, shares are equal, and the threshold is the `fallback` quantile of seen scores.
        Errors: InputError when dev has no known source.
        """
        known = dev_labels != UNSEEN
        if not known.any():
            raise InputError("dev has no utterance of a known source: the ensemble cannot be fitted; give dev some")
        labels = dev_labels[known]
        seen = {name: output.take(known) for name, output in dev.items()}
        temperatures = {name: temperature(output.logits, labels) for name, output in seen.items()}
        weights = fit_weights(seen, temperatures, labels)
        train_logits, dev_logits = fuse_logits(train, temperatures, weights), fuse_logits(dev, temperatures, weights)
        best = None
        for shares in _shares(dev, bool((~known).any())):
            bank = Bank.fit(train_logits, fuse_embeddings(train, shares), train_labels)
            embeddings = fuse_embeddings(dev, shares)
            for score in SCORES if (~known).any() else ("nsd",):
                ood = SCORES[score](bank, dev_logits, embeddings)
                rank = auroc(rejection_curve(ood[known], ood[~known])) if (~known).any() else 0.0
                if best is None or rank > best[0]:
                    best = rank, shares, score, bank, ood
        assert best is not None
        _, shares, score, bank, ood = best
        threshold, slope = _reject(ood, known, fallback)
        level = conformal_level(posterior(dev_logits[known], ood[known], slope), labels, coverage)
        radius = few_shot_radius(fuse_embeddings(train, shares), train_labels, fuse_embeddings(seen, shares), labels, coverage)
        return cls(sources, temperatures, weights, shares, score, bank, threshold, slope, level, radius)


PLAIN = tuple(one.name for one in fields(Ensemble) if one.name != "bank")


def save(path: Path, ensemble: Ensemble) -> None:
    """Write everything fitted as one file."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(ensemble.bank, name))) for name in BANK}
    plain = {name: getattr(ensemble, name) for name in PLAIN}
    checkpoint.save(path, tensors, plain | {"orientation": ORIENTATION})


def load(path: Path) -> Ensemble:
    """Read what `save` wrote. Errors: InputError when the file holds no ensemble."""
    tensors, meta = checkpoint.load(path)
    if not set(BANK) <= set(tensors):
        raise InputError(f"{path} holds no ensemble")
    bank = Bank(**{name: tensors[name].numpy() for name in BANK})
    plain: dict[str, Any] = {name: meta[name] for name in PLAIN} | {
        "sources": tuple(meta["sources"]),
        "unseen_slope": tuple(meta["unseen_slope"]),
    }
    return Ensemble(bank=bank, **plain)


def fuse_logits(outputs: Mapping[str, Output], temperatures: Mapping[str, float], weights: Mapping[str, float]) -> Matrix:
    """z_F = Σ_k w_k · z_k / T_k: (N, S). Errors: InputError when members are missing or have other classes."""
    _agree(outputs, weights)
    return np.sum([weights[name] * np.asarray(outputs[name].logits, np.float64) / temperatures[name] for name in weights], axis=0)


def fuse_embeddings(outputs: Mapping[str, Output], shares: Mapping[str, float]) -> Matrix:
    """e_F = concat_k(√v_k · e_k / ‖e_k‖): (N, ΣE), of length 1; a zero embedding leaves its part zero."""
    parts = [np.sqrt(share) * unit(np.asarray(outputs[name].embeddings, np.float64)) for name, share in shares.items() if share > 0]
    return np.concatenate(parts, axis=1)


def temperature(logits: Matrix, labels: Labels) -> float:
    """T > 0 with the least cross-entropy of logits / T (Guo et al., ICML 2017), between 1/100 and 100."""
    from scipy.optimize import minimize_scalar

    def loss(power: float) -> float:
        return cross_entropy(logits / np.exp(power), labels)

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(100), np.log(100)), method="bounded").x))  # pyright: ignore


def fit_weights(outputs: Mapping[str, Output], temperatures: Mapping[str, float], labels: Labels) -> dict[str, float]:
    """w ≥ 0, Σw = 1, with the least cross-entropy of the fused logits; convex, so found from equal weights."""
    from scipy.optimize import minimize

    names = list(outputs)
    _agree(outputs, names)
    scaled = np.stack([np.asarray(outputs[name].logits, np.float64) / temperatures[name] for name in names])
    truth = np.eye(scaled.shape[2])[labels]

    def loss(weights: Matrix) -> tuple[float, Matrix]:
        fused = np.tensordot(weights, scaled, 1)
        slope = (softmax(fused, axis=1) - truth) / len(labels)
        return cross_entropy(fused, labels), np.einsum("kns,ns->k", scaled, slope)

    equal = np.full(len(names), 1 / len(names))
    constraint = {"type": "eq", "fun": lambda w: w.sum() - 1}
    found = minimize(loss, equal, jac=True, bounds=[(0, 1)] * len(names), constraints=[constraint], method="SLSQP").x
    found = np.clip(found, 0, None) / np.clip(found, 0, None).sum()
    return dict(zip(names, found.tolist(), strict=True))


def cross_entropy(logits: Matrix, labels: Labels) -> float:
    """Mean −log p of the true class, in nats."""
    return float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]))


def posterior(logits: Matrix, ood_score: Matrix, slope: tuple[float, float]) -> Matrix:
    """(N, S), (N,) → (N, S + 1): softmax over known sources times what unseen leaves them, then unseen."""
    unseen = 1 / (1 + np.exp(-np.clip(slope[0] * ood_score + slope[1], -500, 500)))
    return np.column_stack([softmax(logits, axis=1) * (1 - unseen)[:, None], unseen])


def conformal_level(posterior: Matrix, labels: Labels, coverage: float) -> float:
    """Least posterior that puts a source into the set, so that at least `coverage` of exchangeable trials have their source in it.

    Split conformal prediction with the score 1 − p of the true class (Sadinle, Lei, Wasserman, JASA 2019): the ⌈(n + 1)·coverage⌉-th of n
    scores; with too few trials for that every source is in every set.
    """
    own = np.sort(posterior[np.arange(len(labels)), labels])[::-1]
    rank = int(np.ceil((len(own) + 1) * coverage))
    return float(own[rank - 1]) if rank <= len(own) else 0.0


def few_shot_radius(units: Matrix, units_labels: Labels, own: Matrix, labels: Labels, coverage: float) -> float:
    """Cosine to a prototype that `coverage` of pairs of an utterance (N, E) and a prototype of its source reach.

    A prototype is the mean of FEW training utterances: as noisy as one that is enrolled.
    """
    cosines = []
    for source in np.unique(labels):
        bank = units[units_labels == source]
        count = max(len(bank) // FEW, 1)
        prototypes = unit(np.stack([bank[first::count].mean(0) for first in range(count)]))
        cosines.append((own[labels == source] @ prototypes.T).ravel())
    return float(np.quantile(np.concatenate(cosines), 1 - coverage))


def _reject(ood: Matrix, known: NDArray[np.bool_], fallback: float) -> tuple[float, tuple[float, float]]:
    """Threshold at dev's EER, and log-odds of unseen as a rising line in the score."""
    from sklearn.linear_model import LogisticRegression

    if known.all():
        threshold = float(np.quantile(ood, fallback))
        log.warning(
            "dev has no unseen source: the threshold is the %g quantile of seen scores, and the slope of the odds a guess", fallback
        )
        slope = 1 / max(float(np.std(ood)), 1e-12)
        return threshold, (slope, -slope * threshold)
    threshold = -eer_point(rejection_curve(ood[known], ood[~known]))[1]
    centre, scale = float(ood.mean()), max(float(ood.std()), 1e-12)
    line = LogisticRegression(class_weight="balanced").fit(((ood - centre) / scale)[:, None], ~known)
    slope = float(line.coef_[0, 0]) / scale
    return float(threshold), (slope, float(line.intercept_[0]) - slope * centre)


def _shares(outputs: Mapping[str, Output], choose: bool) -> Iterator[dict[str, float]]:
    """Shares v of the members: equal ones first, then all in steps of 1/GRID."""
    yield {name: 1 / len(outputs) for name in outputs}
    for steps in product(range(GRID + 1), repeat=len(outputs)) if choose else ():
        if sum(steps) == GRID:
            yield {name: step / GRID for name, step in zip(outputs, steps, strict=True)}


def _agree(outputs: Mapping[str, Output], names: Mapping[str, float] | list[str]) -> None:
    if missing := [name for name in names if name not in outputs]:
        raise InputError(f"the ensemble's member {', '.join(missing)} has no output: embed utterances with it first")
    shapes = {name: np.shape(outputs[name].logits) for name in names}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {count} × {classes}" for name, (count, classes) in shapes.items())
        raise InputError(f"members differ in utterances or sources ({told}): train and embed them on one protocol")
