"""Addresses as they may be printed and recorded, without the secrets that they may hold."""

from urllib.parse import urlsplit, urlunsplit

from earmark import InputError


def shown(address: str) -> str:
    """An address without user, password and query."""
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
