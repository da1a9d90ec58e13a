"""Servers that all tests of the registry share, and stores that each has for itself."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from earmark.params import TrackingParams
from earmark.registry.server import Store, connected
from earmark.registry.versions import CHAMPION, at, set_alias
from object_store import S3
from registry import servers


@pytest.fixture(scope="session")
def backend() -> Iterator[tuple[servers.Postgres, S3, servers.Mlflow]]:
    """PostgreSQL, S3 and MLflow on both, started once."""
    if lacking := servers.missing():
        pytest.skip(f"needs {lacking}")
    with ExitStack() as stack:  # each is stopped, whatever becomes of the others
        postgres = servers.Postgres()
        stack.callback(postgres.stop)
        s3 = S3()
        stack.callback(s3.stop)
        mlflow = servers.Mlflow(postgres.uri, s3.address)
        stack.callback(mlflow.kill)
        yield postgres, s3, mlflow


@pytest.fixture
def relay(backend) -> Iterator[servers.Relay]:
    """A relay before the MLflow server, to be cut."""
    found = servers.Relay(backend[2].uri)
    yield found
    found.stop()


@pytest.fixture
def served(relay, request, monkeypatch) -> TrackingParams:
    """Settings of the server behind the relay, with an experiment of the test's own and no champion that another test left."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = TrackingParams(uri=relay.uri, experiment=request.node.name, timeout_seconds=30)
    with connected(settings) as found:
        if at(found.client, CHAMPION):
            set_alias(found.client, CHAMPION, None)
    return settings


@pytest.fixture
def tracking(served) -> TrackingParams:
    """Where a test tracks, unless its module says otherwise."""
    return served


@pytest.fixture
def store(tracking) -> Iterator[Store]:
    """The open store."""
    with connected(tracking) as found:
        yield found


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An empty SQLite store: making its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def local(migrated: Path, tmp_path: Path, monkeypatch) -> TrackingParams:
    """The embedded store: SQLite and a folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return TrackingParams(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "mlartifacts"), experiment="local")
