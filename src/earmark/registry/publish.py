"""Complete outputs to MLflow. Publishing one twice changes nothing: its run is found again, and equal metrics are stored once.

A task has one run for each output that it came to. A stage that was killed and goes on has the same task, so the same run.
A complete output leaves a record until all of it is published: a folder below `.earmark/unpublished/` with record.json, reports/, and
`lock`, which the process that publishes it holds.
"""

import hashlib
import json
import posixpath
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic.dataclasses import dataclass

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.server import PARENT, Home, Store, UnreachableError, connected, only_run, runs
from earmark.storage.files import complete, file_digest, remove
from earmark.storage.locks import locked

if TYPE_CHECKING:
    from mlflow.entities import Run

PLACE = Path(".earmark/unpublished")
RECORD, REPORTS, LOCK = "record.json", "reports", "lock"
LARGEST = 50_000_000  # bytes of a file worth publishing; tables and weights belong to DVC and the registry
KINDS = frozenset((".csv", ".json", ".txt", ".png", ".svg", ".html"))
SENT, BUSY = "sent", "being sent by another process"
TASK, OUTPUT, STAGE = "earmark.task", "earmark.output", "earmark.stage"
DIGEST_CHARACTERS = 36  # of a dataset, which MLflow holds


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
    """A task whose output is complete; pydantic reads it from JSON, with all that is nested in it."""

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
            for name, file in _files(output).items():
                if file.suffix in KINDS and file.stat().st_size <= LARGEST:
                    (aside / REPORTS / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, aside / REPORTS / name)
            (aside / RECORD).write_text(json.dumps(asdict(self)))  # with NaN, which a metric may be
        return folder


def read(folder: Path) -> Record:
    """Read a record. Errors: InputError when it is not whole."""
    try:
        return Record(**json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / RECORD} is not readable ({error}): remove {folder} and run its stage again") from error


def records(place: Path) -> list[Path]:
    """Folders of the records below `place`, by name."""
    return [path.parent for path in sorted(place.glob(f"[!.]*/{RECORD}"))]


def output_digest(output: Path) -> str:
    """SHA-256 of an output's files and their names."""
    found = [f"{name} {file_digest(file)}" for name, file in _files(output).items()]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _files(output: Path) -> dict[str, Path]:
    """Files of an output, a folder or itself a file, by name."""
    if not output.is_dir():
        return {output.name: output}
    return {str(path.relative_to(output)): path for path in sorted(output.rglob("*")) if path.is_file()}


def publish(store: Store, folder: Path) -> str:
    """Send all of a record, end its run, and remove the record; return the run's id."""
    record = read(folder)
    run = run_of(store, record.task, record.output)
    assert run is not None
    last = [Row(name, value, record.ended) for name, value in record.metrics.items()]
    send_rows(store, run, [*record.rows, *last])
    label = "/".join([record.task.stage, *record.task.options.values()])
    parent = store.client.get_run(run.data.tags[PARENT])
    send_rows(store, parent, [row._replace(key=posixpath.join(label, row.key)) for row in last])
    log_datasets(store, run, record.datasets)
    store.client.log_artifacts(run.info.run_id, str(folder / REPORTS))
    store.client.set_tag(run.info.run_id, OUTPUT, record.output)
    record.task.home.conclude(store, run, "FINISHED", record.ended)
    remove(folder)
    return run.info.run_id


def run_of(store: Store, task: Task, output: str | None = None) -> "Run | None":
    """The run of a task and this output, with the task's params; while the output is not known, None if another is published already."""
    parent = task.home.parent_run(store).info.run_id
    key, found = task.key, runs(store, TASK, task.key)
    if found and found[0].data.tags.get(OUTPUT) not in (None, output):
        if output is None:
            return None
        key = f"{task.key}-{output}"
    tags = stage_tags(task.stage, parent, task.who) | ({"mlflow.source.git.commit": task.commit} if task.commit else {})
    run = only_run(store, TASK, key, tags, "/".join([task.stage, *task.options.values()]), task.started)
    if run.data.tags[PARENT] != parent:  # one of two parents that were made at once, and not the one that stayed
        store.client.set_tag(run.info.run_id, PARENT, parent)
        run = store.client.get_run(run.info.run_id)
    log_params(store, run, task.params)
    return run


def stage_tags(stage: str, parent: str, user: str) -> dict[str, str]:
    """The stage and its parent, and what MLflow shows as a run's source and user."""
    return {PARENT: parent, STAGE: stage, "mlflow.source.name": f"earmark {stage}", "mlflow.user": user}


def log_params(store: Store, run: "Run", params: dict[str, str]) -> None:
    """Log those params that the run does not have."""
    from mlflow.entities import Param

    named = {metric_name(name): text for name, text in params.items()}
    store.client.log_batch(run.info.run_id, params=[Param(name, named[name]) for name in named if name not in run.data.params])


def send_rows(store: Store, run: "Run", rows: Sequence[Row], model_id: str | None = None) -> None:
    """Log those rows that the run does not have: epochs by their step, others by their value."""
    from mlflow.entities import Metric

    named = [row._replace(key=metric_name(row.key)) for row in rows]
    histories = {key: store.client.get_metric_history(run.info.run_id, key) for key in {row.key for row in named if row.step}}
    steps = {key: {metric.step for metric in history} for key, history in histories.items()}
    new = [row for row in named if (row.step not in steps[row.key] if row.step else run.data.metrics.get(row.key) != row.value)]
    store.client.log_batch(run.info.run_id, metrics=[Metric(row.key, row.value, row.time, row.step, model_id) for row in new])


def metric_name(name: str) -> str:
    """A name that MLflow takes; other characters become their code, so that two names never become one."""
    return re.sub(r"[^\w\-. /]", lambda match: f"_u{ord(match[0]):04x}_", name)


def dataset(name: str, digest: str, trials: int, source: Any) -> dict[str, str]:
    """A corpus as MLflow shows it; `source` is where all data came from, by folder, or the digest that DVC has of them."""
    known = source.get(name, source) if isinstance(source, dict) else {"dvc": source} if source else {}
    return {"name": name, "digest": digest[:DIGEST_CHARACTERS], "trials": str(trials), "source": json.dumps(known, sort_keys=True)}


def log_datasets(store: Store, run: "Run", datasets: Sequence[dict[str, str]]) -> None:
    """Log corpora as a run's inputs; those that it has stay one."""
    from mlflow.entities import Dataset, DatasetInput

    if not datasets:
        return  # MLflow refuses an empty list
    found = [
        Dataset(one["name"], one["digest"], "earmark", one["source"], profile=json.dumps({"trials": one["trials"]})) for one in datasets
    ]
    store.client.log_inputs(run.info.run_id, [DatasetInput(one, []) for one in found])


def sync(place: Path, tracking: TrackingParams) -> dict[str, str]:
    """Publish all records below `place`; return what became of them, by name: SENT, BUSY, or why not.

    Errors: UnreachableError when the server is away; nothing is lost then.
    """
    return {folder.name: _outcome(tracking, folder) for folder in records(place)}


def _outcome(tracking: TrackingParams, folder: Path) -> str:
    try:
        return SENT if publish_locked(tracking, folder) else BUSY
    except UnreachableError:
        raise
    except InputError as error:
        return str(error)


def publish_locked(tracking: TrackingParams, folder: Path) -> bool:
    """Publish a record, unless another process does. Errors: InputError with MLflow's words when it refuses the record."""
    with locked(folder / LOCK) as free:
        if free:
            with connected(tracking, read(folder).task.home) as store:
                publish(store, folder)
    return free
