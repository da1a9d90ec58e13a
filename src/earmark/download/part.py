"""A file that arrives in pieces, in any order, and is read from its beginning meanwhile.

Beside it lies a small state: which file it is of (address, size, tag) and which pieces are there.
So a killed download goes on where it was.
"""

import hashlib
import io
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from earmark import InputError
from earmark.download.remotes import CHUNK, Identity, Remote
from earmark.storage.files import write_json

log = logging.getLogger(__name__)
SAVE_SECONDS = 1.0  # a killed download loses no more than what arrived since
SYNC_SECONDS = 30.0  # and a machine that loses power no more than this; more often would cost half of the speed
BOOT = Path("/proc/sys/kernel/random/boot_id")
MIB = 1 << 20


def unwritable(path: Path, error: OSError) -> InputError:
    """What to say when a disk is full or a place may not be written."""
    return InputError(f"cannot write {path}: {error.strerror or error}; free space, then run it again: it goes on where it was")


class PartFile:
    """The bytes of a remote file that are here; `read_at` waits for more.

    A state of an older file, or of one that nothing tells from a changed one (no tag, bytes not known beforehand), is not gone on with.
    """

    def __init__(self, remote: Remote, path: Path, identity: Identity, piece_mb: float):
        self.remote, self.path, self.identity, self.size = remote, path, identity, identity.size
        self.piece = max(1, round(piece_mb * MIB)) if identity.ranges and identity.size else None
        self.done: set[int] = set()
        self.failure: BaseException | None = None
        self._ready, self._written = 0, threading.Condition()
        self._saved, self._descriptor, self._saving = time.monotonic(), None, threading.Lock()
        self._synced, self._safe = time.monotonic(), []
        self._resume()

    @property
    def count(self) -> int:
        """Number of pieces; one if the file cannot be read in ranges."""
        return -(-self.size // self.piece) if self.piece and self.size else 1

    @property
    def here(self) -> int:
        """Bytes that need not be fetched."""
        return sum((self.bounds(index)[1] or 0) - self.bounds(index)[0] for index in self.done)

    def missing(self) -> list[int]:
        """Pieces still to fetch, in order."""
        return [index for index in range(self.count) if index not in self.done]

    def bounds(self, index: int) -> tuple[int, int | None]:
        """First byte of a piece, and the one behind its last: None for a file of unknown size."""
        if self.piece is None:
            return 0, self.size
        return index * self.piece, min((index + 1) * self.piece, self.size or 0)

    def write(self, offset: int, chunk: bytes) -> None:
        """Put bytes where they belong. Errors: InputError when the disk is full."""
        try:
            with self._written:
                if self._descriptor is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            view = memoryview(chunk)
            while view:
                count = os.pwrite(self._descriptor, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise unwritable(self.path, error) from error

    def finish(self, index: int, end: int) -> None:
        """A piece is whole; `end` is the byte behind it. The state is saved now and then."""
        self.write(end, b"")
        with self._written:
            self.size = end if self.size is None else self.size
            if len(self.done) + 1 == self.count and self._descriptor is not None:
                os.ftruncate(self._descriptor, self.size)  # an older, longer file may have lain here
            self.done.add(index)
            self._advance()
            whole = len(self.done) == self.count
            due = time.monotonic() - self._saved > SAVE_SECONDS
            self._saved = time.monotonic() if due else self._saved
        if whole:
            self.close()
        elif due:
            self.save()

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits for bytes that none will come."""
        with self._written:
            self.failure = error
            self._written.notify_all()

    def read_at(self, position: int, buffer: memoryview) -> int:
        """Bytes from `position` on, as many as are there; 0 at the end. Errors: what the transfer failed with."""
        with self._written:
            self._written.wait_for(lambda: self._ready > position or len(self.done) == self.count or self.failure)
            available = self._ready - position
            if available <= 0 and len(self.done) < self.count and self.failure:
                raise self.failure
        if available <= 0:
            return 0
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(position)
            return stream.readinto(buffer[:available]) or 0

    def save(self) -> None:
        """Write the state: pieces that are here, and those that even a crash of the machine leaves, as they were brought to the disk."""
        with self._saving:
            with self._written:
                descriptor, done = self._descriptor, sorted(self.done)
            if descriptor is None or self.count == 1:
                return
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fdatasync(descriptor)
                self._synced, self._safe = time.monotonic(), done
            pieces = {"piece": self.piece, "done": done, "boot": _boot(), "safe": self._safe}
            write_json(self._state, {**self._identity(), **pieces})

    def close(self) -> None:
        """Save, and let the file go."""
        self.save()
        with self._saving, self._written:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None

    def discard(self) -> None:
        """Forget what is here: it is of another file, or damaged."""
        for path in (self.path, self._state):
            path.unlink(missing_ok=True)
        self.done, self._ready = set(), 0

    @property
    def _state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _identity(self) -> dict[str, Any]:
        return {"address": self.remote.shown, "size": self.identity.size, "tag": self.identity.tag}

    def _resume(self) -> None:
        try:
            state = json.loads(self._state.read_text())
            done, safe, boot, piece = (state.pop(key) for key in ("done", "safe", "boot", "piece"))
        except (OSError, ValueError, KeyError):
            return
        if state != self._identity() or not self.path.exists():
            log.warning("%s changed since its first pieces were fetched: it is fetched anew", self.remote.shown)
            self.discard()
        elif self.identity.tag or self.remote.digest.trusted:
            self.piece = piece  # as it was then, whatever params say now
            with self._written:
                self._safe = safe
                self.done = set(done if boot == _boot() else safe) & set(range(self.count))
                self._advance()
        else:
            self.discard()

    def _advance(self) -> None:
        """Move the mark up to which there is no gap, and wake those who wait."""
        index = self._ready // self.piece if self.piece else 0
        while index in self.done and index < self.count:
            self._ready = self.bounds(index)[1] or 0
            index += 1
        self._written.notify_all()


def _boot() -> str:
    """What tells this start of the machine from others: what was written since is there, even after a kill."""
    return BOOT.read_text().strip() if BOOT.exists() else ""


class Placed:
    """A file that lies here already: a source on this machine, or brought by hand."""

    def __init__(self, path: Path):
        self.path, self.size, self.here = path, path.stat().st_size, path.stat().st_size

    def read_at(self, position: int, buffer: memoryview) -> int:
        """See PartFile."""
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(position)
            return stream.readinto(buffer) or 0


class Bytes(Protocol):
    """What can be read from its beginning, perhaps while it arrives."""

    def read_at(self, position: int, buffer: memoryview) -> int:
        """Bytes from `position` on, as many as are there; 0 at the end."""
        ...


class Follower(io.RawIOBase):
    """A stream of a file as it arrives, hashed as it is read."""

    def __init__(self, source: Bytes, md5: bool):
        self.source, self.position = source, 0
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False) if md5 else None

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        view = memoryview(buffer)
        count = self.source.read_at(self.position, view)
        self.sha256.update(view[:count])
        if self.md5:
            self.md5.update(view[:count])
        self.position += count
        return count

    def drain(self) -> None:
        """Read what is left, for the hash."""
        buffer = bytearray(CHUNK)
        while self.readinto(buffer):
            pass


class Chain(io.RawIOBase):
    """Streams one after the other, as one."""

    def __init__(self, streams: list[Follower]):
        self.streams = streams

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        for stream in self.streams:
            if count := stream.readinto(buffer):
                return count
        return 0
