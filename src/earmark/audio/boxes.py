"""Where films end: MP4 and its kin, Matroska, Microsoft's ASF (WMA)."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from earmark.audio.claim import MOST_PARTS, Claim, at, short

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # begins the identifier of a file's header object
ASF_FILE = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11"  # and that of the properties of the whole file
LIVE = 1  # flag: written as it was sent, so that no size is meant


def mp4(file: BinaryIO, size: int) -> Claim:
    """Boxes at the top: one that reaches beyond the file is cut; a second film follows."""
    claim, films = Claim(), 0
    for name, start, end in _boxes(file, 0, size):
        if end > size:
            claim.missing, claim.stated = short(end, size)
        films += name == b"moov"
        if name == b"moov" and films == 1:
            claim.codings = tuple(_codings(file, start, min(end, size)))
        if (name == b"ftyp" and films) or films > 1:
            claim.follows = "another MP4"
    return claim


def _boxes(file: BinaryIO, place: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte of the content, end) of each box; an end may lie beyond the file's."""
    for _ in range(MOST_PARTS):
        if place + 8 > size:
            return
        length, name = struct.unpack(">I4s", at(file, place, 8))
        head = 8
        if length == 1:
            length, head = struct.unpack(">Q", at(file, place + 8, 8))[0], 16
        elif length == 0:
            length = size - place
        if length < head or not all(32 <= byte < 127 or byte == 0xA9 for byte in name):
            return
        yield name, place + head, place + length
        place += length


def _codings(file: BinaryIO, start: int, end: int) -> Iterator[str]:
    """Coding of each sound track, in order."""
    for name, first, last in _boxes(file, start, end):
        if name == b"trak":
            inside = {inner: (begin, stop) for inner, begin, stop in _nested(file, first, min(last, end), 0)}
            if b"hdlr" in inside and at(file, inside[b"hdlr"][0] + 8, 4) == b"soun" and b"stsd" in inside:
                yield at(file, inside[b"stsd"][0] + 12, 4).decode("latin-1")


def _nested(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    for name, first, last in _boxes(file, start, end):
        yield name, first, last
        if name in (b"mdia", b"minf", b"stbl") and depth < 4:
            yield from _nested(file, first, min(last, end), depth + 1)


def matroska(file: BinaryIO, size: int) -> Claim:
    """The segment's size, where its writer came back to fill it in."""
    place = 0
    for number in range(2):  # the EBML header, then the segment
        _, length, start, known = _element(file, place)
        place = start + length
        if number == 1 and known:
            missing, stated = short(place, size, start)
            follows = "another film" if at(file, place, 4) == b"\x1a\x45\xdf\xa3" else ""
            return Claim(missing=missing, stated=stated, follows=follows)
    return Claim()


def _element(file: BinaryIO, place: int) -> tuple[bytes, int, int, bool]:
    """Id, bytes, first byte and whether the size is known, of an EBML element."""
    head = at(file, place, 12)
    width = 9 - head[0].bit_length()
    size = 9 - head[width].bit_length()
    raw = int.from_bytes(head[width : width + size], "big") & (1 << 7 * size) - 1
    return head[:width], raw, place + width + size, raw != (1 << 7 * size) - 1


def asf(file: BinaryIO, size: int) -> Claim:
    """The header object holds the properties of the file: its size in bytes, unless it was broadcast."""
    length, count = struct.unpack("<QI", at(file, 16, 12))
    place = 30
    for _ in range(min(count, MOST_PARTS)):
        head = at(file, place, 24)
        inner = struct.unpack("<Q", head[16:])[0]
        if head[: len(ASF_FILE)] == ASF_FILE:
            stated, flags = struct.unpack("<Q", at(file, place + 40, 8))[0], struct.unpack("<I", at(file, place + 88, 4))[0]
            return Claim(None, *short(stated, size)) if stated > length and not flags & LIVE else Claim()
        place += inner
    return Claim()
