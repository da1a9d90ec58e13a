"""What a container says of its own end: read from the bytes, since decoders guess where nothing is said, and say nothing where it is wrong.

A length that the container states is a fact (WAV's data chunk, FLAC's total, Xing's count, MP4's boxes, Matroska's segment, Ogg's end of
stream); for all other files there is none, and what can be decoded is counted.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

OPEN = 0x7FFFF000  # sizes from here on are those of writers that could not know: streams
STREAMED = (0, 0xFFFFFFFF)  # sizes of a RIFF chunk whose writer never came back to fill them in
PLAIN = (1, 3, 6, 7)  # WAV's tags of PCM, float, A-law and µ-law, whose bytes a second can be believed
SOUND = 0.1  # seconds: fewer bytes than that are no sound that anybody would miss
NO_LENGTH = "its header states no length"
MOST_PARTS = 200_000  # chunks, boxes or pages walked over: no recording has more
ID3 = 10  # bytes of its header
OGG_PAGE = 27  # bytes of a page's header before its lacing
CHANNELS_MP3, SIDE_INFO = 3, {(1, False): 32, (1, True): 17, (0, False): 17, (0, True): 9}  # MPEG-1 or 2, mono → bytes before Xing
RATES_MP3 = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))  # MPEG-2.5, reserved, 2, 1


@dataclass
class Claim:
    """What is said of a file's end.

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


class Mended(io.RawIOBase):
    """One link of a file, with another head and another tail where its claim says so; readable and seekable."""

    def __init__(self, file: BinaryIO, claim: Claim, link: int = 0):
        last = link == len(claim.links) - 1
        self.file, self.place, self.start = file, 0, claim.links[link]
        end = claim.links[link + 1] if not last else size_of(file) if claim.cut_at is None else claim.cut_at
        self.body, self.head, self.tail = end - self.start, claim.head, claim.tail if last else b""

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


def examine(file: BinaryIO) -> Claim:
    """What the container says of its end; nothing is claimed of kinds that are not known here, or are too damaged to tell."""
    head = _at(file, 0, 64)
    kind = next((kind for magic, place, kind in MAGICS if head[place : place + len(magic)] == magic), _mp3)
    try:
        return kind(file, size_of(file))
    except (struct.error, IndexError, ZeroDivisionError, OverflowError):
        return Claim()


def size_of(file: BinaryIO) -> int:
    """Bytes of a file."""
    return file.seek(0, io.SEEK_END)


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _short(end: int, size: int, start: int = 0) -> tuple[int, int]:
    """Bytes missing of what should reach to `end`, and bytes stated from `start` on."""
    return max(end - size, 0), end - start


def _riff(file: BinaryIO, size: int) -> Claim:
    """WAV, RF64, BW64 and AVI: the data chunk counts, the file's own size does not."""
    head = _at(file, 0, 12)
    order, kind = ">" if head[:4] == b"RIFX" else "<", head[8:12]
    if kind != b"WAVE":
        stated = struct.unpack(order + "I", head[4:8])[0]
        missing, of = _short(stated + 8, size)
        return Claim(missing=missing if stated not in STREAMED else 0, stated=of)
    long, per_second = 0, 0
    for name, length, place in _chunks(file, 12, size, order):
        if name == b"ds64":
            long = struct.unpack("<Q", _at(file, place + 8, 8))[0]
        elif name == b"fmt ":
            form = _at(file, place, 26)
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
    missing, stated = _short(place + length, size, place)
    claim = Claim(length / per_second if per_second else None, missing, stated)
    after = place + length
    if missing == 0 and size - after > 8:
        if _at(file, after + length % 2, 4) in (b"RIFF", b"RF64", b"RIFX"):
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
            name, length = struct.unpack(order + "4sI", _at(file, start, 8).ljust(8, b"\0"))
            if all(32 <= byte < 127 for byte in name) and start + 8 + length <= size + 8:
                place, odd = start + 8 + length, length % 2
                break
        else:
            return left
    return 0


def _tag(file: BinaryIO, place: int, left: int) -> bool:
    """Whether an ID3v1, ID3v2 or APE tag fills the rest."""
    head = _at(file, place, 32)
    return (
        (head[:3] == b"TAG" and left == 128)
        or head[:8] == b"APETAGEX"
        or (head[:3] == b"ID3" and abs(_after_id3(file, place) - place - left) <= 128)
    )


