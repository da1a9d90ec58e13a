"""Complete outputs to MLflow. Publishing one twice changes nothing: its run is found again, and equal metrics are stored once.

A task has one run for each output that it came to. A stage that was killed and goes on has the same task, so the same run.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.pipeline import PARENT, Home, only_run, runs
from earmark.registry.record import LOCK, REPORTS, Record, Row, Task, read, records
from earmark.registry.server import Store, UnreachableError, connected
from earmark.storage.files import remove
from earmark.storage.locks import locked

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

SENT, BUSY = "sent", "being sent by another process"
TASK, OUTPUT, STAGE = "earmark.task", "earmark.output", "earmark.stage"
PARAM_CHARACTERS, PARAMS_A_REQUEST, METRICS_A_REQUEST = 6000, 100, 1000  # MLflow's limits


@contextmanager
def connected_home(tracking: TrackingParams, home: Home) -> Iterator[Store]:
    """An open store, at the experiment of the home. Errors: as `connected`."""
    with connected(tracking, home.experiment, home.workspace) as store:
        yield Store(store.client, home.parent_run(store).info.experiment_id) if home.parent else store


def publish(store: Store, folder: Path) -> str:
    """Send all of a record, end its run, and remove the record; return the run's id."""
    record = read(folder)
    run = run_of(store, record.task, record.output)
    assert run is not None
    send_rows(store, run, [*record.rows, *_last_rows(record, "")])
    _send_last_to_parent(store, run, record)
    if record.datasets:
        store.client.log_inputs(run.info.run_id, [dataset_input(**dataset) for dataset in record.datasets])
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
    run = only_run(store, TASK, key, {PARENT: parent, **_tags(task)}, _label(task), task.started)
    if run.data.tags[PARENT] != parent:  # one of two parents that were made at once, and not the one that stayed
        store.client.set_tag(run.info.run_id, PARENT, parent)
        run = store.client.get_run(run.info.run_id)
    log_params(store, run, task.params)
    return run


def _tags(task: Task) -> dict[str, str]:
    """The stage, and what MLflow shows as a run's source and user."""
    tags = {STAGE: task.stage, "mlflow.source.name": f"earmark {task.stage}", "mlflow.user": task.who}
    return tags | ({"mlflow.source.git.commit": task.commit} if task.commit else {})


def _label(task: Task) -> str:
    return "/".join([task.stage, *task.options.values()])


def log_params(store: Store, run: "Run", params: dict[str, str]) -> None:
    """Log those params that the run does not have."""
    from mlflow.entities import Param

    missing = [
        Param(metric_name(name), text[:PARAM_CHARACTERS]) for name, text in params.items() if metric_name(name) not in run.data.params
    ]
    for some in _batches(missing, PARAMS_A_REQUEST):
        store.client.log_batch(run.info.run_id, params=some)


def send_rows(store: Store, run: "Run", rows: Sequence[Row], model_id: str | None = None) -> None:
    """Log those rows that the run does not have: epochs by their step, others by their value."""
    from mlflow.entities import Metric

    named = [row._replace(key=metric_name(row.key)) for row in rows]
    steps = {key: _steps(store, run, key) for key in {row.key for row in named if row.step}}
    new = [row for row in named if (row.step not in steps[row.key] if row.step else run.data.metrics.get(row.key) != row.value)]
    for some in _batches([Metric(row.key, row.value, row.time, row.step, model_id) for row in new], METRICS_A_REQUEST):
        store.client.log_batch(run.info.run_id, metrics=some)


def _steps(store: Store, run: "Run", key: str) -> set[int]:
    return {metric.step for metric in store.client.get_metric_history(run.info.run_id, key)}


def _last_rows(record: Record, prefix: str) -> list[Row]:
    return [Row(posixpath.join(prefix, name), value, record.ended) for name, value in record.metrics.items()]


def _send_last_to_parent(store: Store, run: "Run", record: Record) -> None:
    parent = store.client.get_run(run.data.tags[PARENT])
    send_rows(store, parent, _last_rows(record, _label(record.task)))


def metric_name(name: str) -> str:
    """A name that MLflow takes; other characters become their code, so that two names never become one."""
    return re.sub(r"[^\w\-. /]", lambda match: f"_u{ord(match[0]):04x}_", name)


def dataset_input(name: str, digest: str, trials: str, source: str = "{}") -> "DatasetInput":
    """A corpus with the digest of its trials and where its recordings came from."""
    from mlflow.entities import Dataset, DatasetInput

    return DatasetInput(Dataset(name, digest, "earmark", source, profile=json.dumps({"trials": trials})), [])


def _batches(items: list[Any], size: int) -> list[list[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def sync(place: Path, tracking: TrackingParams) -> dict[str, str]:
    """Publish all records below `place`; return what became of them, by name: SENT, BUSY, or why not.

    Errors: UnreachableError when the server is away; nothing is lost then.
    """
    return {folder.name: publish_locked(tracking, folder) for folder in records(place)}


def publish_locked(tracking: TrackingParams, folder: Path) -> str:
    """Publish a record unless another process does; return what became of it. Errors: as `sync`."""
    with locked(folder / LOCK) as free:
        if not free:
            return BUSY
        try:
            with connected_home(tracking, read(folder).task.home) as store:
                publish(store, folder)
        except UnreachableError:
            raise
        except InputError as error:
            return str(error)
    return SENT
