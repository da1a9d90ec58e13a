"""The MLflow store, a tracking server or a SQLite file with a folder beside it, and where in it a stage's run belongs.

MLflow is imported inside the functions.
"""

import getpass
import hashlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

from earmark import InputError
from earmark.model.provenance import commit
from earmark.params import TrackingParams
from earmark.registry.moved import bring_along
from earmark.storage.locks import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

URI, EXPERIMENT, WORKSPACE = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_WORKSPACE"
GIVEN_RUN = "MLFLOW_RUN_ID"  # set by a runner that keeps MLflow runs of its own, as Kubeflow Pipelines does
RUN = "EARMARK_RUN"  # set by a runner that starts each stage on another machine
PIPELINE, PARENT = "earmark.pipeline", "mlflow.parentRunId"
SQLITE = "sqlite:///"
CONNECT_SECONDS = 3
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
GONE = (None, 502, 503, 504)  # no answer, and what a proxy answers in place of a server


class UnreachableError(InputError):
    """The server does not answer."""


@dataclass(frozen=True)
class Store:
    """An open store and the experiment in it."""

    client: "MlflowClient"
    experiment: str


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
    name = os.environ.get(RUN)
    if not name:
        place = folder.resolve()
        state = os.environ.get("DVC_EXP_NAME") or commit(place)
        digest = hashlib.sha256(f"{socket.gethostname()} {place} {state}".encode()).hexdigest()[:12]
        name = f"{place.name[:100]}-{digest}"
    return re.sub(r"[^\w.\-]", "_", name)[:200]


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
        return cls(pipeline_key(folder), *(os.environ.get(name) or None for name in (GIVEN_RUN, EXPERIMENT, WORKSPACE)))

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


def address(tracking: TrackingParams) -> str:
    """Where to track: the environment's address, else that of params."""
    return os.environ.get(URI) or tracking.uri


def shown(uri: str) -> str:
    """An address without the user's name and password."""
    parts = urlsplit(uri)
    return uri.replace(parts.netloc, parts.netloc.rpartition("@")[2]) if parts.username else uri


def require_reachable(uri: str) -> None:
    """Ask a server for any answer. Errors: UnreachableError after a few seconds."""
    if not uri.startswith("http"):
        return
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=CONNECT_SECONDS).close()
    except OSError as error:
        if getattr(error, "code", None) in GONE:
            raise UnreachableError(f"MLflow at {shown(uri)} cannot be reached ({getattr(error, 'reason', error)})") from error


@contextmanager
def environment(tracking: TrackingParams, workspace: str | None = None) -> Iterator[None]:
    """Set what MLflow's client reads inside the block; what the user has set stays as it is."""
    wanted = {URI: address(tracking), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(tracking.timeout_seconds), **QUIET}
    wanted |= {WORKSPACE: workspace} if workspace else {}
    own = wanted.keys() - os.environ.keys()
    os.environ.update({name: wanted[name] for name in own})
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


@contextmanager
def connected(tracking: TrackingParams, home: Home | None = None) -> Iterator[Store]:
    """An open store; a local one is held by one process at a time, and goes along when its folder was moved or copied.

    The experiment is that of the home, else the one that the environment names, or that of params, made at need.

    Errors: UnreachableError when the server is or goes away, InputError with its words when it refuses something.
    """
    uri = address(tracking)
    require_reachable(uri)
    embedded = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
    with environment(tracking, home and home.workspace), locked(Path(f"{embedded}.lock"), wait=True) if embedded else nullcontext():
        if embedded:
            bring_along(embedded, tracking.experiment, Path(tracking.artifacts))
        import botocore.exceptions
        import requests
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        try:
            client = MlflowClient(uri)
            yield Store(client, _experiment(client, tracking, home, embedded is not None))
        except (MlflowException, requests.RequestException, botocore.exceptions.BotoCoreError) as error:
            require_reachable(uri)
            raise InputError(f"MLflow at {shown(uri)}: {' '.join(str(error).split())[:500]}") from error


def _experiment(client: "MlflowClient", tracking: TrackingParams, home: Home | None, embedded: bool) -> str:
    if home and home.parent:
        return client.get_run(home.parent).info.experiment_id
    if given := (home and home.experiment) or os.environ.get(EXPERIMENT):
        return given
    found = client.get_experiment_by_name(tracking.experiment)
    if found is None:
        place = Path(tracking.artifacts).resolve().as_uri() if embedded else None
        return client.create_experiment(tracking.experiment, artifact_location=place)
    if found.lifecycle_stage == "deleted":
        raise InputError(f"experiment {tracking.experiment!r} was deleted in MLflow: restore it, or name another in tracking.experiment")
    return found.experiment_id


def runs(store: Store, tag: str, value: str) -> list["Run"]:
    """Runs with a tag, oldest first; of one instant by id."""
    return list(store.client.search_runs([store.experiment], f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time ASC"]))


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
