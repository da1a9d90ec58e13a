"""Where files of chunks end: WAV and its kin, AIFF, AU, CAF, Wave64, Creative's VOC."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from earmark.audio.claim import MOST_PARTS, NO_LENGTH, Claim, at, short
from earmark.audio.frames import after_id3

OPEN = 0x7FFFF000  # sizes from here on are those of writers that could not know: streams
STREAMED = (0, 0xFFFFFFFF)  # sizes of a RIFF chunk whose writer never came back to fill them in
PLAIN = (1, 3, 6, 7)  # WAV's tags of PCM, float, A-law and µ-law, whose bytes a second can be believed
SOUND = 0.1  # seconds: fewer bytes than that are no sound that anybody would miss


def riff(file: BinaryIO, size: int) -> Claim:
    """WAV, RF64, BW64 and AVI: the data chunk counts, the file's own size does not."""
    head = at(file, 0, 12)
    order, kind = ">" if head[:4] == b"RIFX" else "<", head[8:12]
    if kind != b"WAVE":
        stated = struct.unpack(order + "I", head[4:8])[0]
        missing, of = short(stated + 8, size)
        return Claim(missing=missing if stated not in STREAMED else 0, stated=of)
    long, per_second = 0, 0
    for name, length, place in _chunks(file, 12, size, order):
        if name == b"ds64":
            long = struct.unpack("<Q", at(file, place + 8, 8))[0]
        elif name == b"fmt ":
            form = at(file, place, 26)
            coding = struct.unpack(order + "H", form[24:26] if form[:2] in (b"\xfe\xff", b"\xff\xfe") else form[:2])[0]
            channels, rate, _, _, bits = struct.unpack(order + "HIIHH", form[2:16])
            per_second = channels * rate * ((bits + 7) // 8) if coding in PLAIN else 0  # the stated one is often wrong
        elif name == b"data":
            length = long if length == STREAMED[1] and long not in (0, 2**64 - 1) else length
            if length == 0 or (length >= OPEN and place + length > size and not long):
                if place >= size or (length == 0 and size - place < 4096 and not _unexplained(file, place, 0, size, order)):
                    return Claim(seconds=0.0)
                return Claim(unfinished=NO_LENGTH)
            return _data(file, size, place, length, per_second, order)
    return Claim()


def _data(file: BinaryIO, size: int, place: int, length: int, per_second: int, order: str) -> Claim:
    """Claim of a data chunk of `length` bytes."""
    missing, stated = short(place + length, size, place)
    claim = Claim(length / per_second if per_second else None, missing, stated)
    after = place + length
    if missing == 0 and size - after > 8:
        if at(file, after + length % 2, 4) in (b"RIFF", b"RF64", b"RIFX"):
            claim.follows = "another WAV"
        elif (rest := _unexplained(file, after, length % 2, size, order)) and rest > SOUND * (per_second or 1):
            claim.follows = f"{rest:,} bytes that its data chunk does not count"
    return claim


def _unexplained(file: BinaryIO, place: int, odd: int, size: int, order: str) -> int:
    """Bytes from here on that are no chunk, no tag that players append to any file, and not zero to the end."""
    for _ in range(MOST_PARTS):
        left = size - place
        if left <= 8 or _tag(file, place, left) or _is_zero(file, place):
            return 0
        for start in dict.fromkeys((place + odd, place)):  # some writers leave out the pad byte
            name, length = struct.unpack(order + "4sI", at(file, start, 8).ljust(8, b"\0"))
            if all(32 <= byte < 127 for byte in name) and start + 8 + length <= size + 8:
                place, odd = start + 8 + length, length % 2
                break
        else:
            return left
    return 0


def _tag(file: BinaryIO, place: int, left: int) -> bool:
    """Whether an ID3v1, ID3v2 or APE tag fills the rest."""
    head = at(file, place, 32)
    return (
        (head[:3] == b"TAG" and left == 128)
        or head[:8] == b"APETAGEX"
        or (head[:3] == b"ID3" and abs(after_id3(file, place) - place - left) <= 128)
    )


def _is_zero(file: BinaryIO, place: int) -> bool:
    while block := at(file, place, 1 << 20):
        if block.strip(b"\0"):
            return False
        place += len(block)
    return True


def _chunks(file: BinaryIO, place: int, size: int, order: str, wide: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """(name, bytes, first byte) of chunks padded to even sizes."""
    head = struct.Struct(order + ("4sQ" if wide else "4sI"))
    for _ in range(MOST_PARTS):
        if place + head.size > size:
            return
        name, length = head.unpack(at(file, place, head.size))
        yield name, length, place + head.size
        place += head.size + length + (0 if wide else length % 2)


def aiff(file: BinaryIO, size: int) -> Claim:
    """The sound chunk's size; one that was never filled in is mended for decoders, which would read nothing."""
    chunks = {name: (length, place) for name, length, place in _chunks(file, 12, size, ">")}
    if b"COMM" not in chunks or b"SSND" not in chunks:
        return Claim()
    (length, place), common = chunks[b"SSND"], chunks[b"COMM"][1]
    channels, frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", at(file, common, 18))
    rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
    plain = at(file, 8, 4) == b"AIFF" or at(file, common + 18, 4) in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"alaw", b"ulaw")
    if length not in (*STREAMED, 8) and frames:
        return Claim(frames / rate if rate and plain else None, *short(place + length, size, place))
    if place + 8 >= size:
        return Claim(seconds=0.0)
    there = size - place - 8
    head = bytearray(at(file, 0, place))
    head[4:8] = struct.pack(">I", size - 8)
    head[place - 4 : place] = struct.pack(">I", there + 8)
    if common < place:
        head[common + 2 : common + 6] = struct.pack(">I", there // max(channels * ((bits + 7) // 8), 1))
    return Claim(unfinished=NO_LENGTH, head=bytes(head))


def au(file: BinaryIO, size: int) -> Claim:
    """The header's size of the sound."""
    start, length, coding, rate, channels = struct.unpack(">5I", at(file, 4, 20))
    if length in STREAMED:
        return Claim(unfinished=NO_LENGTH if length == 0 and start < size else "")
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(coding)
    seconds = length / (width * rate * channels) if width and rate and channels else None
    return Claim(seconds, *short(start + length, size, start))


def caf(file: BinaryIO, size: int) -> Claim:
    """The data chunk's size; −1 says that it reaches to the end."""
    for name, length, place in _chunks(file, 8, size, ">", wide=True):
        if name == b"data":
            return Claim() if length == 2**64 - 1 else Claim(None, *short(place + length, size, place))
    return Claim()


def wave64(file: BinaryIO, size: int) -> Claim:
    """The data chunk's size, which counts its own header."""
    place = 40
    for _ in range(MOST_PARTS):
        head = at(file, place, 24)
        if len(head) < 24:
            break
        length = struct.unpack("<Q", head[16:])[0]
        if head[:4] == b"data":
            return Claim(None, *short(place + length, size, place + 24)) if length > 24 else Claim(unfinished=NO_LENGTH)
        place += max((length + 7) // 8 * 8, 24)
    return Claim()


def voc(file: BinaryIO, size: int) -> Claim:
    """Blocks of a type and 3 bytes of length; the last is an end mark of type 0, which some writers leave out."""
    place = first = struct.unpack("<H", at(file, 20, 2))[0]
    for _ in range(MOST_PARTS):
        head = at(file, place, 4)
        if len(head) < 4 or head[0] == 0:
            break
        place += 4 + int.from_bytes(head[1:], "little")
    return Claim(None, *short(place, size, first))
