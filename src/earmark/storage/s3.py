"""S3 through boto3; and what to say of a remote place that refuses or does not answer."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from earmark import InputError

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role, must allow it"
GONE = ("NoSuchKey", "NoSuchBucket", "404")


class RemoteError(InputError):
    """A source that cannot be had from here, whatever is tried: a file brought by hand may help."""


def split_s3(address: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key. Errors: InputError when there is no bucket."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{address}: write s3://bucket/key, or s3://bucket/prefix for a folder")
    return bucket, key


def s3_client(attempts: int, connections: int, timeout: float = 60) -> Any:
    """A client; credentials, region and AWS_ENDPOINT_URL come from the environment, as everywhere with boto3."""
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(retries=retries, max_pool_connections=connections, connect_timeout=timeout, read_timeout=timeout)
    return boto3.Session().client("s3", config=config)


@contextlib.contextmanager
def explained(address: str, reason: Callable[[BaseException], str | None]) -> Iterator[None]:
    """Errors: RemoteError where `reason` knows what is wrong, else the error itself."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or (text := reason(error)) is None:
            raise
        raise RemoteError(f"{address}: {text}") from None


def refusal(status: int, credentials: str) -> str:
    """What an HTTP status from 400 on means; `credentials` says where those for this kind of place come from."""
    if status in (401, 403):
        return f"access refused ({status}): {credentials}"
    return f"not there ({status}): check the address" if status in (404, 410) else f"the server answers {status}"


def told(address: str) -> contextlib.AbstractContextManager[None]:
    """Errors: RemoteError for what boto3 raises inside, after the retries of its own."""
    return explained(address, _reason)


def _reason(error: Any) -> str | None:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
    from s3transfer.exceptions import S3DownloadFailedError

    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        return refusal(404 if code in GONE else error.response["ResponseMetadata"].get("HTTPStatusCode", code), CREDENTIALS)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return f"no credentials: {CREDENTIALS}"
    if isinstance(error, S3DownloadFailedError):  # which boto3's transfer says of another ETag
        return "it changed while it was fetched: run it again"
    if isinstance(error, (BotoCoreError, Boto3Error)):
        what = f"no answer, or one that broke off ({type(error).__name__})"
        return f"{what}: check network, address and AWS_ENDPOINT_URL, then run it again"
    return None
