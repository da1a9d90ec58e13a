"""What a file claims of its own end, and the file as decoders are to read it."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

NO_LENGTH = "its header states no length"
BLOCK = 1 << 20  # bytes that are searched at once
MOST_PARTS = 200_000  # chunks, boxes or pages walked over: no recording has more


@dataclass
class Claim:
    """The end of a file as its container states it.

    `seconds` is the length that is stated, None where none is; `missing` how many bytes of it are not there, of `stated` bytes.
    `unfinished` says what the writer never filled in; `follows` names what comes after the sound, and would not be heard.
    """

    seconds: float | None = None
    missing: int = 0
    stated: int = 0
    unfinished: str = ""
    follows: str = ""
    codings: tuple[str, ...] = ()  # of an MP4's sound tracks, as it writes them
    cut_at: int | None = None  # decoders are to read no further than this, and then `tail`
    tail: bytes = b""
    head: bytes = b""  # what decoders are to read in place of as many first bytes
    links: list[int] = field(default_factory=lambda: [0])  # first bytes of the streams that follow one another: a chained Ogg has several
    cuts: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # `cut_at` and `tail` of links that others follow
    late: dict[int, float] = field(default_factory=dict)  # seconds at which the clock of a link begins


class Mended(io.RawIOBase):
    """One link of a file, with another head and another tail where its claim says so; readable and seekable."""

    def __init__(self, file: BinaryIO, claim: Claim, link: int = 0):
        last = link == len(claim.links) - 1
        self.file, self.place, self.start = file, 0, claim.links[link]
        whole = size_of(file) if last else claim.links[link + 1]
        end, self.tail = claim.cuts.get(link, (whole, b""))
        if last:
            end, self.tail = whole if claim.cut_at is None else claim.cut_at, claim.tail
        self.body, self.head = end - self.start, claim.head if link == 0 else b""

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none at the end."""
        left = self.body + len(self.tail) - self.place
        size = max(left if size < 0 else min(size, left), 0)
        if self.place < len(self.head):
            found = self.head[self.place : self.place + size]
        elif self.place < self.body:
            self.file.seek(self.start + self.place)
            found = self.file.read(min(size, self.body - self.place))
        else:
            found = self.tail[self.place - self.body :][:size]
        self.place += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.body + len(self.tail)}[whence]
        self.place = max(start + offset, 0)
        return self.place

    def tell(self) -> int:
        """Byte that is read next."""
        return self.place


def size_of(file: BinaryIO) -> int:
    """Bytes of a file."""
    return file.seek(0, io.SEEK_END)


def at(file: BinaryIO, place: int, count: int) -> bytes:
    """Bytes from a place on, fewer at the end."""
    file.seek(place)
    return file.read(count)


def short(end: int, size: int, start: int = 0) -> tuple[int, int]:
    """Bytes missing of what should reach to `end`, and bytes stated from `start` on."""
    return max(end - size, 0), end - start


def find(file: BinaryIO, mark: bytes, place: int) -> int:
    """First byte of a mark from `place` on; the file's end where there is none."""
    while block := at(file, place, 1 << 20):
        if (found := block.find(mark)) >= 0:
            return place + found
        if len(block) < 1 << 20:
            return place + len(block)
        place += len(block) - len(mark) + 1
    return place


def find_all(file: BinaryIO, marks: re.Pattern[bytes], longest: int, place: int, end: int) -> Iterator[int]:
    """First bytes, in order, of all marks of at most `longest` bytes between two bytes of a file."""
    while place < end:
        block = at(file, place, min(BLOCK, end - place) + longest - 1)
        if not block:
            return
        for found in marks.finditer(block):
            if found.start() < BLOCK:
                yield place + found.start()
        place += BLOCK
