"""Journals to MLflow. Sending one twice changes nothing: runs are found again by the journal's id, equal figures are stored once.

Run as a program, it sends one journal while its stage runs: `python -m earmark.registry.sender FOLDER`.
"""

import os
import posixpath
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.journal import Written, journals, locked
from earmark.registry.lock import lock
from earmark.registry.server import Store, UnreachableError, connected, only_run, runs

if TYPE_CHECKING:
    from mlflow.entities import Run


JOURNAL, PIPELINE, PARENT = "earmark.journal", "earmark.pipeline", "mlflow.parentRunId"
LOOK_SECONDS, SEND_SECONDS, RETRY_SECONDS = 0.1, 1, 30  # whether the stage has ended, what it said since, a server that is away
PARAM_CHARACTERS, BATCH, FIGURES = 6000, 100, 1000  # MLflow's limits: of a value, of params and of figures in a request


@dataclass
class Sending:
    """One journal on its way; `offset` is how far its events are sent."""

    journal: Written
    offset: int = 0
    run: "Run | None" = None
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        """Read what the journal is about, once."""
        self.about = self.journal.about

    def progress(self, store: Store) -> None:
        """Make the run, and send the events that came since."""
        if self.run is None:
            self.run = start(store, self.about)
        events, offset = self.journal.events(self.offset)
        log_events(store, self.run, events, self.about["stage"])
        self.offset = offset

    def finish(self, store: Store) -> None:
        """Send all that is left, end the run, and remove the journal."""
        self.progress(store)
        assert self.run is not None
        ending = self.journal.ending or {"status": "KILLED", "ended": self._last_event(), "datasets": []}
        if ending["datasets"]:
            log_datasets(store, self.run, ending["datasets"])
        if (self.journal.folder / "artifacts").is_dir():
            store.client.log_artifacts(self.run.info.run_id, str(self.journal.folder / "artifacts"))
        for run_id in (self.run.info.run_id, self.run.data.tags[PARENT]):
            store.client.set_terminated(run_id, ending["status"], ending["ended"])
        self.journal.remove()

    def _last_event(self) -> int:
        events, _ = self.journal.events()
        return events[-1]["time"] if events else self.about["started"]


def start(store: Store, about: dict[str, Any]) -> "Run":
    """The stage's run below that of the pipeline, with its settings."""
    from mlflow.entities import Param

    parent = parent_run(store, about["pipeline"], about["started"])
    tags = {PARENT: parent.info.run_id, "earmark.stage": about["stage"], **source_tags(about)}
    run = only_run(store, JOURNAL, about["id"], about["started"], tags, about["stage"])
    params = [Param(name, value[:PARAM_CHARACTERS]) for name, value in about["params"].items()]
    for some in _batches(params, BATCH):
        store.client.log_batch(run.info.run_id, params=some)
    store.client.update_run(parent.info.run_id, status="RUNNING")
    return run


def source_tags(about: dict[str, Any]) -> dict[str, str]:
    """What MLflow shows as a run's source and user."""
    tags = {"mlflow.source.name": f"earmark {about['stage']}", "mlflow.user": about["who"]}
    return tags | ({"mlflow.source.git.commit": about["commit"]} if about["commit"] else {})


def parent_run(store: Store, pipeline: str, started: int) -> "Run":
    """The pipeline's run: one, however many stages ask for it at once."""
    found = runs(store, PIPELINE, pipeline)
    if found:
        return found[0]
    name = f"pipeline {time.strftime('%Y-%m-%d %H:%M', time.localtime(started / 1000))}"
    with lock(store.client, "tracking", lease_seconds=30):
        return only_run(store, PIPELINE, pipeline, started, {}, name)


def log_events(store: Store, run: "Run", events: list[dict[str, Any]], stage: str) -> None:
    """Figures of each instant; a stage's last ones, which have no series, go to the pipeline's run too."""
    from mlflow.entities import Metric

    rows = [
        (event, Metric(metric_name(posixpath.join(event["series"], name)), value, event["time"], event["step"]))
        for event in events
        for name, value in event["metrics"].items()
    ]
    last = [Metric(f"{stage}/{metric.key}", metric.value, metric.timestamp, metric.step) for event, metric in rows if not event["series"]]
    for run_id, metrics in ((run.info.run_id, [metric for _, metric in rows]), (run.data.tags[PARENT], last)):
        for some in _batches(metrics, FIGURES):
            store.client.log_batch(run_id, metrics=some)


def metric_name(name: str) -> str:
    """A name that MLflow takes; other characters become their code, so that two names never become one."""
    return re.sub(r"[^\w\-. /]", lambda match: f"_u{ord(match[0]):04x}_", name)


def log_datasets(store: Store, run: "Run", datasets: list[dict[str, str]]) -> None:
    """Corpora with the digests of their trials."""
    from mlflow.entities import Dataset, DatasetInput

    inputs = [
        DatasetInput(Dataset(item["name"], item["digest"], "earmark", "{}", profile=f'{{"trials": {item["trials"]}}}'), [])
        for item in datasets
    ]
    store.client.log_inputs(run.info.run_id, inputs)


def _batches(items: list, size: int) -> list[list]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def follow(folder: Path) -> None:
    """Send a journal while its stage runs, and the rest when it has ended. Errors: InputError when that could not be done."""
    sending = Sending(Written(folder))
    tracking, again = TrackingParams.model_validate(sending.about["tracking"]), 0.0
    with locked(folder / "sender") as free:
        while free and sending.journal.running:
            if time.monotonic() >= again:
                again = time.monotonic() + _progress(sending, tracking)
            time.sleep(LOOK_SECONDS)
        if free:
            with connected(tracking) as store:
                sending.finish(store)


def _progress(sending: Sending, tracking: TrackingParams) -> float:
    """Send what came since; returns the seconds until the next time. What keeps it from being sent shows at the end."""
    try:
        with connected(tracking) as store:
            sending.progress(store)
    except InputError:
        return RETRY_SECONDS
    return SEND_SECONDS


@dataclass
class Synced:
    """What became of the journals, by their folders' names."""

    sent: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)  # still running, or being sent by another process
    failed: dict[str, str] = field(default_factory=dict)


def sync(place: Path, tracking: TrackingParams) -> Synced:
    """Send all journals below `place`. Errors: UnreachableError when the server is away; nothing is lost then."""
    done = Synced()
    for journal in journals(place):
        name = journal.folder.name
        with locked(journal.folder / "sender") as free:
            if not free or journal.running:
                done.busy.append(name)
                continue
            try:
                with connected(tracking) as store:
                    Sending(journal).finish(store)
                done.sent.append(name)
            except UnreachableError:
                raise
            except InputError as error:
                done.failed[name] = str(error)
    return done


def main() -> None:
    """Entry point of the process beside a stage: quiet, and last in line for the processor."""
    os.nice(10)
    try:
        follow(Path(sys.argv[1]))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
