"""The packaged model, and the files beside it, as the registry sees them.

A model's digest is that of its manifest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.model.manifest import MANIFEST, read_manifest
from earmark.storage.files import file_digest

SCHEMA = 1  # of the records that the registry's stages write
TRIALS, ROBUSTNESS, REGISTRATION = "trials.parquet", "robustness.parquet", "registration.json"
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
            if not file.is_file() or file_digest(file) != expected:
                raise InputError(f"{file} is not the file that {MANIFEST} names: run the stage that packages the model again")


def read(folder: Path) -> Bundle:
    """Read a model's manifest. Errors: InputError as `read_manifest`."""
    manifest = read_manifest(folder)
    return Bundle(folder, manifest["digest"], manifest)
