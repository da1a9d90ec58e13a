"""Sources added to a fitted ensemble from a few clips: a prototype each in the fused embedding space; no network is touched.

An utterance is an enrolled source's when that prototype is the nearest of all, known sources' means among them, and as near as the
ensemble's radius asks. Shapes: N utterances, C clips, P enrolled sources, S known sources, E fused embedding.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from earmark import InputError
from earmark.ensemble.fusion import Ensemble
from earmark.ensemble.unseen import unit
from earmark.scoring.outputs import Matrix
from earmark.storage import checkpoint
from earmark.storage.files import file_digest


@dataclass(frozen=True)
class Enrolled:
    """The file of enrolled sources: prototypes, and every change as a version of its own."""

    ensemble: str  # SHA-256 of the ensemble that the prototypes belong to
    names: tuple[str, ...] = ()
    prototypes: Matrix | None = None  # (P, E) of length 1
    history: tuple[dict[str, Any], ...] = ()  # version, action, source, clips by digest

    @property
    def version(self) -> int:
        """Number of changes so far."""
        return len(self.history)

    def add(self, name: str, embeddings: Matrix, clips: dict[str, str], ensemble: Ensemble) -> Self:
        """With a source more, of (C, E) embeddings. Errors: InputError when the name is taken or an embedding has no direction."""
        self.refuse_taken(name, ensemble)
        empty = [clip for clip, vector in zip(clips, embeddings, strict=True) if not np.linalg.norm(vector) > 0]
        if empty:
            raise InputError(f"{', '.join(empty)}: the embedding is zero, the members hear nothing there: leave the clip out")
        mean = unit(embeddings.mean(0)[None])
        rows = mean if self.prototypes is None else np.concatenate([self.prototypes, mean])
        entry = {"version": self.version + 1, "action": "enrol", "source": name, "clips": clips}
        return replace(self, names=(*self.names, name), prototypes=rows, history=(*self.history, entry))

    def refuse_taken(self, name: str, ensemble: Ensemble) -> None:
        """Errors: InputError when a source of this name is there."""
        if name in ensemble.sources:
            raise InputError(f"{name} is a source that the networks were trained on: give another name")
        if name in self.names:
            raise InputError(f"{name} is enrolled already: remove it first (earmark enrol --remove {name}), or give another name")

    def remove(self, name: str) -> Self:
        """With a source fewer. Errors: InputError when it is not enrolled."""
        if name not in self.names or self.prototypes is None:
            raise InputError(f"{name} is not enrolled; enrolled are: {', '.join(self.names) or 'none'}")
        kept = [row for row, other in enumerate(self.names) if other != name]
        entry = {"version": self.version + 1, "action": "remove", "source": name}
        prototypes = self.prototypes[kept] if kept else None
        return replace(self, names=tuple(self.names[row] for row in kept), prototypes=prototypes, history=(*self.history, entry))

    def claim(self, embeddings: Matrix, ensemble: Ensemble) -> NDArray[np.int64]:
        """(N, E) fused → (N,) number of the enrolled source that an utterance is of; −1 where it is none's."""
        if self.prototypes is None:
            return np.full(len(embeddings), -1)
        own, theirs = embeddings @ self.prototypes.T, embeddings @ unit(ensemble.bank.means).T
        best = own.argmax(1)
        near = own[np.arange(len(own)), best]
        return np.where((near > theirs.max(1)) & (near >= ensemble.radius), best, -1)

    def save(self, path: Path) -> None:
        """Write the file, complete or absent."""
        tensors = {} if self.prototypes is None else {"prototypes": torch.from_numpy(np.ascontiguousarray(self.prototypes))}
        checkpoint.save(path, tensors, {"enrolled": self.names, "ensemble": self.ensemble, "history": self.history})

    @classmethod
    def load(cls, path: Path, ensemble: Path) -> Self:
        """Read the file, or begin an empty one. Errors: InputError when it belongs to another ensemble."""
        if not ensemble.exists():
            raise InputError(f"{ensemble} does not exist: run `earmark fit_ensemble` first")
        own = file_digest(ensemble)
        if not path.exists():
            return cls(own)
        tensors, meta = checkpoint.load(path)
        if "enrolled" not in meta:
            raise InputError(f"{path} holds no enrolled sources")
        if meta["ensemble"] != own:
            raise InputError(f"{path} was made with another ensemble than {ensemble}: its prototypes mean nothing there; enrol again")
        prototypes = tensors["prototypes"].numpy() if "prototypes" in tensors else None
        return cls(own, tuple(meta["enrolled"]), prototypes, tuple(meta["history"]))


def leave_one_out(before: Enrolled, name: str, embeddings: Matrix, clips: dict[str, str], ensemble: Ensemble) -> float:
    """Share of the (C, E) clips that a prototype of all others claims."""
    names = list(clips)
    hits = 0
    for row in range(len(names)):
        rest = {clip: clips[clip] for number, clip in enumerate(names) if number != row}
        trial = before.add(name, np.delete(embeddings, row, axis=0), rest, ensemble)
        hits += int(trial.claim(embeddings[row : row + 1], ensemble)[0]) == len(trial.names) - 1
    return hits / len(names)


def describe(enrolled: Enrolled) -> pd.DataFrame:
    """A row a source: name, clips, version that brought it."""
    rows = {entry["source"]: entry for entry in enrolled.history if entry["action"] == "enrol"}
    return pd.DataFrame([{"source": n, "clips": len(rows[n]["clips"]), "since version": rows[n]["version"]} for n in enrolled.names])
