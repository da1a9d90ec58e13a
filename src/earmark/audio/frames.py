"""Where files of frames and pages end: FLAC, MP3 with what encoders write before it, Ogg."""

import struct
from typing import BinaryIO

from earmark.audio.claim import MOST_PARTS, Claim, at, find, short
from earmark.audio.following import RATES, another, kind_at, mp3_frame, unheard
from earmark.audio.tags import after_id3, before_tags, past_tags, spans

FEW_ZEROS, LONGEST_MP3 = 256, 1441  # bytes: fewer zeros may be of a frame; of a frame
LATE = 0.05  # seconds
RATES_WAVPACK = (6000, 8000, 9600, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 192000)
FIRST_BLOCK, LEAST = 1 << 11, 1000  # flag: of those for one moment; bytes that are worth a word
OGG_PAGE = 27  # bytes of a page's header before its lacing
CHANNELS_MP3, SIDE_INFO = 3, {(1, False): 32, (1, True): 17, (0, False): 17, (0, True): 9}  # MPEG-1 or 2, mono → bytes before Xing


def flac(file: BinaryIO, size: int) -> Claim:
    """Total samples by FLAC's STREAMINFO, which may follow ID3 tags, as in an MP3."""
    start = after_id3(file)
    if at(file, start, 4) != b"fLaC":
        return mp3(file, size)
    info = at(file, start + 18, 8)  # rate 20 bits, channels 3, width 5, total 36
    packed = int.from_bytes(info, "big")
    rate, total = packed >> 44, packed & (1 << 36) - 1
    return Claim(total / rate if total and rate else None)


def mp3(file: BinaryIO, size: int) -> Claim:
    """An MP3 with a Xing, Info or VBRI header; any other file claims nothing. Tags between joined MP3s and after the last are cut out."""
    claim, start = _counted(file, size), after_id3(file)
    if kind_at(file, start) != "MP3":
        return claim
    end = size
    for begin, after in spans(file, start, size):
        if after >= size:
            end = min(begin, end)
        elif kind_at(file, after) == "MP3" and (at(file, begin, 3) != b"ID3" or _is_counted(file, after)):
            claim.cuts[len(claim.links) - 1] = (begin, b"")  # other ID3 tags only say what is on air: the sound goes on through them
            claim.links.append(after)
    end = _before_zeros(file, before_tags(file, end), at(file, start, 4))
    claim.cut_at = end if claim.links[-1] < end < size else None
    return claim


def _is_counted(file: BinaryIO, place: int) -> bool:
    """Whether an MP3 frame here is the one of counts that an encoder writes first."""
    frame = at(file, place, 64)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _before_zeros(file: BinaryIO, end: int, like: bytes) -> int:
    """End of the last MP3 frame, of the kind of a first one, before the zeros that fill the rest; the end where there are few."""
    place = end
    while place > 0:
        first = max(place - (1 << 16), 0)
        block = at(file, first, place - first).rstrip(b"\0")
        place = first + len(block)
        if block:
            break
    if end - place < FEW_ZEROS:
        return end
    first = max(place - LONGEST_MP3, 0)
    near = at(file, first, LONGEST_MP3 + 4)
    heads = {begin: near[begin : begin + 4] for begin in range(place - first)}
    alike = {begin: head for begin, head in heads.items() if head[:2] == like[:2] and (head[2] ^ like[2]) & 0x0C == 0}
    ends = [first + begin + mp3_frame(head) for begin, head in alike.items()]
    return min(max(ends, default=end), end) if max(ends, default=0) >= place else place


def _counted(file: BinaryIO, size: int) -> Claim:
    """What the counts in an MP3's first frame say."""
    start = after_id3(file)
    content = at(file, start, 8192)
    found = next((place for place in range(max(len(content) - 4, 0)) if content[place] == 0xFF and content[place + 1] & 0xE6 == 0xE2), None)
    if found is None:
        return Claim()
    word = int.from_bytes(content[found : found + 4], "big")
    version, rate, mono = word >> 19 & 3, word >> 10 & 3, word >> 6 & 3 == CHANNELS_MP3
    if version == 1 or rate == 3:
        return Claim()
    samples, hertz = (1152 if version == 3 else 576), RATES[version][rate]
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
    place, ended, opening, claim, starts = 0, True, True, Claim(), {}
    for _ in range(MOST_PARTS * 10):
        head = at(file, place, OGG_PAGE)
        if len(head) < OGG_PAGE:
            break
        if head[:4] != b"OggS":
            claim.follows = claim.follows or ("" if place == 0 else another(file, place, size))
            place = find(file, b"OggS", place + 1)
            continue
        table = at(file, place + OGG_PAGE, head[26])
        length = OGG_PAGE + head[26] + sum(table)
        begins, ended = bool(head[5] & 2), bool(head[5] & 4)
        if begins and not opening:
            claim.links.append(place)
            starts = {}
        opening = begins
        broken, cut = place + length > size or at(file, place + length, 4) != b"OggS", 0
        whole = at(file, place, length) if broken or begins or starts else b""
        if broken:
            cut = _next_stream(whole) or (length if place + length > size else 0)
        if cut:
            claim.unfinished, tail = "its last page is cut", _cut_page(head, table, whole[:cut])
            if place + length > size and cut == length:
                claim.cut_at, claim.tail = place, tail
                return claim
            claim.cuts[len(claim.links) - 1], claim.unfinished = (place, tail), "a page is cut where another stream follows"
        elif whole and (late := _lateness(starts, whole)):
            claim.late.setdefault(len(claim.links) - 1, late)
        place += cut or length
    claim.unfinished = claim.unfinished or ("" if ended else "its end mark is missing")
    return claim


