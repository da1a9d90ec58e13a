"""A stage with tracking around it: its figures go to a journal, and a process of its own sends them to MLflow meanwhile.

MLflow takes seconds to import and its server may be away, so nothing of it happens in the stage's process.
"""

import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.model.provenance import commit, digest
from earmark.params import Params, Section
from earmark.registry.journal import PLACE, Flat, Journal
from earmark.registry.pipeline import pipeline_key, who
from earmark.storage.files import read_table

if TYPE_CHECKING:
    from earmark.stages import Stage

log = logging.getLogger(__name__)
MLFLOW_CHARACTERS = 36  # of a dataset's digest


def tracked(
    call: Callable[[], dict[str, float]], stage: "Stage", params: Params, workspace: Path, paths: dict[str, Path]
) -> dict[str, float]:
    """Run a stage's call; its figures, settings, report files and corpora end up in MLflow, however the call ends.

    `paths` are the stage's inputs and its output.
    """
    about = {
        "pipeline": pipeline_key(),
        "commit": commit(workspace),
        "who": who(),
        "params": flatten({name: getattr(params, name) for name in stage.sections}),
        "tracking": params.tracking.model_dump(mode="json"),
    }
    journal = Journal(workspace / PLACE, stage.name, about)
    sender = _start_sender(journal.folder)
    status, metrics = "FAILED", {}
    try:
        with _listening(journal):
            metrics = call()
        journal.event(metrics)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        _end(journal, status, paths)
        _wait(sender, journal.folder, params.tracking.wait_seconds)
    return metrics


def _end(journal: Journal, status: str, paths: dict[str, Path]) -> None:
    """Close the journal; what keeps it from being complete costs the stage nothing."""
    try:
        if status == "FINISHED":
            journal.end(status, datasets(paths["protocol"]) if "protocol" in paths else [], [paths["output"]])
        else:
            journal.end(status)
    except (OSError, InputError) as error:
        log.warning("tracking: the journal %s is not complete: %s", journal.folder, error)


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Settings by dotted path, as text."""
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if pairs is None or not value:
        return {prefix: str(value)}
    return {path: text for key, item in pairs for path, text in flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()}


def datasets(protocol: Path) -> list[dict[str, str]]:
    """Name, digest and trials of every corpus in the table of trials."""
    table = read_table(protocol)
    return [
        {"name": str(name), "digest": digest(rows)[:MLFLOW_CHARACTERS], "trials": str(len(rows))} for name, rows in table.groupby("corpus")
    ]


class _Listener(logging.Handler):
    """Writes log records that carry `metrics` (and `step`, `series`) into a journal."""

    def __init__(self, journal: Journal):
        super().__init__(logging.INFO)
        self.journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        metrics: Flat | None = getattr(record, "metrics", None)
        if metrics is not None:
            try:
                self.journal.event(metrics, getattr(record, "step", 0), getattr(record, "series", ""))
            except OSError:
                self.handleError(record)


@contextmanager
def _listening(journal: Journal):
    logger, listener = logging.getLogger("earmark"), _Listener(journal)
    level = logger.level
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)  # a program that shows warnings alone still tracks figures
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


def _start_sender(folder: Path) -> subprocess.Popen:
    """A process that outlives this one, so that a stage that is killed is recorded too."""
    with (folder / "sender.log").open("wb") as said:
        command = [sys.executable, "-P", "-m", "earmark.registry.sender", str(folder.resolve())]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)


def _wait(sender: subprocess.Popen, folder: Path, seconds: float) -> None:
    from rich.console import Console

    try:
        with Console(stderr=True).status("sending to MLflow"):
            code = sender.wait(seconds)
    except subprocess.TimeoutExpired:
        log.info("tracking: still being sent to MLflow in the background; `earmark sync` tells")
        return
    if code:
        said = (folder / "sender.log").read_text().splitlines() or [f"the sender ended with {code}"]
        log.warning("tracking: %s; kept in %s, `earmark sync` sends it", said[-1], folder)
