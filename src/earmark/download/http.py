"""One file behind http or https, as a stream that resumes. Credentials: ~/.netrc; proxies and authorities as the environment says."""

import contextlib
import json
import logging
import random
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
import urllib3

from earmark import InputError
from earmark.download.catalogue import File
from earmark.download.progress import Meter, StoppedError
from earmark.download.unpack import CHUNK, writing
from earmark.params import DownloadParams
from earmark.storage.files import write_json
from earmark.storage.redact import shown
from earmark.storage.s3 import RemoteError, refusal

log = logging.getLogger(__name__)
CREDENTIALS = "credentials for a host belong into ~/.netrc"
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
UNKNOWN_HOST = "its host is not known here"
BACKOFF_SECONDS = 1.0  # ours: after a first failure, doubled with each
LONGEST_BACKOFF = 60.0  # ours
LONGEST_WAIT = 600.0  # ours: seconds that a server may ask for
LASTING_RETRIES = 2  # ours: where there is no network, what to do instead should be said soon
STRONG_SECONDS = 60  # RFC 7232, 2.2.2: a date so much older than the answer tells every change
BOOT = Path("/proc/sys/kernel/random/boot_id")  # what a kill leaves is whole, what a crash of the machine leaves may not be


class TransientError(Exception):
    """A failure that may pass, after as many seconds as the server asks for."""

    def __init__(self, reason: str, seconds: str = ""):
        super().__init__(reason)
        self.seconds = min(float(seconds), LONGEST_WAIT) if seconds.isdigit() else 0.0


class Stream:
    """A file on its way to `path`. Beside it `.json` keeps of which version its first bytes are: size, validator, boot of the machine."""

    def __init__(self, file: File, path: Path, params: DownloadParams, meter: Meter):
        self.file = file
        self.path = path
        self.params = params
        self.meter = meter
        self.title = shown(file.address)
        self.counted = 0
        self._state = path.with_name(f"{path.name}.json")

    def fetch(self) -> None:
        """Fetch what is missing. Errors: RemoteError after too many failures in a row, InputError."""
        failures = 0
        while True:
            before = _length(self.path)
            try:
                with writing(self.path):
                    return self._attempt()
            except TransientError as error:
                failures = 1 if _length(self.path) > before else failures + 1
                self._wait(error, failures)

    def _attempt(self) -> None:
        """Ask for the rest where the bytes here are surely the first ones of the same file, or where its digest will tell."""
        kept = json.loads(self._state.read_text()) if self._state.exists() else {}
        sure = self.file.digests or (kept.get("tag") and kept["boot"] == _boot() and kept["address"] == self.title)
        start = _length(self.path) if sure and kept.get("size") else 0
        if start and start == kept["size"]:
            return self.meter.skip(start)
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and kept["tag"]:
            headers["If-Range"] = kept["tag"]
        with _get(self.file.address, headers, self.params.timeout_seconds) as answer:
            told = {"address": self.title, "size": _size(answer), "tag": _validator(answer), "boot": _boot()}
            changed = start and (told["size"], told["tag"]) != (kept["size"], kept["tag"])
            if changed:
                log.warning("%s changed since its first bytes were fetched: it is fetched anew", self.title)
            if answer.status_code == 200:
                self._write(answer, 0, told)
            elif changed or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                self.path.unlink(missing_ok=True)
                raise TransientError("the server has no such rest of it")
            else:
                self._write(answer, start, told)

    def _write(self, answer: requests.Response, start: int, told: dict[str, Any]) -> None:
        size = told["size"]
        self.meter.expect(None if self.counted else size)
        self.meter.skip(start - self.counted)
        self.counted = start
        with self.path.open("ab" if start else "wb") as stream:
            write_json(self._state, told)  # after the bytes of another version are gone
            for chunk in _chunks(answer):
                stream.write(chunk)
                self.counted += len(chunk)
                self.meter.add(len(chunk))
        if size is not None and self.counted < size:
            raise TransientError(f"it broke off after {self.counted:,} of {size:,} bytes")

    def _wait(self, error: TransientError, failures: int) -> None:
        retries = min(self.params.retries, LASTING_RETRIES) if str(error) == UNKNOWN_HOST else self.params.retries
        if failures > retries:
            raise RemoteError(f"{self.title}: {error} ({failures} times): check network and address, then run it again") from None
        wait = max(error.seconds, min(BACKOFF_SECONDS * 2 ** (failures - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1))
        log.warning("%s: %s; trying again in %.1f s", self.title, error, wait)
        if self.meter.stopped.wait(wait):
            raise StoppedError from None


@contextlib.contextmanager
def _get(address: str, headers: dict[str, str], timeout: float) -> Iterator[requests.Response]:
    """Ask; `identity` keeps bytes as they lie on the server."""
    headers = {"Accept-Encoding": "identity", **headers}
    try:
        answer = requests.get(address, headers=headers, stream=True, timeout=timeout)
    except requests.exceptions.SSLError:
        raise RemoteError(f"{shown(address)}: its certificate is not trusted here: REQUESTS_CA_BUNDLE names your own authorities") from None
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout, urllib3.exceptions.HTTPError) as error:
        raise TransientError(_reason(error)) from None
    except (requests.exceptions.RequestException, ValueError) as error:  # no host, too many redirects, …
        raise InputError(f"{shown(address)}: not an address that can be asked ({type(error).__name__})") from None
    with answer:
        if answer.status_code in TRANSIENT:
            raise TransientError(f"the server answers {answer.status_code}", answer.headers.get("Retry-After", ""))
        if answer.status_code >= 400 and answer.status_code != 416:
            raise RemoteError(f"{shown(address)}: {refusal(answer.status_code, CREDENTIALS)}")
        yield answer


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """Bytes as they come: larger reads would lose what came before a failure."""
    try:
        while chunk := answer.raw.read1(CHUNK, decode_content=False):
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientError(_reason(error)) from None


def _size(answer: requests.Response) -> int | None:
    """Bytes of the whole file, if the server says."""
    said = answer.headers.get("Content-Range", answer.headers.get("Content-Length", "")).rpartition("/")[2]
    return int(said) if said.isdigit() else None


def _validator(answer: requests.Response) -> str | None:
    """The ETag or date, if it tells every change (RFC 9110, 8.8), as a weak ETag or a date of just now does not."""
    if tag := answer.headers.get("ETag"):
        return None if tag.startswith("W/") else tag
    try:
        changed, now = (parsedate_to_datetime(answer.headers[name]) for name in ("Last-Modified", "Date"))
        return answer.headers["Last-Modified"] if (now - changed).total_seconds() >= STRONG_SECONDS else None
    except (KeyError, ValueError, TypeError):
        return None


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _boot() -> str:
    return BOOT.read_text().strip() if BOOT.exists() else ""


def _reason(error: Exception) -> str:
    """In words: the error's own text holds the address, with whatever is secret in it."""
    text = type(error).__name__ + str(error)
    if "NameResolution" in text:
        return UNKNOWN_HOST
    return "no answer in time" if "imeout" in text or "timed out" in text else "connection refused or broken off"
