"""A lock for all who use one MLflow store, which has unique names but no compare-and-swap.

Holding means owning the newest of the registered models `earmark-lock-<what>-<generation>`. Taking the lock is creating the next
generation, which one process alone can, when the newest is released or its lease has run out. The newest is never deleted, only released,
so generations rise for ever: a slow process that still wants an old generation finds a newer one beside it and gives way.
"""

import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from earmark import InputError
from earmark.registry.pipeline import who
from earmark.registry.server import is_conflict

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
PREFIX = "earmark-lock-"
_held: set[str] = set()  # tokens that this process holds


def process() -> str:
    """This process, told from all others that ever ran here."""
    return f"{socket.gethostname()}/{os.getpid()}/{psutil.Process().create_time()}"


def is_free(tags: dict[str, str]) -> bool:
    """Released, run out, or left behind by a process of this host that is dead or has forgotten it."""
    if tags.get("released") == "true" or time.time() >= float(tags.get("expires", "0")):
        return True
    host, pid, started = tags.get("process", "//").rsplit("/", 2)
    if host != socket.gethostname():
        return False
    try:
        alive = str(psutil.Process(int(pid)).create_time()) == started
    except psutil.NoSuchProcess:
        alive = False
    return not alive or (int(pid) == os.getpid() and tags.get("token") not in _held)


@dataclass
class Lock:
    """One process's hold on a name."""

    client: "MlflowClient"
    what: str
    lease_seconds: float
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    generation: int = 0

    def take(self, wait_seconds: float) -> None:
        """Wait for the lock. Errors: InputError naming the holder when it is not free in time."""
        until = time.monotonic() + wait_seconds
        while not self._try():
            if time.monotonic() > until:
                raise InputError(f"{self.what} is locked by {self._newest()[1].get('owner', 'another process')}: try again when it is done")
            time.sleep(random.uniform(0.1, 0.5))

    def check(self) -> None:
        """Make sure that nobody took over. Errors: InputError when this process was slower than its lease."""
        newest, tags = self._newest()
        if newest != self.generation or tags.get("token") != self.token:
            raise InputError(f"the lock of {self.what} ran out and was taken over by {tags.get('owner', 'another process')}: run it again")

    def release(self) -> None:
        """Give the lock free for the next."""
        self.client.set_registered_model_tag(self._name(self.generation), "released", "true")

    def _try(self) -> bool:
        from mlflow.exceptions import MlflowException

        newest, tags = self._newest()
        if newest and not is_free(tags):
            return False
        mine = {"owner": who(), "process": process(), "token": self.token, "expires": str(time.time() + self.lease_seconds)}
        try:
            self.client.create_registered_model(self._name(newest + 1), mine, f"lock of {self.what}; the newest stays, released")
        except MlflowException as error:
            if not is_conflict(error):
                raise
        return self._owns(newest + 1)

    def _owns(self, generation: int) -> bool:
        """Whether this generation is this process's and the newest; older ones are then swept away, else a vain one of its own is."""
        found = self._generations()
        if found.get(generation, {}).get("token") != self.token:
            return False
        if generation < max(found):
            self._delete(generation)
            return False
        self.generation = generation
        for old in found.keys() - {generation}:
            self._delete(old)
        return True

    def _generations(self) -> dict[int, dict[str, str]]:
        """Tags by generation."""
        stem = self._name("")
        found = self.client.search_registered_models(f"name LIKE '{stem}%'", max_results=1000)
        return {int(model.name.removeprefix(stem)): model.tags for model in found if model.name.removeprefix(stem).isdigit()}

    def _newest(self) -> tuple[int, dict[str, str]]:
        found = self._generations()
        return (max(found), found[max(found)]) if found else (0, {})

    def _name(self, generation: int | str) -> str:
        return f"{PREFIX}{self.what}-{generation}"

    def _delete(self, generation: int) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.delete_registered_model(self._name(generation))
        except MlflowException as error:
            if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                raise


@contextmanager
def lock(client: "MlflowClient", what: str, *, wait_seconds: float = 60, lease_seconds: float = 60) -> Iterator[Lock]:
    """Hold the lock inside the block; one that cannot be released, since the server went away, runs out by itself."""
    from mlflow.exceptions import MlflowException

    held = Lock(client, what, lease_seconds)
    held.take(wait_seconds)
    _held.add(held.token)
    try:
        yield held
    finally:
        _held.discard(held.token)
        try:
            held.release()
        except MlflowException as error:
            log.warning("the lock of %s could not be released and runs out in %g s: %s", what, lease_seconds, str(error).splitlines()[0])
