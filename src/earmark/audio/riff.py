"""Where RIFF files end: WAV, RF64, BW64 and AVI."""

import struct
from typing import BinaryIO

from earmark.audio.chunks import STREAMED, after, chunks, even
from earmark.audio.claim import NO_LENGTH, Claim, at, short
from earmark.audio.following import another, joined

WIDE = (b"RF64", b"BW64")
OPEN = 0x7FFFF000  # sizes from here on are those of writers that could not know: streams
PLAIN = (1, 3, 6, 7)  # WAV's tags of PCM, float, A-law and µ-law, whose bytes a second can be believed
EXTENSIBLE = (b"\xfe\xff", b"\xff\xfe")  # the tag that says that the true one comes later


def riff(file: BinaryIO, size: int) -> Claim:
    """WAV, RF64, BW64 and AVI: the data chunk counts, the file's own size does not."""
    head = at(file, 0, 12)
    order = ">" if head[:4] == b"RIFX" else "<"
    return _wave(file, size, order) if head[8:12] == b"WAVE" else _avi(file, size, order)


def _avi(file: BinaryIO, size: int, order: str) -> Claim:
    """One RIFF chunk after another, called AVIX from the second on; decoders go on through joined files too."""
    place, stated = 0, 0
    while (head := at(file, place, 12))[:4] == b"RIFF" and (place == 0 or head[8:12] in (b"AVIX", b"AVI ")):
        stated = struct.unpack(order + "I", head[4:8])[0]
        if stated in STREAMED:
            return Claim()
        missing, of = short(place + stated + 8, size, place)
        place += stated + 8 + stated % 2
        if missing:
            return Claim(missing=missing, stated=of)
    return Claim(follows=another(file, place - stated % 2, size, stated % 2))


def _wave(file: BinaryIO, size: int, order: str) -> Claim:
    """WAV in its 32 and 64 bits; a size in RF64 that was never filled in, and bits that decoders misread, are mended for them."""
    long, per_second, mends = 0, 0, {}  # place in the file → what is to be read there
    for name, length, place in chunks(file, 12, size, order):
        if name == b"ds64":
            long, long_at = struct.unpack("<Q", at(file, place + 8, 8))[0], place + 8
            if long in (0, 2**64 - 1):
                long, mends = 0, mends | {long_at: b""}
        elif name == b"fmt ":
            form = at(file, place, 26)
            per_second = _per_second(form, order)
            if len(form) >= 20 and form[:2] in EXTENSIBLE and form[18:20] != form[14:16]:
                mends[place + 18] = form[14:16]  # FFmpeg takes 24 of 32 bits for floats
        elif name == b"data":
            length = long if length == STREAMED[1] and long else length
            if length == 0 or (length >= OPEN and place + length > size and not long):
                if place >= size or (length == 0 and size - place < 4096 and not after(file, place, size, even(order))):
                    return Claim(seconds=0.0)
                claim = Claim(unfinished=NO_LENGTH, follows=joined(file, place, size, b"RIFF"))
                mends = {where: what or struct.pack("<Q", size - place) for where, what in mends.items()}
                mends |= {place - 4: struct.pack(order + "I", STREAMED[1])} if at(file, 0, 4) in WIDE else {}
            else:
                claim = _data(file, size, place, length, per_second, order)
            claim.head = _mended(at(file, 0, place), {where: what for where, what in mends.items() if what}) if mends else b""
            return claim
    return Claim()


def _mended(head: bytes, mends: dict[int, bytes]) -> bytes:
    for place, content in mends.items():
        head = head[:place] + content + head[place + len(content) :]
    return head


def _per_second(form: bytes, order: str) -> int:
    """Bytes a second as samples, channels and bits say, since what is stated is often wrong; 0 for codings whose samples have none."""
    coding = struct.unpack(order + "H", form[24:26] if form[:2] in EXTENSIBLE else form[:2])[0]
    channels, rate, _, _, bits = struct.unpack(order + "HIIHH", form[2:16])
    return channels * rate * ((bits + 7) // 8) if coding in PLAIN else 0


def _data(file: BinaryIO, size: int, place: int, length: int, per_second: int, order: str) -> Claim:
    """Claim of a data chunk of `length` bytes."""
    missing, stated = short(place + length, size, place)
    claim = Claim(length / per_second if per_second else None, missing, stated)
    if not missing:
        claim.follows = after(file, place + length, size, even(order), b"data", per_second, length % 2)
    return claim
