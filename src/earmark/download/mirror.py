"""Copy a fetched folder to an object store, where a cluster finds it; it is complete there when its record is."""

import logging
from pathlib import Path

from earmark import InputError
from earmark.download.fetch import RECORD
from earmark.download.progress import Meter, each
from earmark.params import DownloadParams
from earmark.storage.s3 import s3_client, split_s3, told

log = logging.getLogger(__name__)


def mirror(folder: Path, place: str, params: DownloadParams) -> None:
    """Copy a complete folder below s3://bucket/prefix; nothing to do where it is already. Errors: InputError when another one is there."""
    bucket, prefix = split_s3(place.rstrip("/"))
    client = s3_client(params.retries + 1, params.connections, params.timeout_seconds)
    record = folder / RECORD
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != record)

    def key(path: Path) -> str:
        return f"{prefix}/{path.relative_to(folder).as_posix()}".lstrip("/")

    with told(place):
        there = client.list_objects_v2(Bucket=bucket, Prefix=key(record), MaxKeys=1).get("Contents")
        if there and client.get_object(Bucket=bucket, Key=key(record))["Body"].read() != record.read_bytes():
            raise InputError(f"{place} holds another source: remove it, or name another place with --to")
    if there:
        return log.info("%s: complete", place)

    def send(path: Path) -> None:
        with told(f"s3://{bucket}/{key(path)}"), path.open("rb") as stream:
            client.upload_fileobj(stream, bucket, key(path), Callback=meter.add)

    with Meter(f"copying to {place}") as meter:
        meter.expect(sum(path.stat().st_size for path in files))
        each(send, files, params.connections, meter)
        send(record)
    log.info("%s: %d files copied", place, len(files))
