"""A run watched to its end: a line for each change of a task, and at last what failed and where the results are."""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from earmark.kubeflow.compiled import steps
from earmark.kubeflow.submit import Away, Server

log = logging.getLogger(__name__)
ENDS = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
PATIENCE = 20  # questions without an answer before the watcher gives up; the run goes on


@dataclass
class Watcher:
    """Prints each change of a task once. Tasks are told apart by their ids: a loop has many of one name."""

    console: Console
    names: set[str]  # of tasks that run a container; empty: not known
    states: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def show(self, run: Any) -> None:
        """Print what changed since the last time."""
        for task in sorted(tasks(run), key=lambda one: str(one.create_time)):
            if task.state and self._wanted(task) and self.states.get(task.task_id) != task.state:
                self.states[task.task_id] = task.state
                self.console.print(f"{self._name(task)}: {task.state}{_seconds(task)}", markup=False, highlight=False, soft_wrap=True)

    @property
    def counts(self) -> str:
        """How many tasks are in which state."""
        return ", ".join(f"{number} {state.lower()}" for state, number in sorted(Counter(self.states.values()).items()))

    def _wanted(self, task: Any) -> bool:
        """Whether it is a step, not Kubeflow's own pods around it; what these fail at is shown."""
        name = task.display_name or ""
        return name in self.names or (task.state == "FAILED" and name.removesuffix("-driver") in self.names)

    def _name(self, task: Any) -> str:
        number = self.numbers.setdefault(task.task_id, 1 + sum(known.startswith(f"{task.display_name}/") for known in self._known))
        self._known.add(f"{task.display_name}/{number}")
        return task.display_name if number == 1 else f"{task.display_name} #{number}"

    def __post_init__(self) -> None:
        """The names given so far."""
        self._known: set[str] = set()


def follow(server: Server, run_id: str, console: Console, seconds: float) -> Any:
    """Ask every so many seconds until the run has ended; return it. Errors: as the server's, after some patience."""
    watcher, failures = Watcher(console, set()), 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        line = progress.add_task("waiting for the first task", total=None)
        while True:
            try:
                run, failures = server.run(run_id), 0
            except Away as error:
                failures += 1
                if failures > PATIENCE:
                    raise
                log.warning("%s; asked again", error)
            else:
                watcher.names = watcher.names or known_steps(run)
                watcher.show(run)
                progress.update(line, description=f"{run.state}: {watcher.counts}")
                if run.state in ENDS:
                    return run
            time.sleep(seconds)


def known_steps(run: Any) -> set[str]:
    """Names of a run's tasks that run a container, as far as the server says which pipeline it is of; else all but Kubeflow's own."""
    spec = pipeline_of(run)
    if spec:
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
        name = (task.display_name or "").removesuffix("-driver")
        if task.state == "FAILED" and name in names:
            below = [found[key] for one in task.child_tasks or [] for key in (one.task_id, one.pod_name) if key in found]
            failed = [one for one in (task, *below) if one.state == "FAILED"]
            error = next((one.error.message for one in failed if one.error and one.error.message), "")
            yield name, error, next((one.pod_name for one in reversed(failed) if one.pod_name), "")


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
        server = re.sub("//[^/@]*@", "//", _environment(spec).get("MLFLOW_TRACKING_URI") or tracking["uri"])  # without a password
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