def _lateness(starts: dict[bytes, tuple[int, int, int]], page: bytes) -> float:
    """Seconds before the first sample of an Opus or FLAC stream, once its first page of sound has come; 0 until then, and ever after.

    `starts` has a stream's samples of a packet, 0 for Opus, where each says so itself; its rate; and those that came so far.
    """
    granule, serial = struct.unpack("<q", page[6:14])[0], page[14:18]
    data = OGG_PAGE + page[26]
    if page[5] & 2 and page[data : data + 8] == b"OpusHead":
        starts[serial] = (0, 48_000, 0)
    elif page[5] & 2 and page[data : data + 5] == b"\x7fFLAC":
        starts[serial] = (int.from_bytes(page[data + 17 : data + 19], "big"), int.from_bytes(page[data + 27 : data + 30], "big") >> 4, 0)
    elif serial in starts and granule:
        each, rate, count = starts.pop(serial)
        count += each * sum(length < 255 for length in page[OGG_PAGE:data]) if each else _opus_samples(page)
        if granule < 0:
            starts[serial] = (each, rate, count)
        elif rate and granule - count > rate * LATE:
            return (granule - count) / rate
    return 0.0


def _opus_samples(page: bytes) -> int:
    """Samples at 48 kHz of the packets that begin and end in a page."""
    begin = end = OGG_PAGE + page[26]
    count = 0
    for length in page[OGG_PAGE:end]:
        end += length
        if length < 255:
            config, frames = page[begin] >> 3, page[begin] & 3
            size = (480, 960, 1920, 2880)[config & 3] if config < 12 else (480, 960)[config & 1] if config < 16 else 120 << (config & 3)
            count += size * (1 if frames == 0 else 2 if frames < 3 else page[begin + 1] & 63)
            begin = end
    return count


def _next_stream(page: bytes) -> int:
    """Where in what should be a page another stream begins; 0 for nowhere."""
    place = page.find(b"OggS\0", OGG_PAGE)
    while place >= 0 and not (page[place + 5 : place + 6] == b"\2" and page[place + 6 : place + 14] == bytes(8)):
        place = page.find(b"OggS\0", place + 1)
    return max(place, 0)


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


def amr(file: BinaryIO, size: int) -> Claim:
    """Where AMR files were joined: each begins with its mark."""
    claim, place = Claim(), 1
    while (place := find(file, b"#!AMR", place)) < size:
        if kind_at(file, place):
            claim.links.append(place)
        place += 5
    return claim


def wavpack(file: BinaryIO, size: int) -> Claim:
    """Blocks, each with its size; the first counts all samples. Tags after them, and between joined files, are cut out."""
    place, claim = after_id3(file), Claim()
    for _ in range(MOST_PARTS):
        head = at(file, place, 32)
        if len(head) < 32:
            break
        if head[:4] != b"wvpk":
            after = past_tags(file, place, size)
            if kind_at(file, after) != "WavPack":
                break
            claim.cuts[len(claim.links) - 1], place = (place, b""), after
            continue
        length, _, samples, index, count, flags = struct.unpack("<6I", head[4:28])
        rate = RATES_WAVPACK[flags >> 23 & 15] if flags >> 23 & 15 < 15 else 0
        if index == 0 and count and flags & FIRST_BLOCK and place > claim.links[-1]:
            claim.links.append(place)
        if index == 0 and len(claim.links) == 1 and rate and samples != 0xFFFFFFFF:
            claim.seconds = samples / rate
        place += 8 + length
    claim.missing, claim.stated = short(place, size)
    claim.seconds = claim.seconds if len(claim.links) == 1 else None
    if claim.missing:
        return claim
    left = unheard(file, place, size)
    claim.follows = another(file, place, size) or (f"{left:,} bytes that are no block" if left > LEAST else "")
    claim.cut_at = place if place < size else None
    return claim
