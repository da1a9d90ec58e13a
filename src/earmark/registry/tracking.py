"""A stage with tracking around it: its metrics go to MLflow as they come, and its reports when its output is complete.

A thread beside the stage imports MLflow, which takes seconds, and talks to its server; what goes wrong there costs one warning.
"""

import logging
import posixpath
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.model.provenance import commit, data, digest
from earmark.params import Section, TrackingParams
from earmark.registry.publish import PLACE, Record, Row, Task, dataset, output_digest, publish_locked, run_of, send_rows
from earmark.registry.server import Home, connected, environment, now, who
from earmark.storage.files import file_digest, read_table

log = logging.getLogger(__name__)
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
    trials = file_digest(paths["protocol"]) if "protocol" in paths else ""
    task = Task(stage, Home.of(workspace), now(), commit(workspace), who(), flatten(dict(sections)), trials, dict(options))
    live = Live(tracking, task)
    with environment(tracking):
        try:
            with _listening(live):
                metrics = call()
        except BaseException as error:
            live.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", min(FAILED_SECONDS, tracking.wait_seconds))
            raise
        live.record = _record(live, metrics, workspace, paths)
        _finish(live, tracking.wait_seconds)
    return metrics


def _record(live: "Live", metrics: Mapping[str, float], workspace: Path, paths: Mapping[str, Path]) -> Path | None:
    """Keep what a complete output leaves; a disk that is full costs the stage nothing."""
    try:
        found = datasets(paths["protocol"], data(workspace)) if "protocol" in paths else []
        last = {name: float(value) for name, value in metrics.items()}
        record = Record(live.task, output_digest(paths["output"]), now(), last, live.rows, found)
        return record.write((workspace / PLACE).resolve(), paths["output"])
    except (OSError, InputError) as error:
        log.warning("tracking: nothing of %s is kept for MLflow: %s", live.task.stage, error)
        return None


def _finish(live: "Live", seconds: float) -> None:
    from rich.console import Console

    with Console(stderr=True).status("sending to MLflow"):
        live.end("FINISHED", seconds)
    if live.thread.is_alive():
        log.info("tracking: not all is sent to MLflow yet; `earmark sync` sends what is left in %s", PLACE)
    elif live.error:
        log.warning("tracking: %s; kept in %s, `earmark sync` sends it", live.error, PLACE)


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
    return [dataset(str(name), digest(rows), len(rows), source) for name, rows in read_table(protocol).groupby("corpus")]


class Live(logging.Handler):
    """Takes log records of a running stage that carry `metrics` (and `step`, `series`).

    A thread sends them, and never keeps the process from ending; what could not be sent meanwhile is in the stage's record.
    """

    def __init__(self, tracking: TrackingParams, task: Task):
        super().__init__(logging.INFO)
        self.tracking, self.task = tracking, task
        self.rows: list[Row] = []
        self.record: Path | None = None
        self.status, self.error = "RUNNING", None
        self._sent = 0
        self._news: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: there are rows; False: the stage has ended
        self.thread = threading.Thread(target=self._run, name=f"tracking {task.stage}", daemon=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Take the metrics of a log record."""
        metrics: Mapping[str, float] | None = getattr(record, "metrics", None)
        if metrics is not None:
            series, step, time = getattr(record, "series", ""), getattr(record, "step", 0), now()
            self.rows += [Row(posixpath.join(series, name), float(value), time, step) for name, value in metrics.items()]
            self._news.put(True)

    def end(self, status: str, seconds: float) -> None:
        """Send what is left and end the run, and wait for that."""
        self.status = status
        self._news.put(False)
        self.thread.join(seconds)

    def _run(self) -> None:
        self._try(self._send)
        while self._news.get():
            if self._news.empty():
                self._try(self._send)
        self._try(self._conclude)

    def _try(self, action: Callable[[], object]) -> None:
        """Do what MLflow may fail at; whatever it raises is none of the stage's."""
        try:
            action()
            self.error = None
        except Exception as error:
            self.error = str(error)

    def _send(self) -> None:
        rows = self.rows[self._sent :]
        with connected(self.tracking, self.task.home) as store:
            run = run_of(store, self.task)
            if run is not None:
                store.client.update_run(run.info.run_id, status="RUNNING")
                send_rows(store, run, rows)
        self._sent += len(rows)

    def _conclude(self) -> None:
        if self.record:
            publish_locked(self.tracking, self.record)
            return
        with connected(self.tracking, self.task.home) as store:
            run = run_of(store, self.task)
            if run is not None:
                self.task.home.conclude(store, run, self.status)


@contextmanager
def _listening(live: Live) -> Iterator[None]:
    logger = logging.getLogger("earmark")
    level = logger.level
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)  # a program that shows warnings alone still tracks metrics
    logger.addHandler(live)
    live.thread.start()
    try:
        yield
    finally:
        logger.removeHandler(live)
        logger.setLevel(level)
