"""How far a download is, on a terminal as a bar, else as a line in the log now and then; and threads that stop together."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

log = logging.getLogger(__name__)
LOG_SECONDS = 30.0


class StoppedError(Exception):
    """Another file's transfer failed, or the run was interrupted."""


class Meter(Progress):
    """Counts bytes from any thread, and stops all of them."""

    def __init__(self, title: str):
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=Console(stderr=True), transient=True)
        self.number = self.add_task(title, total=None)
        self.stopped = threading.Event()
        self._said = time.monotonic()

    def expect(self, count: int | None) -> None:
        """Add to the total of bytes to fetch."""
        if count:
            self.update(self.number, total=(self.tasks[0].total or 0) + count)

    def skip(self, count: int) -> None:
        """Count bytes of an earlier run, which say nothing of the rate."""
        self.tasks[0].completed += count

    def add(self, count: int) -> None:
        """Count bytes that arrived. Errors: StoppedError when nobody waits for more."""
        if self.stopped.is_set():
            raise StoppedError
        self.advance(self.number, count)
        if not self.console.is_terminal and time.monotonic() - self._said > LOG_SECONDS:
            self._said = time.monotonic()
            log.info("%s", self.line())

    def line(self) -> str:
        """So much of so much, rate, time left."""
        task = self.tasks[0]
        whole = f" of {decimal(int(task.total))}" if task.total else ""
        rate = f", {decimal(int(task.speed))}/s" if task.speed else ""
        left = f", {task.time_remaining:.0f} s left" if task.time_remaining else ""
        return f"{task.description}: {decimal(int(task.completed))}{whole}{rate}{left}"


def each(action: Callable[[Any], Any], items: Iterable[Any], threads: int, meter: Meter) -> list[Any]:
    """Answers for all items, several at a time. Errors: the first one, which stops all transfers."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(action, item) for item in items]
        try:
            for future in as_completed(futures):
                if not isinstance(future.exception(), StoppedError):
                    future.result()
        except BaseException:
            meter.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]
