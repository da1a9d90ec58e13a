"""Unpack tar and zip archives that nobody vouches for: nothing outside the folder, no devices, no bombs; links in a tar, and inside it."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from earmark import InputError
from earmark.params import DownloadParams

CHUNK = 1 << 20
SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".tgz", ".zip")
SLACK = 1 << 20  # ours: bytes that any archive may hold, however small it is
LONGEST_HEADER = 1 << 24  # ours: bytes of one header of tar, which is read into memory
MAX_ENTRIES = 5_000_000  # ours: eight times the files of ASVspoof2021 DF
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError)


class DamagedError(InputError):
    """An archive that breaks off or is not one: its bytes are of no use."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors: InputError naming `path` when the disk is full or the place may not be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise  # not of the disk
        raise InputError(f"cannot write {path}: {error.strerror}; free space, then run it again: it resumes") from error


def stem(name: str) -> str:
    """A file's name without the ending that makes it an archive, if it has one."""
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def unpack(paths: list[Path], title: str, root: Path, params: DownloadParams) -> None:
    """Unpack below `root` an archive, or the pieces of one that was cut up; of several tars behind each other, each.

    Errors: InputError when it holds what it must not, DamagedError when it breaks off.
    """
    bound = _Bound(title, sum(path.stat().st_size for path in paths), params)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            pieces = [stack.enter_context(path.open("rb")) for path in paths]
            stream: Any = io.BufferedReader(_Joined(pieces), CHUNK)
            if stream.peek(2).startswith(b"PK"):
                _unpack_zip(paths[0], root, bound)
            else:
                _unpack_tar(_Forward(_decompressed(stream), bound), root, bound)
    except UNREADABLE as error:
        raise DamagedError(f"{title}: it is damaged or breaks off ({error}); nothing of it is kept") from None


class _Bound:
    """What an archive may become at most, and what it has come to."""

    def __init__(self, title: str, packed: int, params: DownloadParams):
        self.title, self.params, self.entries, self.bytes = title, params, 0, 0
        self.most = int(min(params.max_unpacked_gb * 1e9, packed * params.max_ratio + SLACK))

    def refuse(self, reason: str) -> InputError:
        return InputError(f"{self.title}: {reason}; nothing of it is kept")

    def refuse_link(self, name: str) -> InputError:
        return self.refuse(f"its link {name!r} leads out of the folder, or to no file of it")

    def hold(self, size: int) -> None:
        if size > self.most:
            limits = f"download.max_unpacked_gb = {self.params.max_unpacked_gb:g}, download.max_ratio = {self.params.max_ratio:g}"
            raise self.refuse(f"it holds more than {self.most / 1e9:.3g} GB ({limits}): if it is no bomb, raise the one that stops it")

    def enter(self, name: str, size: int) -> None:
        """Count an entry. Errors: InputError when it leads out of the folder, or there is too much."""
        self.entries, self.bytes = self.entries + 1, self.bytes + size
        self.hold(self.bytes)
        if self.entries > MAX_ENTRIES:
            raise self.refuse(f"it holds more than {MAX_ENTRIES:,} entries")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name:
            raise self.refuse(f"its entry {name!r} leads out of the folder")


class _Forward(io.RawIOBase):
    """A stream for tarfile that only goes forwards, so that no byte is read uncounted."""

    def __init__(self, stream: Any, bound: _Bound):
        self.stream, self.bound, self.position = stream, bound, 0

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end. Errors: InputError for a header, or a content, beyond any measure."""
        if not 0 <= size <= LONGEST_HEADER:
            raise self.bound.refuse("it has a header that is too long")
        found = b""
        while len(found) < size and (chunk := self.stream.read(size - len(found))):
            found += chunk
        self.position += len(found)
        self.bound.hold(self.position - self.bound.entries * tarfile.RECORDSIZE)  # headers and padding are small
        return found

    def tell(self) -> int:
        return self.position

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self.position:
            raise tarfile.ReadError("its entries are out of order")
        while self.position < position and self.read(min(CHUNK, position - self.position)):
            pass
        return self.position


class _Entry(tarfile.TarInfo):
    """A header of tar, or an error: tarfile itself takes anything for an end."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> tarfile.TarInfo:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            member = super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            kind = type(error).__name__
            if kind != "EOFHeaderError" and not (archive.ended and kind == "EmptyHeaderError"):
                raise tarfile.ReadError(f"no end of archive: {error}") from None
            archive.ended = True
            raise
        archive.ended = False
        return member


class _Archive(tarfile.TarFile):
    """One tar, or several behind each other, read to the last byte."""

    tarinfo, ignore_zeros, errorlevel, ended = _Entry, True, 2, False


def _unpack_tar(stream: _Forward, root: Path, bound: _Bound) -> None:
    """Links wait until all files are written, so that no file is written through one."""
    links: list[tarfile.TarInfo] = []
    with _Archive(fileobj=stream, mode="r") as archive:  # pyright: ignore[reportArgumentType]
        while member := archive.next():
            bound.enter(member.name, member.size if member.isreg() else 0)
            if member.issym():
                target = os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))
                if target == ".." or target.startswith(("/", "../")):
                    raise bound.refuse_link(member.name)
                links.append(member)
            else:
                _extract(archive, member, root, bound)
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  # a corpus has millions
    _make_links(links, root, bound)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, bound: _Bound) -> None:
    """A file, folder or hard link; its name is known to stay inside. tarfile's data filter is not asked: Python 3.11.2 has none."""
    if not (member.isreg() or member.isdir() or member.islnk()):
        raise bound.refuse(f"its entry {member.name!r} is neither file, folder nor link")
    if member.islnk() and (member.linkname.startswith("/") or ".." in PurePosixPath(member.linkname).parts):
        raise bound.refuse_link(member.name)
    try:
        with writing(root / member.name):
            archive.extract(member, root, set_attrs=False)
    except KeyError:
        raise bound.refuse_link(member.name) from None


def _make_links(links: list[tarfile.TarInfo], root: Path, bound: _Bound) -> None:
    """Errors: InputError when any leads out of the folder or to nothing, by whatever way."""
    for link in links:
        with writing(root / link.name):
            (root / link.name).parent.mkdir(parents=True, exist_ok=True)
    for link in links:
        if os.path.lexists(root / link.name):
            raise bound.refuse(f"its link {link.name!r} stands where something else does")
        (root / link.name).symlink_to(link.linkname)
    for link in links:
        path = root / link.name
        if not path.exists() or not path.resolve(strict=True).is_relative_to(root.resolve()):
            raise bound.refuse_link(link.name)


def _unpack_zip(path: Path, root: Path, bound: _Bound) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            bound.enter(info.filename, info.file_size)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise bound.refuse(f"its entry {info.filename!r} is neither file nor folder")
        for info in archive.infolist():
            try:
                with writing(root / info.filename):
                    archive.extract(info, root)
            except (RuntimeError, NotImplementedError) as error:  # a password, a method nobody knows
                raise bound.refuse(f"it cannot be unpacked ({error})") from None


def _decompressed(stream: Any) -> Any:
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if stream.peek(6).startswith(magic):
            return opened(stream, "rb")
    return stream


class _Joined(io.RawIOBase):
    """Files one after the other, as one."""

    def __init__(self, pieces: list[Any]):
        self.pieces = pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return next((count for piece in self.pieces if (count := piece.readinto(buffer))), 0)
