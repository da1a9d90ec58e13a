"""What can go wrong between two machines, and addresses that may be shown."""

from urllib.parse import urlsplit, urlunsplit

from earmark import InputError

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class TransientError(Exception):
    """A failure that may pass: `wait` seconds are what the server asks for, if it does; a `lasting` one passes seldom."""

    def __init__(self, reason: str, wait: float | None = None, lasting: bool = False):
        super().__init__(reason)
        self.wait, self.lasting = wait, lasting


class ChangedError(Exception):
    """The remote file is no longer the one whose first pieces are here."""


class RemoteError(InputError):
    """A source that cannot be had from here, whatever is tried: a file brought by hand may help."""


def shown(address: str) -> str:
    """An address as it may be printed and recorded: without user, password and query, which may hold secrets."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    if scheme == "dvc":  # what follows is itself an address, or a path
        return f"dvc://{shown(rest)}"
    parts = urlsplit(address)
    place = parts.netloc.rpartition("@")[2] if parts.scheme in ("http", "https") else parts.netloc
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


def refuse_secrets(address: str) -> None:
    """Errors: InputError when an address carries a password, which would end in params, logs and records."""
    head, _, rest = address.removeprefix("dvc://").partition("://")
    user, at, _ = rest.split("/", 1)[0].rpartition("@")
    if at and (":" in user or head in ("http", "https")):
        raise InputError(f"{shown(address)}: an address must hold no password: put it into ~/.netrc or the environment")


def answered(status: int, address: str, *, secret: str, wait: float | None = None) -> None:
    """Make an error of an HTTP status. Errors: TransientError for one that may pass, RemoteError for all others from 400 on.

    `secret` says where credentials for this kind of address come from.
    """
    if status in TRANSIENT:
        raise TransientError(f"the server answers {status}", wait)
    if status in (401, 403):
        raise RemoteError(f"{address}: access refused ({status}): {secret}")
    if status in (404, 410):
        raise RemoteError(f"{address}: not there ({status}): check the address")
    if status >= 400:
        raise RemoteError(f"{address}: the server answers {status}")
