"""Tags that players write before, after and between recordings: ID3, APE, Lyrics3. Places and lengths are in bytes."""

import re
import struct
from typing import BinaryIO

from earmark.audio.claim import at, find_all

ID3, ID3V1, ID3_PLUS = 10, 128, 227  # bytes of a header, of a whole old tag, of what may stand before that
APE, LYRICS = 32, 15  # bytes of a header, of an end mark with its size
APE_HEAD, APE_HAS_HEAD = 1 << 29, 1 << 31  # flags: this is the tag's header; it has one
MARKS = re.compile(rb"ID3[\2-\4]|APETAGEX|LYRICSBEGIN")
MOST_TAGS = 16  # in a row
LONGEST_LYRICS = 1 << 20
SLOPPY = 128  # bytes by which a tag's size is often wrong


def after_id3(file: BinaryIO, place: int = 0) -> int:
    """First byte after the ID3v2 tags that begin here; there may be several."""
    for _ in range(MOST_TAGS):
        head = at(file, place, ID3)
        if len(head) < ID3 or head[:3] != b"ID3":
            break
        place += ID3 + _seven_bits(head[6:10]) + (ID3 if head[5] & 0x10 else 0)
    return place


def _seven_bits(digits: bytes) -> int:
    length = 0
    for byte in digits:
        length = length << 7 | byte & 0x7F
    return length


def past_tags(file: BinaryIO, place: int, size: int) -> int:
    """First byte from here on that is of no tag; `size` where tags fill the rest."""
    for _ in range(MOST_TAGS):
        after = _past_one(file, place, size)
        if after == place or after > size + SLOPPY:
            return place
        place = min(after, size)
    return place


def _past_one(file: BinaryIO, place: int, size: int) -> int:
    head = at(file, place, APE)
    if len(head) >= ID3 and head[:3] == b"ID3" and head[3] in (2, 3, 4) and max(head[6:10]) < 128:
        return after_id3(file, place)
    if head[:8] == b"APETAGEX" and len(head) == APE:
        length, _, flags = struct.unpack("<III", head[12:24])
        return place + APE + (length if flags & APE_HEAD or at(file, place + length, 8) == b"APETAGEX" else 0)
    if head[:11] == b"LYRICSBEGIN":
        text = at(file, place, LONGEST_LYRICS)
        ends = [end + 9 for end in (text.find(b"LYRICS200"), text.find(b"LYRICSEND")) if end >= 0]
        return place + min(ends, default=0)
    if head[:4] == b"TAG+" and at(file, place + ID3_PLUS, 3) == b"TAG":
        return place + ID3_PLUS + ID3V1
    if head[:3] == b"TAG" and (place + ID3V1 == size or _past_one(file, place + ID3V1, size) > place + ID3V1):
        return place + ID3V1
    return place


def before_tags(file: BinaryIO, size: int) -> int:
    """Byte at which the tags at a file's end begin; the file's end where there are none."""
    for _ in range(MOST_TAGS):
        tail = at(file, max(size - APE, 0), APE).rjust(APE, b"\0")
        if size > ID3V1 and at(file, size - ID3V1, 3) == b"TAG":
            length = ID3V1 + (ID3_PLUS if size > ID3V1 + ID3_PLUS and at(file, size - ID3V1 - ID3_PLUS, 4) == b"TAG+" else 0)
        elif tail[:8] == b"APETAGEX":
            stated, _, flags = struct.unpack("<III", tail[12:24])
            length = stated + (APE if flags & APE_HAS_HEAD and at(file, size - stated - APE, 8) == b"APETAGEX" else 0)
        elif tail.endswith(b"LYRICS200") and tail[-LYRICS:-9].isdigit():
            length = int(tail[-LYRICS:-9]) + LYRICS
        elif tail[-ID3 : -ID3 + 3] == b"3DI":
            length = _seven_bits(tail[-4:]) + 2 * ID3
        else:
            return size
        if not 0 < length <= size:
            return size
        size -= length
    return size


def spans(file: BinaryIO, place: int, end: int) -> list[tuple[int, int]]:
    """(first byte, end) of the tags that begin between two bytes of a file, as they do where MP3s were joined; in order."""
    found: list[tuple[int, int]] = []
    for begin in find_all(file, MARKS, len(b"LYRICSBEGIN"), place, end):
        if begin >= (found[-1][1] if found else place) and (after := past_tags(file, begin, end)) > begin:
            found.append((begin, after))
    return found


def count_tags(file: BinaryIO, place: int, end: int) -> int:
    """Bytes of tags between two bytes of a file."""
    return sum(min(after, end) - begin for begin, after in spans(file, place, end))
