"""The folder that an archive is unpacked to: nothing outside it, no links that lead out, no more than may be."""

import os
from pathlib import Path, PurePosixPath
from typing import IO

from earmark import InputError
from earmark.download.part import unwritable
from earmark.download.remotes import CHUNK
from earmark.params import DownloadParams

SLACK = 1 << 20  # bytes that any archive may hold, however small it is


class DamagedError(InputError):
    """An archive that breaks off or is not one: its bytes are of no use."""


class Tree:
    """The folder that an archive is unpacked to, and what it may become at most.

    Links are made when all files are written, so that no file is written through one.
    """

    def __init__(self, root: Path, title: str, packed: int, params: DownloadParams):
        self.root, self.title, self.params = root, title, params
        self.ceiling = int(min(params.max_unpacked_gb * 1e9, packed * params.max_ratio + SLACK))
        self.entries, self.bytes = 0, 0
        self._links: list[tuple[Path, str]] = []
        root.mkdir(parents=True, exist_ok=True)

    def refuse(self, reason: str) -> InputError:
        """Error that names the archive."""
        return InputError(f"{self.title}: {reason}; nothing of it is kept")

    def damaged(self, reason: str) -> DamagedError:
        """Error that names the archive."""
        return DamagedError(f"{self.title}: it is damaged or breaks off ({reason}); nothing of it is kept")

    def place(self, name: str, size: int = 0) -> Path | None:
        """Where an entry goes, None for the root itself. Errors: InputError when that is outside, or the archive becomes too large."""
        self.entries, self.bytes = self.entries + 1, self.bytes + size
        self.bound(self.bytes)
        if self.entries > self.params.max_files:
            raise self.refuse(f"more than download.max_files = {self.params.max_files:,} entries")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise self.refuse(f"its entry {name!r} leads out of the folder")
        return self.root.joinpath(*parts) if parts else None

    def bound(self, size: int) -> None:
        """Errors: InputError when so many bytes are more than may be."""
        if size > self.ceiling:
            limits = f"download.max_unpacked_gb = {self.params.max_unpacked_gb:g}, download.max_ratio = {self.params.max_ratio:g}"
            raise self.refuse(f"it holds more than {self.ceiling / 1e9:.3g} GB ({limits}): if it is no bomb, raise the one that stops it")

    def folder(self, path: Path) -> None:
        """Make a folder, and those above it."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error

    def file(self, path: Path, content: IO[bytes], size: int) -> None:
        """Write a file; a later entry of the same name replaces an earlier one.

        Errors: InputError when it breaks off, or the disk is full.
        """
        try:
            self.folder(path.parent)
            path.unlink(missing_ok=True)
            with path.open("xb") as stream:
                left = size
                while left and (chunk := content.read(min(CHUNK, left))):
                    stream.write(chunk)
                    left -= len(chunk)
        except OSError as error:
            if error.errno is None:
                raise  # of the archive
            raise unwritable(path, error) from error
        if left:
            raise self.damaged(f"inside {path.name}")

    def link(self, path: Path, target: str) -> None:
        """Note a symbolic link. Errors: InputError when it is seen to lead out."""
        if target.startswith("/") or not target:
            raise self.refuse(f"its link {path.name!r} leads out of the folder")
        self._links.append((path, target))

    def hard_link(self, path: Path, target: Path | None) -> None:
        """A second name for a file that was written before."""
        if target is None or not target.is_file():
            raise self.refuse(f"its link {path.name!r} is to no file of it")
        try:
            self.folder(path.parent)
            path.unlink(missing_ok=True)
            os.link(target, path)
        except OSError as error:
            raise unwritable(path, error) from error

    def make_links(self) -> None:
        """Make the symbolic links. Errors: InputError when any leads out, by whatever way."""
        for path, target in self._links:
            self.folder(path.parent)
            if path.exists() or path.is_symlink():
                raise self.refuse(f"its link {path.name!r} stands where something else does")
            if not path.parent.resolve().is_relative_to(self.root.resolve()):
                raise self.refuse(f"its link {path.name!r} leads out of the folder")
            path.symlink_to(target)
        for path, _ in self._links:
            try:
                inside = path.resolve().is_relative_to(self.root.resolve())
            except (OSError, RuntimeError):  # a loop
                inside = False
            if not inside:
                raise self.refuse(f"its link {path.name!r} leads out of the folder")
