"""Unpack tar and zip archives that nobody vouches for: nothing outside the folder, no links that lead out, no devices, no bombs."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from earmark.download.remotes import CHUNK
from earmark.download.tree import Tree

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
LONGEST_HEADER = 1 << 24  # bytes of one header of tar, which is read into memory


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """A file's name without the ending that makes it an archive."""
    ending = max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(ending)]


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
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if head.startswith(magic):
            return opened(stream, "rb")
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
                    archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  # a corpus has millions
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
