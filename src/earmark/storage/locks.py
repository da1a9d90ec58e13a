"""Locks between processes, held on a file; whoever dies lets go of them."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


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
        except OSError as error:  # as on some volumes of a network
            log.warning("%s: there are no locks here (%s): start no two processes that want it at once", path, error)
        yield free
