"""Where a stage's run belongs in MLflow: below the run that the environment names, else below one run for each pipeline."""

import getpass
import hashlib
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from earmark.model.provenance import commit
from earmark.registry.server import EXPERIMENT, WORKSPACE, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

RUN = "EARMARK_RUN"  # set by a runner that starts each stage on another machine
GIVEN_RUN = "MLFLOW_RUN_ID"  # set by a runner that keeps MLflow runs of its own, as Kubeflow Pipelines does
PIPELINE, PARENT = "earmark.pipeline", "mlflow.parentRunId"


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def who() -> str:
    """User and host, for records."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def pipeline_key(folder: Path) -> str:
    """Name of the pipeline run: EARMARK_RUN; else the folder with the digest of host, path and DVC's experiment or git's commit."""
    if given := os.environ.get(RUN):
        return re.sub(r"[^\w.\-]", "_", given)[:200]
    place = folder.resolve()
    state = os.environ.get("DVC_EXP_NAME") or commit(place)
    digest = hashlib.sha256(f"{socket.gethostname()} {place} {state}".encode()).hexdigest()[:12]
    return f"{re.sub(r'[^a-zA-Z0-9_.-]', '_', place.name)[:100]}-{digest}"


@dataclass(frozen=True)
class Home:
    """Where a stage's run belongs: below `parent`, a run that the environment names, else below the run of `pipeline`."""

    pipeline: str
    parent: str | None = None
    experiment: str | None = None
    workspace: str | None = None

    @classmethod
    def of(cls, folder: Path) -> "Home":
        """The home of the stages that run in this folder, in this environment."""
        given = [os.environ.get(name) or None for name in (GIVEN_RUN, EXPERIMENT, WORKSPACE)]
        return cls(pipeline_key(folder), *given)

    def parent_run(self, store: Store) -> "Run":
        """The run above, made at need unless it is given."""
        if self.parent:
            return store.client.get_run(self.parent)
        name = f"pipeline {self.pipeline} {time.strftime('%Y-%m-%d %H:%M')}"
        return only_run(store, PIPELINE, self.pipeline, {"mlflow.user": who()}, name)

    def conclude(self, store: Store, run: "Run", status: str, ended: int | None = None) -> None:
        """End a stage's run, and the pipeline's with it, whose status is that of its last stage; a given run is its owner's to end."""
        store.client.set_terminated(run.info.run_id, status, ended)
        if not self.parent:
            store.client.set_terminated(run.data.tags[PARENT], status, ended)


def runs(store: Store, tag: str, value: str) -> list["Run"]:
    """Runs with a tag, oldest first."""
    found = store.client.search_runs([store.experiment], f"tags.`{tag}` = '{value}'")
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def only_run(store: Store, tag: str, value: str, tags: Mapping[str, str], name: str, started: int | None = None) -> "Run":
    """The one run with this tag, made at need.

    Of several that processes made at once, or a repeated request, the oldest stays; the others lose the tag, since who may make a run
    may not always delete one.
    """
    found = runs(store, tag, value)
    if not found:
        store.client.create_run(store.experiment, start_time=started or now(), tags={tag: value, **tags}, run_name=name)
        found = runs(store, tag, value)
    for extra in found[1:]:
        store.client.set_tag(extra.info.run_id, tag, f"superseded by {found[0].info.run_id}")  # no new tag: two may set it at once
        if PARENT in extra.data.tags:
            store.client.set_tag(extra.info.run_id, PARENT, "")
        store.client.set_terminated(extra.info.run_id, "KILLED")
    return found[0]
