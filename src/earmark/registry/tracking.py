"""A stage with tracking around it: its metrics go to MLflow as they come, and its reports when its output is complete.

A thread beside the stage imports MLflow, which takes seconds, and talks to its server; what goes wrong there costs one warning.
"""

import logging
import posixpath
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.model.provenance import commit, data, digest
from earmark.params import Section, TrackingParams
from earmark.registry.pipeline import Home, now, who
from earmark.registry.publish import BUSY, SENT, connected_home, publish_locked, run_of, send_rows
from earmark.registry.record import PLACE, Record, Row, Task, flat_metrics, output_digest
from earmark.registry.server import client_environment, environment
from earmark.storage.files import file_digest, read_table

log = logging.getLogger(__name__)
MLFLOW_CHARACTERS = 36  # of a dataset's digest
FAILED_SECONDS = 5  # that a stage which failed waits until that is sent


def tracked(
    call: Callable[[], dict[str, float]],
    stage: str,
    sections: Mapping[str, Any],
    tracking: TrackingParams,
    workspace: Path,
    paths: Mapping[str, Path],
    options: Mapping[str, str],
) -> dict[str, float]:
    """Run a stage's call; its metrics, params, reports and corpora end up in MLflow.

    `call` has imported what it needs, since another thread imports MLflow meanwhile. `sections` are the params that it uses, `paths` its
    inputs and its output. A stage that fails is shown as failed where the server was there meanwhile.
    """
    task = _task(stage, sections, workspace, paths, options)
    with environment(client_environment(tracking)):
        live = Live(tracking, task)
        live.start()
        try:
            with _listening(live):
                metrics = call()
        except BaseException as error:
            live.end(End("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"))
            live.join(min(FAILED_SECONDS, tracking.wait_seconds))
            raise
        live.end(End("FINISHED", _record(live, metrics, workspace, paths)))
        _wait(live, tracking.wait_seconds)
    return metrics


def _task(stage: str, sections: Mapping[str, Any], workspace: Path, paths: Mapping[str, Path], options: Mapping[str, str]) -> Task:
    trials = file_digest(paths["protocol"]) if "protocol" in paths else ""
    return Task(stage, Home.of(workspace), now(), commit(workspace), who(), flatten(dict(sections)), trials, dict(options))


def _record(live: "Live", metrics: Mapping[str, float], workspace: Path, paths: Mapping[str, Path]) -> Path | None:
    """Keep what a complete output leaves; a disk that is full costs the stage nothing."""
    try:
        found = datasets(paths["protocol"], data(workspace)) if "protocol" in paths else []
        record = Record(live.task, output_digest(paths["output"]), now(), flat_metrics(metrics), live.rows, found)
        return record.write((workspace / PLACE).resolve(), paths["output"])
    except (OSError, InputError) as error:
        log.warning("tracking: nothing of %s is kept for MLflow: %s", live.task.stage, error)
        return None


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Settings by dotted path, as text."""
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if pairs is None or not value:
        return {prefix: str(value)}
    return {path: text for key, item in pairs for path, text in flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()}


def datasets(protocol: Path, source: Any = None) -> list[dict[str, str]]:
    """Name, digest, trials and source of every corpus in the table of trials."""
    groups = read_table(protocol).groupby("corpus")
    return [dataset(str(name), digest(rows), len(rows), source) for name, rows in groups]


def dataset(name: str, trials_digest: str, trials: int, source: Any) -> dict[str, str]:
    """A corpus as MLflow shows it; `source` is where all data came from, by folder, or the digest that DVC has of them."""
    import json

    known = source.get(name, source) if isinstance(source, dict) else {"dvc": source} if source else {}
    return {"name": name, "digest": trials_digest[:MLFLOW_CHARACTERS], "trials": str(trials), "source": json.dumps(known, sort_keys=True)}


@dataclass(frozen=True)
class End:
    """How a stage ended, and its record where its output is complete."""

    status: str
    record: Path | None = None


class Live(threading.Thread):
    """Sends the rows of a running stage; ends with the stage, and never keeps the process from ending."""

    def __init__(self, tracking: TrackingParams, task: Task):
        super().__init__(name=f"tracking {task.stage}", daemon=True)
        self.tracking, self.task = tracking, task
        self.rows: list[Row] = []
        self.error: str | None = None
        self._waiting: queue.SimpleQueue[Row | End] = queue.SimpleQueue()

    def add(self, rows: list[Row]) -> None:
        """Take rows of the stage."""
        self.rows += rows
        for row in rows:
            self._waiting.put(row)

    def end(self, end: End) -> None:
        """Send what is left, and end."""
        self._waiting.put(end)

    def run(self) -> None:
        """Send until the end comes; what could not be sent meanwhile is in the record."""
        rows: list[Row] = []
        self._try(self._send, rows)
        while not isinstance(found := self._waiting.get(), End):
            rows.append(found)
            if self._waiting.empty() and self._try(self._send, rows):
                rows = []
        self._try(self._finish, found)

    def _try(self, action: Callable[[Any], None], subject: Any) -> bool:
        """Whether it could be done; whatever MLflow raises is none of the stage's."""
        try:
            action(subject)
        except Exception as error:
            self.error = str(error)
            return False
        self.error = None
        return True

    def _send(self, rows: list[Row]) -> None:
        with connected_home(self.tracking, self.task.home) as store:
            run = run_of(store, self.task)
            if run is not None:
                store.client.update_run(run.info.run_id, status="RUNNING")
                send_rows(store, run, rows)

    def _finish(self, end: End) -> None:
        if end.record:
            outcome = publish_locked(self.tracking, end.record)
            if outcome not in (SENT, BUSY):
                raise InputError(outcome)
        elif end.status != "FINISHED":
            with connected_home(self.tracking, self.task.home) as store:
                run = run_of(store, self.task)
                if run is not None:
                    self.task.home.conclude(store, run, end.status)


class _Listener(logging.Handler):
    """Takes log records that carry `metrics` (and `step`, `series`)."""

    def __init__(self, live: Live):
        super().__init__(logging.INFO)
        self.live = live

    def emit(self, record: logging.LogRecord) -> None:
        metrics: Mapping[str, float] | None = getattr(record, "metrics", None)
        if metrics is not None:
            series, step, time = getattr(record, "series", ""), getattr(record, "step", 0), now()
            self.live.add([Row(posixpath.join(series, name), value, time, step) for name, value in flat_metrics(metrics).items()])


@contextmanager
def _listening(live: Live):
    logger, listener = logging.getLogger("earmark"), _Listener(live)
    level = logger.level
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)  # a program that shows warnings alone still tracks metrics
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


def _wait(live: Live, seconds: float) -> None:
    from rich.console import Console

    with Console(stderr=True).status("sending to MLflow"):
        live.join(seconds)
    if live.is_alive():
        log.info("tracking: not all is sent to MLflow yet; `earmark sync` sends what is left in %s", PLACE)
    elif live.error:
        log.warning("tracking: %s; kept in %s, `earmark sync` sends it", live.error, PLACE)
