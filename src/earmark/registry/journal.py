"""What a stage says for tracking, written on the local disk first: a server that is away costs nothing but a later `earmark sync`.

A journal is a folder: about.json (which stage, when, where to), events.jsonl (figures, one line an instant), artifacts/, and at the end
end.json. The stage holds `writer` locked while it lives, and whoever sends holds `sender`, so a stage that was killed is told from one
that still runs.
"""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark.storage.files import complete, write_json

PLACE = Path(".earmark/journal")
LARGEST = 50_000_000  # bytes of a file worth tracking; tables and weights belong to DVC and the registry
REPORTS = frozenset((".csv", ".json", ".txt", ".png", ".svg", ".html"))
Flat = Mapping[str, float]


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Journal:
    """The writing side: one stage, begun and ended once."""

    def __init__(self, place: Path, stage: str, about: Mapping[str, Any]):
        identifier = uuid.uuid4().hex
        self.folder = place / f"{time.strftime('%Y%m%d-%H%M%S')}-{stage}-{identifier[:8]}"
        with complete(self.folder) as aside:
            aside.mkdir()
            self._writer = _lock(aside / "writer")
            write_json(aside / "about.json", {"id": identifier, "stage": stage, "started": now(), **about})
        self._events = (self.folder / "events.jsonl").open("a", encoding="utf-8")

    def event(self, metrics: Flat, step: int = 0, series: str = "") -> None:
        """Write figures of an instant; `series` tells runs of steps apart."""
        line = {"time": now(), "step": step, "series": series, "metrics": {name: float(value) for name, value in metrics.items()}}
        self._events.write(json.dumps(line) + "\n")
        self._events.flush()

    def end(self, status: str, datasets: Sequence[Mapping[str, str]] = (), artifacts: Sequence[Path] = ()) -> None:
        """Copy report files (below the folders, or single ones) and close; `status` is one of MLflow's for runs."""
        for path in artifacts:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.suffix in REPORTS and file.is_file() and file.stat().st_size <= LARGEST:
                    target = self.folder / "artifacts" / file.relative_to(path if path.is_dir() else path.parent)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
        write_json(self.folder / "end.json", {"status": status, "ended": now(), "datasets": list(datasets)})
        self._events.close()
        os.close(self._writer)


@dataclass(frozen=True)
class Written:
    """The reading side."""

    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """Stage, times, tags, params."""
        return json.loads((self.folder / "about.json").read_text())

    @property
    def running(self) -> bool:
        """Whether the stage still lives."""
        with locked(self.folder / "writer") as free:
            return not free

    @property
    def ending(self) -> dict[str, Any] | None:
        """Status, time and datasets; None while the stage has not ended, or when it was killed."""
        path = self.folder / "end.json"
        return json.loads(path.read_text()) if path.exists() else None

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Events from a byte on, and the byte behind them; a line that a killed stage left half written is left out."""
        path = self.folder / "events.jsonl"
        content = path.read_bytes()[offset:] if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.split(b"\n") if line], offset + len(whole)

    def remove(self) -> None:
        """Forget the journal: renamed first, so that a half removed one is never taken for one to send."""
        gone = self.folder.with_name(f".{self.folder.name}.sent")
        os.replace(self.folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def journals(place: Path) -> list[Written]:
    """Journals that lie there, oldest first."""
    return [Written(path.parent) for path in sorted(place.glob("[!.]*/about.json"))]


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a file's lock inside the block; yields False when another process holds it, unless told to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle
