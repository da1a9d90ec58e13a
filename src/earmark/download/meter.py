"""How far a download is: a bar with rate and time left on a terminal, else a line in the log now and then."""

import logging
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

log = logging.getLogger(__name__)
LOG_SECONDS = 30.0


class Meter:
    """Counts bytes from any thread."""

    def __init__(self, title: str):
        self.title, self.done, self.fetched, self.total = title, 0, 0, None
        self._lock, self._start, self._said = threading.Lock(), time.monotonic(), time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(title, total=None)

    def expect(self, total: int | None) -> None:
        """Say how many bytes there are in all, None if that is not known."""
        self.total = total
        self.skip(0)

    def skip(self, count: int) -> None:
        """Count bytes of an earlier run, which say nothing of the rate."""
        with self._lock:
            self.done += count
        self._bar.reset(self._task, total=self.total, completed=self.done, description=self.title)

    def add(self, count: int) -> None:
        """Count bytes that arrived."""
        with self._lock:
            self.done, self.fetched = self.done + count, self.fetched + count
            due = time.monotonic() - self._said > LOG_SECONDS
            self._said = time.monotonic() if due else self._said
        self._bar.advance(self._task, count)
        if due and not self._bar.console.is_terminal:
            log.info("%s", self.line())

    def line(self) -> str:
        """So much of so much, rate, time left."""
        rate = self.fetched / max(time.monotonic() - self._start, 1e-6)
        whole = f" of {decimal(self.total)}" if self.total else ""
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate else ""
        return f"{self.title}: {decimal(self.done)}{whole}, {decimal(int(rate))}/s{left}"

    def __enter__(self) -> "Meter":
        """Show the bar."""
        if self._bar.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take the bar away."""
        self._bar.stop()
