"""The packaged model, and the files beside it, as the registry sees them.

A model is a folder with manifest.json, whose bytes' SHA-256 is its digest.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark import InputError

SCHEMA = 1  # of the records that the registry's stages write
MANIFEST, TRIALS, ROBUSTNESS, REGISTRATION = "manifest.json", "trials.parquet", "robustness.parquet", "registration.json"
KEYS = ("schema", "files", "orientation", "sources", "corpora", "params", "code", "self_test")
LEARNED_FROM = frozenset(("train", "dev"))


@dataclass(frozen=True)
class Bundle:
    """A model's folder, digest and manifest."""

    folder: Path
    digest: str
    manifest: dict[str, Any]

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """Corpora that the model learned from; one that says no splits counts as such."""
        return [corpus for corpus in self.manifest["corpora"] if LEARNED_FROM & set(corpus.get("splits") or LEARNED_FROM)]

    def parts(self) -> list[str]:
        """Its parts: folders that hold files."""
        return sorted({path.split("/")[0] for path in self.manifest["files"] if "/" in path})

    def verify(self) -> None:
        """Compare every file with its digest. Errors: InputError naming the first that is missing or another."""
        for path, expected in self.manifest["files"].items():
            file = self.folder / path
            if not file.is_file() or digest_of(file) != expected:
                raise InputError(f"{file} is not the file that {MANIFEST} names: run the stage that packages the model again")


def read(folder: Path) -> Bundle:
    """Read a manifest. Errors: InputError when it is missing, no JSON, or lacks a key."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: package the model first") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): package the model again") from error
    if lacking := [key for key in KEYS if key not in manifest]:
        raise InputError(f"{path} lacks {', '.join(lacking)}: package the model again")
    return Bundle(folder, hashlib.sha256(content).hexdigest(), manifest)


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
