"""What a complete output leaves for MLflow: a record with its reports, kept until all of it is published.

A record is a folder below `.earmark/unpublished/`: record.json, reports/, and `lock`, which the process that publishes it holds.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from earmark import InputError
from earmark.registry.pipeline import Home
from earmark.storage.files import complete, file_digest

PLACE = Path(".earmark/unpublished")
RECORD, REPORTS, LOCK = "record.json", "reports", "lock"
LARGEST = 50_000_000  # bytes of a file worth publishing; tables and weights belong to DVC and the registry
KINDS = frozenset((".csv", ".json", ".txt", ".png", ".svg", ".html"))


class Row(NamedTuple):
    """One metric at one instant; rows without a step have step 0."""

    key: str
    value: float
    time: int  # milliseconds since 1970
    step: int = 0


@dataclass(frozen=True)
class Task:
    """A stage at work: what is known of it before its output is complete."""

    stage: str
    home: Home
    started: int
    commit: str | None
    who: str
    params: dict[str, str]
    inputs: str  # digest of the trials
    options: dict[str, str]

    @property
    def key(self) -> str:
        """SHA-256 of what is to be made, and where: a stage that goes on after it was killed has the same."""
        facts = [self.stage, asdict(self.home), self.params, self.inputs, self.options]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """A task whose output is complete."""

    task: Task
    output: str  # digest
    ended: int
    metrics: dict[str, float]
    rows: list[Row]
    datasets: list[dict[str, str]]

    def write(self, place: Path, output: Path) -> Path:
        """Write the record and copies of the output's reports into a folder of its own below `place`; return that folder."""
        name = hashlib.sha256(f"{self.task.key} {self.output}".encode()).hexdigest()[:16]
        folder = place / f"{self.task.stage}-{name}"
        with complete(folder) as aside:
            (aside / REPORTS).mkdir(parents=True)
            for name, file in _reports(output):
                target = aside / REPORTS / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            (aside / RECORD).write_text(json.dumps(asdict(self)))  # with NaN, which a metric may be
        return folder


def read(folder: Path) -> Record:
    """Read a record. Errors: InputError when it is not whole."""
    try:
        content = json.loads((folder / RECORD).read_text())
        task = content["task"]
        content["task"] = Task(**task | {"home": Home(**task["home"])})
        content["rows"] = [Row(*row) for row in content["rows"]]
        return Record(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder / RECORD} is not readable ({error}): remove {folder} and run its stage again") from error


def records(place: Path) -> list[Path]:
    """Folders of the records below `place`, by name."""
    return [path.parent for path in sorted(place.glob(f"[!.]*/{RECORD}"))]


def output_digest(output: Path) -> str:
    """SHA-256 of an output's files and their names."""
    found = [f"{path.relative_to(output)} {file_digest(path)}" for path in _files(output)]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _files(output: Path) -> list[Path]:
    return sorted(path for path in output.rglob("*") if path.is_file()) if output.is_dir() else [output]


def _reports(output: Path) -> Iterator[tuple[Path, Path]]:
    """Names and files worth publishing."""
    for file in _files(output):
        if file.suffix in KINDS and file.stat().st_size <= LARGEST:
            yield file.relative_to(output if output.is_dir() else output.parent), file


def flat_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as plain numbers, whatever array library they are of."""
    return {name: float(value) for name, value in metrics.items()}
