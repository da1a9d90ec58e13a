"""What to say of a remote place that refuses or does not answer: HTTP statuses, and what boto3 raises."""

import contextlib
from collections.abc import Iterator

from earmark import InputError

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role, must allow it"
GONE = ("NoSuchKey", "NoSuchBucket", "404")


class RemoteError(InputError):
    """A source that cannot be had from here, whatever is tried: a file brought by hand may help."""


def refusal(status: int, address: str, credentials: str) -> RemoteError:
    """Error of an HTTP status from 400 on; `credentials` says where those for this kind of address come from."""
    if status in (401, 403):
        return RemoteError(f"{address}: access refused ({status}): {credentials}")
    if status in (404, 410):
        return RemoteError(f"{address}: not there ({status}): check the address")
    return RemoteError(f"{address}: the server answers {status}")


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """Errors: RemoteError for what boto3 raises inside, after the retries of its own."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        status = 404 if code in GONE else error.response["ResponseMetadata"].get("HTTPStatusCode", code)
        raise refusal(status, address, CREDENTIALS) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise RemoteError(f"{address}: no credentials: {CREDENTIALS}") from None
    except (BotoCoreError, Boto3Error) as error:
        what = f"no answer, or one that broke off ({type(error).__name__})"
        raise RemoteError(f"{address}: {what}: check network, address and AWS_ENDPOINT_URL, then run it again") from None
