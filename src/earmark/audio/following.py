"""What stands behind the end of a recording: another one, which nobody would hear."""

import re
from functools import partial
from itertools import islice
from typing import BinaryIO

from earmark.audio.claim import BLOCK, MOST_PARTS, at, find_all
from earmark.audio.tags import before_tags, past_tags

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # begins the identifier of a header object
WAVE64 = b"riff\x2e\x91\xcf\x11"
SIGNS = (  # what the first bytes of a recording look like: nothing that chance brings about
    (rb"(?:RIFF|RF64|BW64|RIFX)....WAVE", "WAV"), (rb"RIFF....AVI ", "AVI"), (rb"FORM....AIF[FC]", "AIFF"),
    (rb"\.snd\0\0.{6}\0\0\0[\x01-\x1b]", "AU"), (rb"caff\0\x01\0\0", "CAF"), (re.escape(WAVE64), "W64"),
    (rb"Creative Voice File\x1a", "VOC"), (rb"NIST_1A\n", "SPHERE"), (rb"fLaC[\0\x80]\0\0\x22", "FLAC"), (rb"OggS\0[\0-\x07]", "Ogg"),
    (rb"\0\0..ftyp[ -~]{4}", "MP4"), (rb"\x1a\x45\xdf\xa3.{1,40}\x42[\x82\x86\xf2\xf3\xf7]", "film"), (re.escape(ASF), "WMA"),
    (rb"#!AMR(?:-WB)?\n", "AMR"), (rb"wvpk....[\0-\x20]\x04", "WavPack"), (rb"TTA1[\1-\3]\0", "TTA"), (rb"MAC .[\x0c-\x10]\0\0", "APE"),
    (rb"FLV\x01[\0-\x05]\0\0\0", "FLV"), (rb"MP\+[\x07\x17]|MPCKSH", "Musepack"), (rb"tBaK", "TAK"), (rb"\.RMF\0\0\0", "RealMedia"),
)  # fmt: skip
KINDS = tuple((re.compile(sign, re.DOTALL), name) for sign, name in SIGNS)
ANY = re.compile(b"|".join(sign for sign, _ in SIGNS), re.DOTALL)
LONGEST = 64  # bytes that a sign needs
BITRATES = ((8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160), (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320))
RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))  # MPEG-2.5, reserved, 2, 1


def kind_at(file: BinaryIO, place: int) -> str:
    """Kind of recording that begins at this byte; "" for none."""
    head = at(file, place, LONGEST)
    for sign, name in KINDS:
        if sign.match(head):
            return name
    for name, length_of in (("MP3", mp3_frame), ("AAC", _adts_frame)):  # three frames in a row are no chance
        begin, count = place, 0
        while count < 3 and (length := length_of(at(file, begin, 6))):
            begin, count = begin + length, count + 1
        if count == 3:
            return name
    return ""


def mp3_frame(head: bytes) -> int:
    """Bytes of the MP3 frame that begins so; 0 where none does."""
    word = int.from_bytes(head[:4].ljust(4, b"\0"), "big")
    version, bits, rate, padded = word >> 19 & 3, word >> 12 & 15, word >> 10 & 3, word >> 9 & 1
    if word >> 21 != 0x7FF or version == 1 or word >> 17 & 3 != 1 or bits in (0, 15) or rate == 3:
        return 0
    return (144 if version == 3 else 72) * BITRATES[version == 3][bits - 1] * 1000 // RATES[version][rate] + padded


def _adts_frame(head: bytes) -> int:
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def another(file: BinaryIO, place: int, size: int, pads: int = 0) -> str:
    """ "another WAV", or of whatever kind it is that begins here, behind at most `pads` bytes, behind tags and zeros; "" for none."""
    for start in range(place, place + pads + 1):
        if name := kind_at(file, _past_padding(file, start, size)):
            return f"another {name}"
    return ""


def _past_padding(file: BinaryIO, place: int, size: int) -> int:
    """First byte from here on that is neither of a tag nor zero; an MP4 begins with two zeros."""
    for _ in range(8):
        place = begin = past_tags(file, place, size)
        if kind_at(file, place):
            return place
        while (block := at(file, place, BLOCK)) and not block.strip(b"\0"):
            place += len(block)
        place += len(block) - len(block.lstrip(b"\0"))
        for early in (3, 2):
            if place - early >= begin and kind_at(file, place - early):
                return place - early
        if place == begin:
            return place
    return place


def unheard(file: BinaryIO, place: int, size: int) -> int:
    """Bytes from here on that are neither of tags nor zero to the end."""
    end = before_tags(file, size)
    place = past_tags(file, place, end)
    return max(end - place, 0) if place < end and not is_zero(file, place, end) else 0


def is_zero(file: BinaryIO, place: int, end: int) -> bool:
    """Whether all bytes from `place` to `end` are zero."""
    while place < end and (block := at(file, place, min(BLOCK, end - place))):
        if block.strip(b"\0"):
            return False
        place += len(block)
    return True


def joined(file: BinaryIO, place: int, size: int, mark: bytes) -> str:
    """ "another WAV", or whatever begins with these four bytes, anywhere from here on; "" for none."""
    places = find_all(file, re.compile(re.escape(mark)), len(mark), place, size)
    return next((f"another {name}" for name in map(partial(kind_at, file), islice(places, MOST_PARTS)) if name), "")


def within(file: BinaryIO, place: int, size: int) -> str:
    """ "another WAV", or whatever recording begins anywhere from here on; "" for none."""
    while place < size and (block := at(file, place, BLOCK + LONGEST)):
        if found := ANY.search(block):
            return f"another {kind_at(file, place + found.start())}"
        place += BLOCK
    return ""
