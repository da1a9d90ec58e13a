"""Locks between processes, held on a file; whoever dies lets go of them."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a file's lock inside the block; yields False when another process holds it, unless told to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        free = True
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            free = False
        yield free
