"""The MLflow store: a tracking server, or a SQLite file with a folder beside it. MLflow is imported inside the functions."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.moved import bring_along
from earmark.storage.locks import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI, EXPERIMENT, WORKSPACE = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_WORKSPACE"
SQLITE = "sqlite:///"
CONNECT_SECONDS = 3
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
GONE = (502, 503, 504)  # what a proxy answers in place of a server


class UnreachableError(InputError):
    """The server does not answer."""


@dataclass(frozen=True)
class Store:
    """An open store and the experiment in it."""

    client: "MlflowClient"
    experiment: str


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
        with urlopen(f"{uri.rstrip('/')}/health", timeout=CONNECT_SECONDS):
            return
    except HTTPError as error:
        if error.code in GONE:
            raise UnreachableError(f"MLflow at {shown(uri)} answers {error.code}") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(f"MLflow at {shown(uri)} cannot be reached ({reason})") from error


def client_environment(tracking: TrackingParams) -> dict[str, str]:
    """Variables that MLflow's client reads."""
    return {URI: address(tracking), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(tracking.timeout_seconds), **QUIET}


@contextmanager
def connected(tracking: TrackingParams, experiment: str | None = None, workspace: str | None = None) -> Iterator[Store]:
    """An open store; a local one is held by one process at a time, and goes along when its folder was moved or copied.

    `experiment`, an id, and `workspace` are else those of the environment or of params.

    Errors: UnreachableError when the server is or goes away, InputError with its words when it refuses something.
    """
    uri = address(tracking)
    require_reachable(uri)
    once = client_environment(tracking) | ({WORKSPACE: workspace} if workspace else {})
    embedded = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
    with environment(once), locked(Path(f"{embedded}.lock"), wait=True) if embedded else nullcontext():
        if embedded:
            bring_along(embedded, tracking.experiment, Path(tracking.artifacts))
        import botocore.exceptions
        import requests
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        try:
            client = MlflowClient(uri)
            yield Store(client, experiment or os.environ.get(EXPERIMENT) or _experiment(client, tracking, uri))
        except (MlflowException, requests.RequestException, botocore.exceptions.BotoCoreError) as error:
            require_reachable(uri)
            raise InputError(f"MLflow at {shown(uri)}: {' '.join(str(error).split())[:500]}") from error


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables inside the block; those that the user has set stay as they are."""
    own = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


def _experiment(client: "MlflowClient", tracking: TrackingParams, uri: str) -> str:
    """Id of the experiment, made at need."""
    from mlflow.exceptions import MlflowException

    place = Path(tracking.artifacts).resolve().as_uri() if uri.startswith(SQLITE) else None
    found = client.get_experiment_by_name(tracking.experiment)
    if found is None:
        try:
            return client.create_experiment(tracking.experiment, artifact_location=place)
        except MlflowException as error:
            found = client.get_experiment_by_name(tracking.experiment)  # another process was quicker
            if found is None:
                raise error
    if found.lifecycle_stage == "deleted":
        raise InputError(
            f"experiment {tracking.experiment!r} was deleted in MLflow: restore it, or set tracking.experiment to another name"
        )
    return found.experiment_id


def is_conflict(error: Exception) -> bool:
    """Whether MLflow refused since a thing of that name exists."""
    return getattr(error, "error_code", None) == "RESOURCE_ALREADY_EXISTS"
