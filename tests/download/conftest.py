"""Servers and settings that the tests of downloads share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from download.web import Web
from earmark.params import DownloadParams
from object_store import BUCKET, S3, S3_ENVIRONMENT


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server of the test's own."""
    server = Web()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: S3, monkeypatch) -> str:
    """s3://… of an emptied bucket, with the environment that reaches it."""
    for name, value in (S3_ENVIRONMENT | {"AWS_ENDPOINT_URL": s3.address}).items():
        monkeypatch.setenv(name, value)
    for key in s3.stored():
        s3.client.delete_object(Bucket=BUCKET, Key=key)
    return f"s3://{BUCKET}"


@pytest.fixture
def params(monkeypatch) -> DownloadParams:
    """Little patience."""
    monkeypatch.setattr("earmark.download.http.BACKOFF_SECONDS", 0.01)
    return DownloadParams(connections=4, retries=3, timeout_seconds=1)


@pytest.fixture(scope="session")
def content() -> bytes:
    """Two megabytes that do not compress."""
    return np.random.default_rng(5).bytes(2_000_003)


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder but the record."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "download.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
