"""Unpack tar and zip archives that nobody vouches for: nothing outside the folder, no links that lead out, no devices, no bombs."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

from earmark import InputError
from earmark.download.part import unwritable
from earmark.download.remotes import CHUNK
from earmark.params import DownloadParams

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
SLACK = 1 << 20  # bytes that any archive may hold, however small it is
LONGEST_HEADER = 1 << 24  # bytes of one header of tar, which is read into memory


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """A file's name without the ending that makes it an archive."""
    ending = max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(ending)]


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
        path.mkdir(parents=True, exist_ok=True)

    def file(self, path: Path, content: IO[bytes], size: int) -> None:
        """Write a file; a later entry of the same name replaces an earlier one. Errors: InputError when it breaks off, or the disk is full."""
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
        self.folder(path.parent)
        path.unlink(missing_ok=True)
        os.link(target, path)

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


class Forward(io.RawIOBase):
    """A stream that can only go forwards, for tar: seeking there means reading, and no byte is read that is not asked for.

    So a second archive may follow the first in the same stream.
    """

    def __init__(self, stream: Any, tree: Tree):
        self.stream, self.tree, self.position, self.passed = stream, tree, 0, 0
        self.last, self._kept = b"", b""

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end. Errors: InputError for a header, or a content, beyond any measure."""
        if not 0 <= size <= LONGEST_HEADER:
            raise self.tree.refuse("it has a header that is too long")
        found = self._kept[:size]
        self._kept = self._kept[size:]
        while len(found) < size and (chunk := self.stream.read(size - len(found))):
            found += chunk
        self.position, self.last = self.position + len(found), found
        self.tree.bound(self.passed + self.position - self.tree.entries * tarfile.RECORDSIZE)
        return found

    def tell(self) -> int:
        """See io.RawIOBase."""
        return self.position

    def seek(self, position: int, whence: int = 0) -> int:
        """Read on up to there. Errors: InputError for a place that was passed."""
        if whence or position < self.position:
            raise self.tree.damaged("its entries are out of order")
        while self.position < position and self.read(min(CHUNK, position - self.position)):
            pass
        return self.position

    def skip_padding(self) -> bool:
        """Go behind the zeros that end an archive; whether anything follows."""
        while block := self.read(tarfile.BLOCKSIZE):
            if block.count(0) < len(block):
                self._kept, self.passed, self.position = block, self.passed + self.position - len(block), 0
                return True
        return False

    @property
    def ended(self) -> bool:
        """Whether the last block was one of zeros, as at the end of an archive: tarfile takes anything for an end."""
        return len(self.last) == tarfile.BLOCKSIZE and self.last.count(0) == tarfile.BLOCKSIZE


def _decompressed(stream: io.BufferedReader) -> Any:
    head = stream.peek(6)[:6]
    for magic, opened in ((b"\x1f\x8b", gzip.GzipFile), (b"BZh", bz2.BZ2File), (b"\xfd7zXZ", lzma.LZMAFile)):
        if head.startswith(magic):
            return opened(stream, mode="rb")
    return stream


def unpack_tar(stream: io.BufferedReader, tree: Tree) -> None:
    """Unpack a tar, plain or compressed, while it arrives; several in one stream are unpacked one after the other.

    Errors: InputError when it is damaged, breaks off, or holds what it must not.
    """
    forward = Forward(_decompressed(stream), tree)
    try:
        while True:
            with tarfile.TarFile(fileobj=forward, mode="r", errorlevel=2) as archive:
                while member := archive.next():
                    _unpack(archive, member, tree)
                    archive.members = []  # a corpus has millions
            if not forward.ended:
                raise tarfile.ReadError("no end of archive")
            if not forward.skip_padding():
                break
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise tree.damaged(str(error)) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise tree.damaged(str(error)) from None
    tree.make_links()


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree) -> None:
    path = tree.place(member.name, member.size if member.isreg() else 0)
    if path is None:
        return
    if member.isdir():
        tree.folder(path)
    elif member.issym():
        tree.link(path, member.linkname)
    elif member.islnk():
        tree.hard_link(path, tree.place(member.linkname))
    elif member.isreg() and not member.issparse() and (content := archive.extractfile(member)):
        tree.file(path, content, member.size)
    else:
        raise tree.refuse(f"its entry {member.name!r} is neither file, folder nor link")


def unpack_zip(path: Path, tree: Tree) -> None:
    """Unpack a whole zip file. Errors: InputError when it is damaged, or holds what it must not."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                _unpack_entry(archive, info, tree)
    except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise tree.damaged(str(error)) from None
    except (RuntimeError, NotImplementedError) as error:  # a password, a method nobody knows
        raise tree.refuse(f"it cannot be unpacked ({error})") from None
    tree.make_links()


def _unpack_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, tree: Tree) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    path = tree.place(info.filename, info.file_size)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise tree.refuse(f"its entry {info.filename!r} is neither file, folder nor link")
    if path is None:
        return
    if info.is_dir() or kind == stat.S_IFDIR:
        tree.folder(path)
        return
    with archive.open(info) as content:
        if kind == stat.S_IFLNK:
            tree.link(path, content.read(4096).decode(errors="replace"))
        else:
            tree.file(path, content, info.file_size)
