"""Unpack tar and zip archives that nobody vouches for: nothing outside the folder, no devices, no bombs; links in a tar, and inside it."""

import bz2
import contextlib
import gzip
import io
import lzma
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
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, KeyError, RuntimeError)


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
    try:
        with contextlib.ExitStack() as stack, writing(root):
            root.mkdir(parents=True, exist_ok=True)
            pieces = [stack.enter_context(path.open("rb")) for path in paths]
            stream = io.BufferedReader(_Joined(pieces), CHUNK)
            if stream.peek(2).startswith(b"PK"):
                _unpack_zip(paths[0], root, bound)
            else:
                _unpack_tar(_Counted(_decompressed(stream), bound), root, bound)
    except UNREADABLE as error:
        raise DamagedError(f"{title}: it is damaged or breaks off ({error}); nothing of it is kept") from None


class _Bound:
    """Limits of an archive, and its count so far."""

    def __init__(self, title: str, packed: int, params: DownloadParams):
        self.title = title
        self.limits = f"download.max_unpacked_gb = {params.max_unpacked_gb:g}, download.max_ratio = {params.max_ratio:g}"
        self.most = int(min(params.max_unpacked_gb * 1e9, packed * params.max_ratio + SLACK))
        self.entries = 0
        self.bytes = 0

    def refusal(self, reason: str) -> InputError:
        return InputError(f"{self.title}: {reason}; nothing of it is kept")

    def hold(self, size: int) -> None:
        """Errors: InputError when so many bytes are too many."""
        if size > self.most:
            raise self.refusal(f"it holds more than {self.most / 1e9:.3g} GB ({self.limits}): if it is no bomb, raise what stops it")

    def enter(self, name: str, size: int, allowed: bool) -> None:
        """Count an entry. Errors: InputError when it leads out of the folder, is of a kind that is not allowed, or there is too much."""
        self.entries += 1
        self.bytes += size
        self.hold(self.bytes)
        if self.entries > MAX_ENTRIES:
            raise self.refusal(f"it holds more than {MAX_ENTRIES:,} entries")
        if not allowed or leads_out(name):
            raise self.refusal(f"its entry {name!r} leads out of the folder, or is neither file, folder nor link")


def leads_out(name: str) -> bool:
    """Whether a name in an archive or a listing stands for a place outside the folder."""
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name


class _Counted:
    """A decompressed tar, every byte of it counted."""

    def __init__(self, stream: Any, bound: _Bound):
        self.stream = stream
        self.bound = bound
        self.position = 0

    def read(self, size: int) -> bytes:
        found = self.stream.read(size)
        self.position += len(found)
        self.bound.hold(self.position - self.bound.entries * tarfile.RECORDSIZE)  # headers and padding are small
        return found


class _Entry(tarfile.TarInfo):
    """A header of tar, or an error: tarfile itself takes a damaged one for the end, and reads one of any length into memory."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> tarfile.TarInfo:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # pyright: ignore[reportAttributeAccessIssue]
            raise tarfile.ReadError(str(error)) from None

    @classmethod
    def frombuf(cls, buf: Any, encoding: Any, errors: Any) -> tarfile.TarInfo:
        found = super().frombuf(buf, encoding, errors)
        if found.size > LONGEST_HEADER and not found.isreg():
            raise tarfile.ReadError("it has a header that is too long")
        return found


def _unpack_tar(stream: Any, root: Path, bound: _Bound) -> None:
    """Symbolic links wait until all files are written, so that no file is written through one. Errors: InputError.

    tarfile's data filter is not asked: Python 3.11.2 has none.
    """
    links: list[tarfile.TarInfo] = []
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry, ignore_zeros=True) as archive:
        while member := archive.next():
            allowed = member.isreg() or member.isdir() or member.issym() or member.islnk()
            bound.enter(member.name, member.size if member.isreg() else 0, allowed)
            if member.islnk() and leads_out(member.linkname):
                raise bound.refusal(f"its link {member.name!r} leads out of the folder")
            if member.issym():
                links.append(member)
            else:
                with writing(root / member.name):
                    archive.extract(member, root, set_attrs=False)
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  # a corpus has millions
    _make_links(links, root, bound)


def _make_links(links: list[tarfile.TarInfo], root: Path, bound: _Bound) -> None:
    """Errors: InputError when any leads out of the folder or to nothing, by whatever way, or something else stands there."""
    for link in links:
        path = root / link.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise bound.refusal(f"its link {link.name!r} stands where something else does")
        path.symlink_to(link.linkname)
    for path in (root / link.name for link in links):
        if not path.exists() or not path.resolve().is_relative_to(root.resolve()):
            path.unlink()
            raise bound.refusal(f"its link {str(path.relative_to(root))!r} leads out of the folder, or to no file of it")


def _unpack_zip(path: Path, root: Path, bound: _Bound) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            allowed = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
            bound.enter(info.filename, info.file_size, allowed)
        for info in archive.infolist():
            with writing(root / info.filename):
                archive.extract(info, root)


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
