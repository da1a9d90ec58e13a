"""Where files of frames and pages end: FLAC, MP3 with what encoders write before it, Ogg."""

import struct
from typing import BinaryIO

from earmark.audio.claim import MOST_PARTS, Claim, at, find, short
from earmark.audio.tags import after_id3

OGG_PAGE = 27  # bytes of a page's header before its lacing
CHANNELS_MP3, SIDE_INFO = 3, {(1, False): 32, (1, True): 17, (0, False): 17, (0, True): 9}  # MPEG-1 or 2, mono → bytes before Xing
RATES_MP3 = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))  # MPEG-2.5, reserved, 2, 1


def flac(file: BinaryIO, size: int) -> Claim:
    """The total of STREAMINFO, after ID3 tags if there are any; an MP3 has them too."""
    start = after_id3(file)
    if at(file, start, 4) != b"fLaC":
        return mp3(file, size)
    info = at(file, start + 18, 8)  # rate 20 bits, channels 3, width 5, total 36
    packed = int.from_bytes(info, "big")
    rate, total = packed >> 44, packed & (1 << 36) - 1
    return Claim(total / rate if total and rate else None)


def mp3(file: BinaryIO, size: int) -> Claim:
    """An MP3 with a Xing, Info or VBRI header; any other file claims nothing."""
    start = after_id3(file)
    content = at(file, start, 8192)
    found = next((place for place in range(max(len(content) - 4, 0)) if content[place] == 0xFF and content[place + 1] & 0xE6 == 0xE2), None)
    if found is None:
        return Claim()
    word = int.from_bytes(content[found : found + 4], "big")
    version, rate, mono = word >> 19 & 3, word >> 10 & 3, word >> 6 & 3 == CHANNELS_MP3
    if version == 1 or rate == 3:
        return Claim()
    samples, hertz = (1152 if version == 3 else 576), RATES_MP3[version][rate]
    place = found + 4 + SIDE_INFO[(1 if version == 3 else 0, mono)]
    if content[place : place + 4] in (b"Xing", b"Info"):
        flags, counts = struct.unpack(">I", content[place + 4 : place + 8])[0], content[place + 8 : place + 16]
        frames = struct.unpack(">I", counts[:4])[0] if flags & 1 else 0
        stated = struct.unpack(">I", counts[4:8] if flags & 1 else counts[:4])[0] if flags & 2 else 0
        lame = content[place + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1) :][:24]
        padding = int.from_bytes(lame[21:24], "big") if lame[:4] in (b"LAME", b"Lavc", b"Lavf") else 0
        heard = frames * samples - (padding >> 12) - (padding & 0xFFF)
        return Claim(heard / hertz if frames else None, *(short(start + found + stated, size) if stated else (0, 0)))
    place = found + 36
    if content[place : place + 4] == b"VBRI":
        stated, frames = struct.unpack(">II", content[place + 10 : place + 18])
        return Claim(frames * samples / hertz if frames else None, *short(start + found + stated, size))
    return Claim()


def ogg(file: BinaryIO, size: int) -> Claim:
    """Pages to the end: where a stream begins after another, whether the last was closed, and what can be saved of a page that is cut."""
    place, ended, opening, links = 0, True, True, [0]
    for _ in range(MOST_PARTS * 10):
        head = at(file, place, OGG_PAGE)
        if len(head) < OGG_PAGE:
            break
        if head[:4] != b"OggS":
            place = find(file, b"OggS", place + 1)
            continue
        table = at(file, place + OGG_PAGE, head[26])
        length = OGG_PAGE + head[26] + sum(table)
        begins, ended = bool(head[5] & 2), bool(head[5] & 4)
        if begins and not opening:
            links.append(place)
        opening = begins
        if place + length > size:
            tail = _cut_page(head, table, at(file, place, length))
            return Claim(unfinished="its last page is cut", cut_at=place, tail=tail, links=links)
        place += length
    return Claim(unfinished="" if ended else "its end mark is missing", links=links)


def _cut_page(head: bytes, table: bytes, there: bytes) -> bytes:
    """A page of the whole packets that are there of a cut one; none when it holds no whole packet."""
    data, segments, used, whole = there[OGG_PAGE + len(table) :], 0, 0, 0
    for number, length in enumerate(table):
        used += length
        if used > len(data):
            break
        if length < 255:
            segments, whole = number + 1, used
    if not segments:
        return b""
    blank = head[:5] + bytes([head[5] & ~4]) + head[6:22] + bytes(4) + bytes([segments])
    page = blank + table[:segments] + data[:whole]
    return page[:22] + struct.pack("<I", _ogg_crc(page)) + page[26:]


def _ogg_crc(page: bytes) -> int:
    """Checksum of a page: polynomial 0x04C11DB7, nothing reflected, begun at 0 (RFC 3533)."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc
