"""A file from a local S3 server, verified and recorded, against one plain parallel ranged transfer by boto3.

Run: python bench/download.py.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from boto3.s3.transfer import TransferConfig

from earmark.download.fetch import fetch
from earmark.params import DownloadParams
from timing import row, seconds, show

MEGABYTES, TURNS = 128, 6


def rows() -> list[dict[str, Any]]:
    """The same bytes over as many connections; at least 80 % of boto3's throughput."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the tests' server
    from object_store import BUCKET, S3, S3_ENVIRONMENT

    server, before = S3(), dict(os.environ)
    os.environ |= S3_ENVIRONMENT | {"AWS_ENDPOINT_URL": server.address}
    try:
        content = np.random.default_rng(0).bytes(1 << 20) * MEGABYTES
        server.client.put_object(Bucket=BUCKET, Key="speech.bin", Body=content)
        with tempfile.TemporaryDirectory() as folder:
            return [measure(BUCKET, Path(folder), len(content))]
    finally:
        os.environ.clear()
        os.environ |= before
        server.stop()


def measure(bucket: str, folder: Path, size: int) -> dict[str, Any]:
    """Turn about, since other work on the machine comes and goes; the shortest of each."""
    params, targets = DownloadParams(), iter(range(10 * TURNS))
    config = TransferConfig(max_concurrency=params.connections)
    client = boto3.client("s3")

    def ours() -> None:
        fetch(f"s3://{bucket}/speech.bin", folder / str(next(targets)), params)

    def peer() -> None:
        client.download_file(bucket, "speech.bin", str(folder / "peer"), Config=config)

    turns = [(seconds(ours, repeats=1), seconds(peer, repeats=1)) for _ in range(TURNS)]
    mine, theirs = (min(times) for times in zip(*turns, strict=True))
    name = f"download {MEGABYTES} MiB from S3, hashed: {size / mine / 1e6:.0f} MB/s; peer: boto3's transfer, {size / theirs / 1e6:.0f} MB/s"
    return row(name, mine, theirs, least=0.8)


if __name__ == "__main__":
    show(rows())
