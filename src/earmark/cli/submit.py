"""The command `earmark submit`."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from earmark import InputError
from earmark.kubeflow.compiled import arguments, read_pipeline
from earmark.kubeflow.follow import failures, follow, places, tasks
from earmark.kubeflow.submit import Server, read_cron

INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended


@dataclass(frozen=True)
class Order:
    """A run or a schedule of runs to start: where, under which names, with which arguments."""

    pipeline: Path
    namespace: str | None = None
    experiment: str = "earmark"
    run_name: str | None = None
    account: str | None = None
    arguments: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    recordings: str | None = None
    upload: bool = False
    every: str | None = None


def submit(endpoint: str, order: Order | None, run_id: str | None, *, watch: bool, seconds: float) -> int:
    """Start a run, or take one that is there, and follow it; return the exit code: 0 it succeeded, 1 not, 130 interrupted."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if (order is None) == (run_id is None):
        raise InputError("give either a compiled pipeline to start, or --follow with a run's id")
    if order:
        run_id = _start(endpoint, order, console)
    if not run_id:
        return 0
    again = f"earmark submit --follow {run_id} --endpoint {endpoint}"
    if not watch:
        console.print(f"to follow it: {again}")
        return 0
    server = Server(endpoint)
    try:
        run = follow(server, run_id, console, seconds)
    except KeyboardInterrupt:
        console.print(f"no longer followed; the run goes on. To follow it again: {again}")
        return INTERRUPTED
    _tell(server, run, console)
    return 0 if run.state == "SUCCEEDED" else 1


def _start(endpoint: str, order: Order, console: Console) -> str | None:
    """Start a run and return its id, or a schedule. Wrong arguments are found before the server is asked for anything."""
    pipeline = read_pipeline(order.pipeline)
    given = arguments(pipeline, list(order.arguments), list(order.changes), order.recordings)
    cron = read_cron(order.every) if order.every else None
    server = Server(endpoint)
    server.enter(order.namespace)
    source = server.upload(pipeline) if order.upload else {"pipeline_package_path": str(pipeline.path)}
    if order.upload:
        console.print(f"pipeline {pipeline.name}, version {source['version_id']}")
    experiment = server.experiment(order.experiment)
    if cron:
        name = order.run_name or pipeline.name
        schedule = server.schedule(experiment, name, source, given, order.account, cron)
        console.print(f"schedule {schedule}: {name}, at {order.every} (UTC)\npage: {server.page('recurringrun', schedule)}")
        return None
    name = order.run_name or f"{pipeline.name} {datetime.now():%Y-%m-%d %H:%M:%S}"
    run_id = server.start(experiment, name, source, given, order.account)
    console.print(f"run {run_id}: {name}\npage: {server.page('runs', run_id)}")
    return run_id


def _tell(server: Server, run: Any, console: Console) -> None:
    """How the run ended, what failed, and where the results are."""
    console.print(f"run {run.run_id}: {run.state}{f': {run.error.message}' if run.error and run.error.message else ''}")
    for name, error, pod in failures(run):
        console.print(f"failed: {name}: {error or 'its log says why'}{f' (kubectl logs {pod} -c main)' if pod else ''}")
    if run.state == "CANCELED":
        console.print("somebody cancelled it; what its steps stored is taken from the store when it is submitted again")
    if run.state == "SUCCEEDED" and any(task.display_name == "gate" for task in tasks(run)):
        promoted = any(task.display_name == "promote" and task.state == "SUCCEEDED" for task in tasks(run))
        console.print("the model is champion now" if promoted else "the gate did not pass: the log of its step names the rules that failed")
    for place, address in {"page": server.page("runs", run.run_id), **places(run)}.items():
        console.print(f"{place}: {address}")
