"""Threads that fetch pieces: with patience where a failure may pass, at once an error where not."""

import logging
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from earmark.download.errors import ChangedError, RemoteError, TransientError
from earmark.download.meter import Meter
from earmark.download.part import PartFile
from earmark.params import DownloadParams

log = logging.getLogger(__name__)
LONGEST_BACKOFF = 60.0
LASTING_RETRIES = 2  # where there is no network, what to do instead should be said soon
Answer = TypeVar("Answer")


class StoppedError(Exception):
    """Another transfer failed, or the run was interrupted."""


class Patience:
    """Counts failures in a row, and waits longer after each."""

    def __init__(self, params: DownloadParams, what: str, stop: threading.Event):
        self.params, self.what, self.stop, self.failures = params, what, stop, 0

    def failed(self, error: TransientError) -> None:
        """Wait. Errors: RemoteError when there were too many failures, StoppedError when nobody waits any longer."""
        self.failures += 1
        if self.failures > (min(self.params.retries, LASTING_RETRIES) if error.lasting else self.params.retries):
            raise RemoteError(f"{self.what}: {error} ({self.failures} times): check network and address, then run it again") from None
        backoff = min(self.params.backoff_seconds * 2 ** (self.failures - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1)
        wait = max(backoff, error.wait or 0)
        log.warning("%s: %s; trying again in %.1f s", self.what, error, wait)
        if self.stop.wait(wait):
            raise StoppedError from None

    def persist(self, action: Callable[[], Answer]) -> Answer:
        """What the action returns, once it succeeds."""
        while True:
            try:
                return action()
            except TransientError as error:
                self.failed(error)


class Transfers:
    """A pool for one source. The first failure stops all, and reaches whoever reads a file."""

    def __init__(self, params: DownloadParams, meter: Meter):
        self.params, self.meter, self.stop = params, meter, threading.Event()
        self.parts: list[PartFile] = []
        self._pool = ThreadPoolExecutor(params.connections, thread_name_prefix="download")

    def each(self, action: Callable[[Answer], object], items: Iterable[Answer]) -> list:
        """Do something for all items, several at a time."""
        return list(self._pool.map(action, items))

    def patience(self, what: str) -> Patience:
        """Patience with one request, or one piece."""
        return Patience(self.params, what, self.stop)

    def start(self, parts: list[PartFile]) -> None:
        """Fetch what is missing of some files, in their order."""
        self.parts = [part for part in self.parts if part.missing()] + parts
        for part in parts:
            self.meter.skip(part.here)
            for index in part.missing():
                self._pool.submit(self._run, part, index)

    def __enter__(self) -> "Transfers":
        """See the class."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop all threads, and save what they have."""
        self.stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for part in self.parts:
            part.close()

    def _run(self, part: PartFile, index: int) -> None:
        try:
            self._piece(part, index)
        except StoppedError:
            return
        except BaseException as error:
            self.stop.set()
            for waiting in self.parts:
                waiting.fail(error)

    def _piece(self, part: PartFile, index: int) -> None:
        """Fetch a piece; where ranges can be read it goes on behind the last byte that came."""
        (start, end), patience = part.bounds(index), self.patience(part.remote.shown)
        offset = start
        while True:
            try:
                for chunk in part.remote.read(offset, end, part.identity):
                    if self.stop.is_set():
                        raise StoppedError
                    if end is not None and offset + len(chunk) > end:
                        raise ChangedError(part.remote.shown)
                    part.write(offset, chunk)
                    self.meter.add(len(chunk))
                    offset += len(chunk)
                    patience.failures = 0 if part.identity.ranges else patience.failures
                if end is not None and offset < end:
                    raise TransientError(f"it broke off after {offset - start:,} of {end - start:,} bytes")
                return part.finish(index, offset)
            except TransientError as error:
                patience.failed(error)
                if not part.identity.ranges:
                    self.meter.add(start - offset)
                    offset = start