def _is_zero(file: BinaryIO, place: int) -> bool:
    while block := _at(file, place, 1 << 20):
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
        name, length = head.unpack(_at(file, place, head.size))
        yield name, length, place + head.size
        place += head.size + length + (0 if wide else length % 2)


def _aiff(file: BinaryIO, size: int) -> Claim:
    chunks = {name: (length, place) for name, length, place in _chunks(file, 12, size, ">")}
    if b"COMM" not in chunks or b"SSND" not in chunks:
        return Claim()
    (length, place), common = chunks[b"SSND"], chunks[b"COMM"][1]
    channels, frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", _at(file, common, 18))
    rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
    plain = _at(file, 8, 4) == b"AIFF" or _at(file, common + 18, 4) in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"alaw", b"ulaw")
    if length not in (*STREAMED, 8) and frames:
        return Claim(frames / rate if rate and plain else None, *_short(place + length, size, place))
    if place + 8 >= size:
        return Claim(seconds=0.0)
    there = size - place - 8
    head = bytearray(_at(file, 0, place))
    head[4:8] = struct.pack(">I", size - 8)
    head[place - 4 : place] = struct.pack(">I", there + 8)
    if common < place:
        head[common + 2 : common + 6] = struct.pack(">I", there // max(channels * ((bits + 7) // 8), 1))
    return Claim(unfinished=NO_LENGTH, head=bytes(head))


def _au(file: BinaryIO, size: int) -> Claim:
    start, length, coding, rate, channels = struct.unpack(">5I", _at(file, 4, 20))
    if length in STREAMED:
        return Claim(unfinished=NO_LENGTH if length == 0 and start < size else "")
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(coding)
    seconds = length / (width * rate * channels) if width and rate and channels else None
    return Claim(seconds, *_short(start + length, size, start))


def _caf(file: BinaryIO, size: int) -> Claim:
    for name, length, place in _chunks(file, 8, size, ">", wide=True):
        if name == b"data":
            return Claim() if length == 2**64 - 1 else Claim(None, *_short(place + length, size, place))
    return Claim()


def _wave64(file: BinaryIO, size: int) -> Claim:
    place = 40
    for _ in range(MOST_PARTS):
        head = _at(file, place, 24)
        if len(head) < 24:
            break
        length = struct.unpack("<Q", head[16:])[0]
        if head[:4] == b"data":
            return Claim(None, *_short(place + length, size, place + 24)) if length > 24 else Claim(unfinished=NO_LENGTH)
        place += max((length + 7) // 8 * 8, 24)
    return Claim()


def _flac(file: BinaryIO, size: int) -> Claim:
    start = _after_id3(file)
    if _at(file, start, 4) != b"fLaC":
        return _mp3(file, size)
    info = _at(file, start + 18, 8)  # rate 20 bits, channels 3, width 5, total 36
    packed = int.from_bytes(info, "big")
    rate, total = packed >> 44, packed & (1 << 36) - 1
    return Claim(total / rate if total and rate else None)


def _after_id3(file: BinaryIO, place: int = 0) -> int:
    """First byte after the ID3v2 tags that begin here; there may be several."""
    for _ in range(16):
        head = _at(file, place, ID3)
        if len(head) < ID3 or head[:3] != b"ID3":
            break
        length = 0
        for byte in head[6:10]:
            length = length << 7 | byte & 0x7F
        place += ID3 + length + (ID3 if head[5] & 0x10 else 0)
    return place


def count_tags(file: BinaryIO, place: int, end: int) -> int:
    """Bytes of ID3v2 tags that begin between two bytes of a file, as they do where MP3s were joined."""
    found = 0
    while (place := _find(file, b"ID3", place)) < end:
        head = _at(file, place, ID3)
        after = _after_id3(file, place) if len(head) == ID3 and head[3] in (2, 3, 4) and max(head[6:10]) < 128 else place
        found, place = found + after - place, max(after, place + 1)
    return found


def _mp3(file: BinaryIO, size: int) -> Claim:
    """An MP3 with a Xing, Info or VBRI header; any other file claims nothing."""
    start = _after_id3(file)
    content = _at(file, start, 8192)
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
        return Claim(heard / hertz if frames else None, *(_short(start + found + stated, size) if stated else (0, 0)))
    place = found + 36
    if content[place : place + 4] == b"VBRI":
        stated, frames = struct.unpack(">II", content[place + 10 : place + 18])
        return Claim(frames * samples / hertz if frames else None, *_short(start + found + stated, size))
    return Claim()


def _mp4(file: BinaryIO, size: int) -> Claim:
    claim, films = Claim(), 0
    for name, start, end in _boxes(file, 0, size):
        if end > size:
            claim.missing, claim.stated = _short(end, size)
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
        length, name = struct.unpack(">I4s", _at(file, place, 8))
        head = 8
        if length == 1:
            length, head = struct.unpack(">Q", _at(file, place + 8, 8))[0], 16
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
            if b"hdlr" in inside and _at(file, inside[b"hdlr"][0] + 8, 4) == b"soun" and b"stsd" in inside:
                yield _at(file, inside[b"stsd"][0] + 12, 4).decode("latin-1")


def _nested(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    for name, first, last in _boxes(file, start, end):
        yield name, first, last
        if name in (b"mdia", b"minf", b"stbl") and depth < 4:
            yield from _nested(file, first, min(last, end), depth + 1)


def _matroska(file: BinaryIO, size: int) -> Claim:
    place = 0
    for number in range(2):  # the EBML header, then the segment
        _, length, start, known = _element(file, place)
        place = start + length
        if number == 1 and known:
            missing, stated = _short(place, size, start)
            follows = "another film" if _at(file, place, 4) == b"\x1a\x45\xdf\xa3" else ""
            return Claim(missing=missing, stated=stated, follows=follows)
    return Claim()


def _element(file: BinaryIO, place: int) -> tuple[bytes, int, int, bool]:
    """Id, bytes, first byte and whether the size is known, of an EBML element."""
    head = _at(file, place, 12)
    width = 9 - head[0].bit_length()
    size = 9 - head[width].bit_length()
    raw = int.from_bytes(head[width : width + size], "big") & (1 << 7 * size) - 1
    return head[:width], raw, place + width + size, raw != (1 << 7 * size) - 1


def _ogg(file: BinaryIO, size: int) -> Claim:
    """Pages to the end: where a stream begins after another, whether the last was closed, and what can be saved of a page that is cut."""
    place, ended, opening, links = 0, True, True, [0]
    for _ in range(MOST_PARTS * 10):
        head = _at(file, place, OGG_PAGE)
        if len(head) < OGG_PAGE:
            break
        if head[:4] != b"OggS":
            place = _find(file, b"OggS", place + 1)
            continue
        table = _at(file, place + OGG_PAGE, head[26])
        length = OGG_PAGE + head[26] + sum(table)
        begins, ended = bool(head[5] & 2), bool(head[5] & 4)
        if begins and not opening:
            links.append(place)
        opening = begins
        if place + length > size:
            tail = _cut_page(head, table, _at(file, place, length))
            return Claim(unfinished="its last page is cut", cut_at=place, tail=tail, links=links)
        place += length
    return Claim(unfinished="" if ended else "its end mark is missing", links=links)


def _find(file: BinaryIO, mark: bytes, place: int) -> int:
    """First byte of a mark from `place` on; the file's end where there is none."""
    while block := _at(file, place, 1 << 20):
        if (found := block.find(mark)) >= 0:
            return place + found
        if len(block) < 1 << 20:
            return place + len(block)
        place += len(block) - len(mark) + 1
    return place


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


MAGICS = (
    (b"RIFF", 0, _riff), (b"RF64", 0, _riff), (b"BW64", 0, _riff), (b"RIFX", 0, _riff), (b"FORM", 0, _aiff), (b".snd", 0, _au),
    (b"caff", 0, _caf), (b"riff", 0, _wave64), (b"fLaC", 0, _flac), (b"ID3", 0, _flac), (b"ftyp", 4, _mp4), (b"moov", 4, _mp4),
    (b"mdat", 4, _mp4), (b"wide", 4, _mp4), (b"free", 4, _mp4), (b"skip", 4, _mp4), (b"\x1a\x45\xdf\xa3", 0, _matroska),
    (b"OggS", 0, _ogg),
)  # fmt: skip
