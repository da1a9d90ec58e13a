"""Files behind http and https. Credentials: ~/.netrc, or a header that the caller gives; proxies as the environment says."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from earmark import InputError
from earmark.download.errors import ChangedError, RemoteError, TransientError, answered, shown
from earmark.download.remotes import CHUNK, UNKNOWN, Digest, Identity

SECRET = "credentials for a host belong into ~/.netrc"
UNKNOWN_HOST = "its host is not known here"
LONGEST_WAIT = 600.0  # seconds that a server may ask for


def open_session(connections: int) -> requests.Session:
    """A session whose connections are kept between pieces; `identity` keeps bytes as they lie on the server."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=connections, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers["Accept-Encoding"] = "identity"
    return session


def name_of(address: str) -> str:
    """Last part of an address's path. Errors: InputError when it has none."""
    name = PurePosixPath(unquote(urlsplit(address).path)).name
    if not name or name == "..":
        raise InputError(f"{shown(address)}: names no file")
    return name


@dataclass
class HttpFile:
    """One file behind an address."""

    address: str
    name: str
    session: requests.Session = field(repr=False)
    timeout: float
    digest: Digest = UNKNOWN
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    secret: str = SECRET

    @property
    def shown(self) -> str:
        """See Remote."""
        return shown(self.address)

    def identify(self) -> Identity:
        """Ask for the first byte: HEAD is often answered wrongly, or not at all."""
        with self._get({"Range": "bytes=0-0"}) as answer:
            if answer.status_code == 206:
                return Identity(_total(answer), _tag(answer), True)
            if answer.status_code == 416:
                return Identity(0, _tag(answer), False)
            return Identity(_length(answer), _tag(answer), False)

    def read(self, start: int, end: int | None, identity: Identity) -> Iterator[bytes]:
        """See Remote."""
        headers = {"Range": f"bytes={start}-{end - 1}"} if identity.ranges and end is not None else {}
        if headers and identity.tag and not identity.tag.startswith("W/"):
            headers["If-Range"] = identity.tag  # a weak tag may not stand there
        with self._get(headers) as answer:
            self._check(answer, start, identity)
            try:
                yield from answer.raw.stream(CHUNK, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise TransientError(_reason(error)) from None

    def _check(self, answer: requests.Response, start: int, identity: Identity) -> None:
        ranged = answer.status_code == 206
        size = _total(answer) if ranged else _length(answer)
        misplaced = ranged and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if answer.status_code == 416 or ranged != identity.ranges or misplaced or not self._same(answer, size, identity):
            raise ChangedError(self.shown)

    def _same(self, answer: requests.Response, size: int | None, identity: Identity) -> bool:
        return (size, _tag(answer)) == (identity.size, identity.tag)

    @contextlib.contextmanager
    def _get(self, headers: dict[str, str]) -> Iterator[requests.Response]:
        try:
            answer = self.session.get(self.address, headers={**self.headers, **headers}, stream=True, timeout=self.timeout)
        except requests.exceptions.SSLError:
            raise RemoteError(f"{self.shown}: its certificate is not trusted here: REQUESTS_CA_BUNDLE names your own authorities") from None
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout, urllib3.exceptions.HTTPError) as error:
            reason = _reason(error)
            raise TransientError(reason, lasting=reason == UNKNOWN_HOST) from None
        except (requests.exceptions.RequestException, ValueError) as error:  # no host, too many redirects, …
            raise InputError(f"{self.shown}: not an address that can be asked ({type(error).__name__})") from None
        with answer:
            if answer.status_code != 416:
                answered(answer.status_code, self.shown, secret=self.secret, wait=_asked_wait(answer))
            yield answer


def _tag(answer: requests.Response) -> str | None:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified")


def _length(answer: requests.Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _total(answer: requests.Response) -> int | None:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _asked_wait(answer: requests.Response) -> float | None:
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else None


def _reason(error: Exception) -> str:
    """In words: the error's own text holds the address, with whatever is secret in it."""
    text, late = type(error).__name__ + str(error), "no answer in time"
    for sign, reason in (("NameResolution", UNKNOWN_HOST), ("imeout", late), ("timed out", late)):
        if sign in text:
            return reason
    return "connection refused or broken off"
