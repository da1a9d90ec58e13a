"""Objects of S3 and what speaks like it. Credentials, region and AWS_ENDPOINT_URL come from the environment, as everywhere with boto3."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from earmark import InputError
from earmark.download.errors import ChangedError, RemoteError, TransientError, answered
from earmark.download.remotes import CHUNK, UNKNOWN, Digest, Identity, Listing, Remote

SECRET = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role, must allow it"
GONE = ("NoSuchKey", "NoSuchBucket", "404")
BUSY = ("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling")


@functools.cache
def client(connections: int, timeout: float) -> Any:
    """A client whose failures are retried by us alone, so that they count and are told once."""
    once = {"total_max_attempts": 1}
    return boto3.Session().client(
        "s3",
        config=Config(
            retries=once,  # pyright: ignore[reportArgumentType]
            max_pool_connections=connections,
            connect_timeout=timeout,
            read_timeout=timeout,
            response_checksum_validation="when_required",
        ),
    )


def split(address: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key. Errors: InputError when there is no bucket."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{address}: write s3://bucket/key, or s3://bucket/prefix for a folder")
    return bucket, key


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """Make TransientError, ChangedError or RemoteError of what boto3 raises."""
    try:
        yield
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        if code == "PreconditionFailed" or status in (412, 416):
            raise ChangedError(address) from None
        if code in BUSY:
            raise TransientError(f"the server answers {code}") from None
        answered(404 if code in GONE else status, address, secret=SECRET)
        raise RemoteError(f"{address}: the server answers {code}") from None
    except (NoCredentialsError, PartialCredentialsError):
        raise RemoteError(f"{address}: no credentials: {SECRET}") from None
    except (HTTPClientError, NoConnectionError, IncompleteReadError, urllib3.exceptions.HTTPError, OSError):
        raise TransientError("no answer, or one that broke off") from None
    except BotoCoreError as error:
        raise RemoteError(f"{address}: {type(error).__name__}: check the address and AWS_ENDPOINT_URL") from None


@dataclass
class S3File:
    """One object."""

    bucket: str
    key: str
    name: str
    size: int
    tag: str
    client: Any = field(repr=False)
    digest: Digest = UNKNOWN

    @property
    def shown(self) -> str:
        """See Remote."""
        return f"s3://{self.bucket}/{self.key}"

    def identify(self) -> Identity:
        """As it was listed."""
        return Identity(self.size, self.tag, self.size > 0)

    def read(self, start: int, end: int | None, identity: Identity) -> Iterator[bytes]:
        """See Remote."""
        part = {"Range": f"bytes={start}-{end - 1}"} if identity.ranges and end else {}
        with told(self.shown):
            body = self.client.get_object(Bucket=self.bucket, Key=self.key, IfMatch=identity.tag, **part)["Body"]
            with contextlib.closing(body):
                while chunk := body.read(CHUNK):
                    yield chunk


def find(address: str, connections: int, timeout: float) -> Listing:
    """The object of this key, or all below it as a folder. Errors: InputError when there is neither."""
    bucket, key = split(address)
    found, low = [], client(connections, timeout)
    with told(address):
        for page in low.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
            found += page.get("Contents", [])
    prefix = key if not key or key.endswith("/") else f"{key}/"
    one = [item for item in found if item["Key"] == key and not key.endswith("/")]
    below = one or [item for item in found if item["Key"].startswith(prefix) and not item["Key"].endswith("/")]
    if not below:
        raise InputError(f"{address}: no object has this key, and none lies below it: check the address")
    remotes: list[Remote] = [
        S3File(
            bucket,
            item["Key"],
            item["Key"].rpartition("/")[2] if one else item["Key"].removeprefix(prefix),
            item["Size"],
            item["ETag"],
            low,
        )
        for item in below
    ]
    return Listing(remotes, folder=not one)
