"""Where films end: MP4 and its kin, Matroska, Microsoft's ASF (WMA)."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from earmark.audio.claim import MOST_PARTS, Claim, at, short
from earmark.audio.following import another

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # begins the identifier of a file's header object
ASF_FILE = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11"  # and that of the properties of the whole file
INSIDE = tuple(  # Matroska's elements of a segment and of a cluster
    map(
        bytes.fromhex,
        (
            "114d9b74",
            "1549a966",
            "1f43b675",
            "1654ae6b",
            "1c53bb6b",
            "1941a469",
            "1043a770",
            "1254c367",
            "ec",
            "bf",
            "e7",
            "5854",
            "a7",
            "ab",
            "a3",
            "a0",
            "af",
        ),
    )
)
LIVE = 1  # flag: written as it was sent, so that no size is meant


def mp4(file: BinaryIO, size: int) -> Claim:
    """Boxes at the top: one that reaches beyond the file is cut; a second film follows."""
    claim, films, after = Claim(), 0, 0
    for name, start, end in _boxes(file, 0, size):
        if end > size and (other := another(file, after, size)):  # of a kind that only looks like a box
            claim.follows = other
            return claim
        after = end
        if end > size:
            claim.missing, claim.stated = short(end, size)
        films += name == b"moov"
        if name == b"moov" and films == 1:
            claim.codings = tuple(_codings(file, start, min(end, size)))
        if (name == b"ftyp" and films) or films > 1:
            claim.follows = "another MP4"
    claim.follows = claim.follows or ("" if after >= size else another(file, after, size))
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
            return Claim(missing=missing, stated=stated, follows=another(file, place, size))
        if number == 1:
            return Claim(follows=another(file, _end_of_clusters(file, start, size), size))
    return Claim()


def _end_of_clusters(file: BinaryIO, place: int, size: int) -> int:
    """First byte that is of no element of a segment without a size; the end, where a cluster has none either or another segment begins."""
    for _ in range(MOST_PARTS):
        if place >= size:
            break
        name, length, start, known = _element(file, place)
        if name not in INSIDE:
            return size if name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67") else place
        place = start + (length if known else 0)
    return size


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
            known = stated > length and not flags & LIVE
            return Claim(None, *short(stated, size), follows=another(file, stated, size)) if known else Claim()
        place += inner
    return Claim()


def programs(file: BinaryIO, size: int) -> Claim:
    """MPEG program streams: packs and packets, each with its size, to the end mark or what is none of them."""
    place = 0
    for _ in range(MOST_PARTS * 10):
        head = at(file, place, 14)
        if head[:3] != b"\0\0\x01" or len(head) < 6:
            break
        if head[3] == 0xBA:
            place += 14 + (head[-1] & 7) if head[4] & 0xC0 == 0x40 else 12
        elif head[3] == 0xB9:
            place += 4
        elif head[3] > 0xB9 and (length := int.from_bytes(head[4:6], "big")):
            place += 6 + length
        else:
            return Claim()
    return Claim(follows=another(file, place, size) if 0 < place < size else "")
