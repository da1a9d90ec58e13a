"""Fusion of the detector's members by logistic regression, fitted on dev alone (Brümmer and du Preez, 2006).

Shapes: N utterances, W windows, K members, E embedding of all of them. Orientation: a higher cm_score is more bona fide.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from earmark import InputError
from earmark.storage.files import write_json

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
FILE, SCORES, DETECTORS = "detection.json", "scores.parquet", "detectors.parquet"  # in the stage's folder


@dataclass(frozen=True)
class Fusion:
    """cm_score = Σ_k weight_k · (score_k − centre_k) / spread_k, and embeddings side by side, each over its `norm`; by member.

    A member that stands alone keeps its score as it is.
    """

    weights: dict[str, float]
    centres: dict[str, float]
    spreads: dict[str, float]
    norms: dict[str, float]  # root mean square of the length of dev's embeddings

    @classmethod
    def fit(cls, scores: Mapping[str, Floats], embeddings: Mapping[str, Floats], is_bonafide: NDArray[np.bool_]) -> Self:
        """(N,) scores and (N, E_k) embeddings of dev by member → fusion. Weights are least 0: no member speaks against itself.

        Errors: InputError when a score is not finite or a key has no trial.
        """
        wrong = [name for name, values in scores.items() if not np.isfinite(values).all()]
        if wrong:
            raise InputError(f"{', '.join(wrong)}: scores of dev are NaN or infinite: score dev again")
        if is_bonafide.all() or not is_bonafide.any():
            raise InputError("dev has trials of one key alone: fusion and calibration need bona fide and spoofed ones")
        norms = {name: max(float(np.sqrt(np.square(values).sum(1).mean())), 1e-12) for name, values in embeddings.items()}
        if len(scores) == 1:
            return cls(dict.fromkeys(scores, 1.0), dict.fromkeys(scores, 0.0), dict.fromkeys(scores, 1.0), norms)
        centres = {name: float(values.mean()) for name, values in scores.items()}
        spreads = {name: max(float(values.std()), 1e-12) for name, values in scores.items()}
        columns = np.stack([(values - centres[name]) / spreads[name] for name, values in scores.items()], axis=1)
        weights = dict(zip(scores, _regress(columns, is_bonafide).tolist(), strict=True))
        if idle := [name for name, weight in weights.items() if weight <= 0]:
            log.warning("on dev %s adds nothing to what the other members say: it counts for 0", ", ".join(idle))
        return cls(weights, centres, spreads, norms)

    def fuse(self, scores: Mapping[str, Floats]) -> Floats:
        """(N,) or (W,) scores by member → fused ones. Errors: InputError when a member's are lacking."""
        if lacking := [name for name in self.weights if name not in scores]:
            raise InputError(f"the detector's member {', '.join(lacking)} has no scores: run score_detector with it")
        return np.sum(list(self.shares(scores).values()), axis=0)

    def shares(self, scores: Mapping[str, Floats]) -> dict[str, Any]:
        """What each member adds to the fused scores."""
        return {name: self.weights[name] * (scores[name] - self.centres[name]) / self.spreads[name] for name in sorted(self.weights)}

    def join(self, embeddings: Mapping[str, Floats]) -> Floats:
        """(N, E_k) by member → (N, E), in the order of their names: that of a file's keys is another than that of params."""
        return np.concatenate([embeddings[name] / self.norms[name] for name in sorted(self.norms)], axis=1)

    def save(self, path: Path) -> None:
        """Write the file, complete or absent."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))


def _regress(columns: Floats, is_bonafide: NDArray[np.bool_]) -> Floats:
    """(N, K) standardised → (K,) weights ≥ 0 of the log-odds, both keys weighing alike; with sklearn's own penalty on their squares."""
    from scipy.optimize import minimize

    balance = np.where(is_bonafide, 0.5 / is_bonafide.mean(), 0.5 / (1 - is_bonafide.mean()))
    sign = np.where(is_bonafide, 1.0, -1.0)

    def loss(values: Floats) -> tuple[float, Floats]:
        margin = sign * (columns @ values[:-1] + values[-1])
        slope = -balance * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        penalised = 0.5 * values[:-1] @ values[:-1]
        gradient = np.append(slope @ columns + values[:-1], slope.sum())
        return float((balance * np.logaddexp(0, -margin)).sum() + penalised), gradient

    bounds = [(0.0, None)] * columns.shape[1] + [(None, None)]
    return minimize(loss, np.zeros(columns.shape[1] + 1), jac=True, bounds=bounds, method="L-BFGS-B").x[:-1]
