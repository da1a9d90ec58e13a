"""A run watched to its end: a line for each change of a task, and at last what failed and where the results are."""

import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from earmark.kubeflow.compiled import steps
from earmark.kubeflow.submit import Away, Server
from earmark.storage.redact import shown

log = logging.getLogger(__name__)
ENDS = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
PATIENCE = 20  # questions without an answer before the watcher gives up; the run goes on


class Watcher:
    """Prints each change of a task once. Tasks are told apart by their ids: a loop has many of one name."""

    def __init__(self, console: Console):
        self.console = console
        self.states: dict[str, str] = {}  # by id
        self.ids: dict[str, list[str]] = defaultdict(list)  # by name, in the order in which they were seen

    def show(self, run: Any) -> None:
        """Print what changed since the last time."""
        names = known_steps(run)
        for task in sorted(tasks(run), key=lambda one: str(one.create_time)):
            if task.state and self.states.get(task.task_id) != task.state and _is_shown(task, names):
                self.states[task.task_id] = task.state
                self.console.print(f"{self._name(task)}: {task.state}{_seconds(task)}", markup=False, highlight=False, soft_wrap=True)

    def _name(self, task: Any) -> str:
        ids = self.ids[task.display_name]
        if task.task_id not in ids:
            ids.append(task.task_id)
        number = 1 + ids.index(task.task_id)
        return task.display_name if number == 1 else f"{task.display_name} #{number}"


def _is_shown(task: Any, names: set[str]) -> bool:
    """Whether a task is a step, not one of Kubeflow's own pods around it; a step fails with these."""
    name = task.display_name or ""
    return name in names or (task.state == "FAILED" and name.removesuffix("-driver") in names)


def follow(server: Server, run_id: str, console: Console, seconds: float) -> Any:
    """Ask every so many seconds until the run has ended; return it. Errors: as the server's, after some patience."""
    watcher, failures = Watcher(console), 0
    while True:
        try:
            run, failures = server.run(run_id), 0
            watcher.show(run)
            if run.state in ENDS:
                return run
        except Away as error:
            failures += 1
            if failures > PATIENCE:
                raise
            log.warning("%s; asked again", error)
        time.sleep(seconds)


def known_steps(run: Any) -> set[str]:
    """Names of a run's tasks that run a container, as far as the server says which pipeline it is of; else all but Kubeflow's own."""
    if spec := pipeline_of(run):
        return steps(spec)
    own = re.compile(r"root|executor|.*-driver|for-loop-\d+|condition-.*|exit-handler-\d+|iteration-.*")
    return {task.display_name for task in tasks(run) if task.display_name and not own.fullmatch(task.display_name)}


def pipeline_of(run: Any) -> dict[str, Any]:
    """The pipeline that a run is of; empty where the server keeps it apart from the run."""
    found = run.pipeline_spec or {}
    return found.get("pipeline_spec", found)


def tasks(run: Any) -> list[Any]:
    """A run's tasks, Kubeflow's own among them."""
    return (run.run_details.task_details if run.run_details else None) or []


def failures(run: Any) -> Iterator[tuple[str, str, str]]:
    """Name, error and pod of every task that failed; a task's error may stand at the pod below it."""
    found = {task.task_id: task for task in tasks(run)} | {task.pod_name: task for task in tasks(run) if task.pod_name}
    names = known_steps(run)
    for task in tasks(run):
        if task.state == "FAILED" and _is_shown(task, names):
            below = [found[key] for one in task.child_tasks or [] for key in (one.task_id, one.pod_name) if key in found]
            failed = [one for one in (task, *below) if one.state == "FAILED"]
            error = next((one.error.message for one in failed if one.error and one.error.message), "")
            yield task.display_name.removesuffix("-driver"), error, next((one.pod_name for one in reversed(failed) if one.pod_name), "")


def places(run: Any) -> dict[str, str]:
    """Where a run's results are: its store and its MLflow server, as far as the server says what the run was given."""
    spec = pipeline_of(run)
    if not spec:
        return {}
    defaults = {name: one.get("defaultValue") for name, one in spec["root"].get("inputDefinitions", {}).get("parameters", {}).items()}
    given = defaults | ((run.runtime_config.parameters if run.runtime_config else None) or {})
    found = {"store": given["store"]} if "store" in given else {}
    if "tracking" in given:
        tracking = json.loads(given["tracking"])
        server = shown(_environment(spec).get("MLFLOW_TRACKING_URI") or tracking["uri"])
        found["MLflow"] = f"{server}, experiment {tracking['experiment']}" if tracking["enabled"] else "not tracked"
    return found


def _environment(spec: dict[str, Any]) -> dict[str, str]:
    """What every step's environment is given by the deployment."""
    containers = [one["container"] for one in spec["deploymentSpec"]["executors"].values() if "container" in one]
    return {row["name"]: row["value"] for container in containers for row in container.get("env", [])}


def _seconds(task: Any) -> str:
    if task.state not in ENDS or not (task.start_time and task.end_time):
        return ""
    return f" after {(task.end_time - task.start_time).total_seconds():.0f} s"
