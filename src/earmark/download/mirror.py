"""Copy a fetched folder to an object store, where a cluster finds it; it is complete there when its record is."""

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console
from rich.progress import Progress

from earmark import InputError
from earmark.download import s3
from earmark.download.fetch import RECORD
from earmark.download.transfer import Patience
from earmark.params import DownloadParams

log = logging.getLogger(__name__)


def mirror(folder: Path, place: str, params: DownloadParams) -> None:
    """Copy a complete folder below s3://bucket/prefix; nothing to do where it is already. Errors: InputError when another one is there."""
    bucket, prefix = s3.split(place.rstrip("/"))
    client, stem = s3.client(params.connections, params.timeout_seconds), f"{prefix}/" if prefix else ""
    there = Patience(params, place, threading.Event()).persist(lambda: _record(client, bucket, f"{stem}{RECORD}", place))
    if there == (folder / RECORD).read_bytes():
        log.info("%s: complete", place)
        return
    if there is not None:
        raise InputError(f"{place} holds another source: remove it, or name another place with --to")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD)

    def send(path: Path) -> None:
        _send(client, path, bucket, f"{stem}{path.relative_to(folder).as_posix()}", params)

    with Progress(console=Console(stderr=True), transient=True) as progress, ThreadPoolExecutor(2) as pool:
        sent: Iterable[Any] = progress.track(pool.map(send, files), total=len(files), description=f"copying to {place}")
        for _ in sent:
            pass
    send(folder / RECORD)
    log.info("%s: %d files copied", place, len(files))


def _record(client: Any, bucket: str, key: str, place: str) -> bytes | None:
    with s3.told(place):
        try:
            return client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None


def _send(client: Any, path: Path, bucket: str, key: str, params: DownloadParams) -> None:
    def once() -> None:
        with s3.told(f"s3://{bucket}/{key}"), path.open("rb") as stream:
            client.upload_fileobj(stream, bucket, key)

    Patience(params, f"s3://{bucket}/{key}", threading.Event()).persist(once)
