"""Where files of chunks end: AIFF, AU, CAF, Wave64, Creative's VOC, NIST SPHERE."""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from earmark.audio.claim import MOST_PARTS, NO_LENGTH, Claim, at, short
from earmark.audio.following import another, joined, unheard
from earmark.audio.tags import past_tags

STREAMED = (0, 0xFFFFFFFF)  # sizes of a chunk whose writer never came back to fill them in
MOST_HEAD = 1 << 22  # bytes that are mended at most
SOUND = 0.1  # seconds: fewer bytes than that are no sound that anybody would miss
GUID = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # ends the names of Wave64's chunks

Step = Callable[[BinaryIO, int], tuple[bytes, int, int, int] | None]  # place → name of the chunk there, bytes, end, bytes that may pad it


def chunks(file: BinaryIO, place: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, bytes, first byte) of chunks padded to even sizes."""
    head = struct.Struct(order + "4sI")
    for _ in range(MOST_PARTS):
        if place + head.size > size:
            return
        name, length = head.unpack(at(file, place, head.size))
        yield name, length, place + head.size
        place += head.size + length + length % 2


def even(order: str, wide: bool = False) -> Step:
    """Chunks of a name and a size, padded to even sizes; wide ones have sizes of 64 bits and no padding."""
    head = struct.Struct(order + ("4sQ" if wide else "4sI"))

    def step(file: BinaryIO, place: int) -> tuple[bytes, int, int, int] | None:
        name, length = head.unpack(at(file, place, head.size).ljust(head.size, b"\0"))
        printed = all(32 <= byte < 127 for byte in name)
        return (name, length, place + head.size + length, 0 if wide else length % 2) if printed else None

    return step


def _wave64(file: BinaryIO, place: int) -> tuple[bytes, int, int, int] | None:
    """Chunks of a GUID and a size that counts both, padded to 8 bytes."""
    name, length = struct.unpack("<16sQ", at(file, place, 24).ljust(24, b"\0"))
    return (name[:4], length - 24, place + length, -length % 8) if name[4:] == GUID and length >= 24 else None


def after(file: BinaryIO, place: int, size: int, step: Step, sound: bytes = b"data", per_second: float = 0, pads: int = 0) -> str:
    """What follows a sound chunk and would not be heard, behind chunks and tags; "" for nothing."""
    for _ in range(MOST_PARTS):
        if size - place <= 8 or not unheard(file, place, size):
            return ""
        if name := another(file, place, size, pads):
            return name
        for start in dict.fromkeys((place + pads, place)):  # some writers leave out the pad byte
            start = past_tags(file, start, size)
            found = step(file, start)
            if found and found[2] <= size + 8:
                if found[0] == sound and found[1]:
                    return "a second sound chunk"
                place, pads = found[2:]
                break
        else:
            left = size - place
            return (
                f"{left:,} bytes that its {'data' if sound == b'data' else 'sound'} chunk does not count"
                if left > SOUND * (per_second or 1)
                else ""
            )
    return ""


def aiff(file: BinaryIO, size: int) -> Claim:
    """The sound chunk's size; one that was never filled in is mended for decoders, which would read nothing."""
    found: dict[bytes, tuple[int, int]] = {}
    for name, length, place in chunks(file, 12, size, ">"):
        if name == b"FORM":  # another file
            break
        found.setdefault(name, (length, place))
    if b"COMM" not in found or b"SSND" not in found:
        return Claim()
    (length, place), common = found[b"SSND"], found[b"COMM"][1]
    channels, frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", at(file, common, 18))
    rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
    plain = at(file, 8, 4) == b"AIFF" or at(file, common + 18, 4) in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"alaw", b"ulaw")
    if length not in (*STREAMED, 8) and frames:
        per_second = channels * ((bits + 7) // 8) * rate if plain else 0
        follows = after(file, place + length, size, even(">"), b"SSND", per_second, length % 2)
        return Claim(frames / rate if rate and plain else None, *short(place + length, size, place), follows=follows)
    if place + 8 >= size:
        return Claim(seconds=0.0)
    there = size - place - 8
    head = bytearray(at(file, 0, place))
    head[4:8] = struct.pack(">I", size - 8)
    head[place - 4 : place] = struct.pack(">I", there + 8)
    if common < place:
        head[common + 2 : common + 6] = struct.pack(">I", there // max(channels * ((bits + 7) // 8), 1))
    return Claim(unfinished=NO_LENGTH, head=bytes(head), follows=joined(file, place, size, b"FORM"))


def au(file: BinaryIO, size: int) -> Claim:
    """The header's size of the sound."""
    start, length, coding, rate, channels = struct.unpack(">5I", at(file, 4, 20))
    if length in STREAMED:
        return Claim(unfinished=NO_LENGTH if length == 0 and start < size else "", follows=joined(file, start, size, b".snd"))
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(coding)
    return _counted(file, size, start, length, width * rate * channels if width else 0)


def sphere(file: BinaryIO, size: int) -> Claim:
    """Samples of a channel by the text header of NIST SPHERE, in which some writers count all channels."""
    start = int(at(file, 8, 8))
    lines = [line.split(None, 2) for line in at(file, 16, start - 16).decode("latin-1").split("end_head")[0].splitlines()]
    said = {words[0]: words[2] for words in lines if len(words) == 3}
    if said.get("sample_coding", "pcm").split(",")[0].lower() not in ("pcm", "ulaw", "mu-law", "alaw") or "," in said.get(
        "sample_coding", ""
    ):
        return Claim()  # shortened
    width, channels, rate = (int(said.get(name, "1")) for name in ("sample_n_bytes", "channel_count", "sample_rate"))
    length = int(said["sample_count"]) * width * channels
    if size - start == length // channels:
        length = size - start
    return _counted(file, size, start, length, width * channels * rate)


def _counted(file: BinaryIO, size: int, start: int, length: int, per_second: int) -> Claim:
    """Claim of a file of a header and `length` bytes of sound: decoders, which read on to the end, are to stop after them."""
    end = start + length
    claim = Claim(length / per_second if per_second else None, *short(end, size, start))
    if claim.missing or end == size:
        return claim
    left = unheard(file, end, size)
    claim.follows = another(file, end, size) or (
        f"{left:,} bytes that its header does not count" if left > SOUND * (per_second or 1) else ""
    )
    claim.cut_at = end
    return claim


def caf(file: BinaryIO, size: int) -> Claim:
    """The data chunk's size; −1 says that it reaches to the end."""
    step, place, found = even(">", wide=True), 8, {}
    for _ in range(MOST_PARTS):
        if place + 12 > size or not (chunk := step(file, place)):
            break
        name, length, place, _ = chunk
        found.setdefault(name, (place - length, length))
        if name == b"data" and length in (0, 4, 2**64 - 1):  # 4 bytes are a count of edits alone
            break
    if b"data" not in found:
        return Claim()
    begin, length = found[b"data"]
    if length in (0, 4, 2**64 - 1):
        unfinished = NO_LENGTH if length < 8 and size - begin > 4 else ""
        return Claim(unfinished=unfinished, follows=joined(file, begin, size, b"caff"))
    claim = Claim(None, *short(begin + length, size, begin), follows=after(file, begin + length, size, step))
    if b"desc" in found and b"pakt" in found:
        _alac(file, size, claim, found[b"desc"][0], found[b"pakt"][0])
    return claim


def _alac(file: BinaryIO, size: int, claim: Claim, desc: int, pakt: int) -> None:
    """A table of packets counts the samples. ALAC's last packet says itself how short it is: decoders are not to take it off twice."""
    rate, coding = struct.unpack(">d4s", at(file, desc, 12))
    _, valid, _, spare = struct.unpack(">QQII", at(file, pakt, 24))
    if coding != b"alac" or not rate or not spare:  # else some writers count whole packets
        return
    claim.seconds = valid / rate
    if pakt + 24 <= size:
        if pakt < MOST_HEAD:
            claim.head = at(file, 0, pakt + 20) + bytes(4)
        else:
            claim.cut_at, claim.tail = pakt + 20, bytes(4) + at(file, pakt + 24, MOST_HEAD)


def wave64(file: BinaryIO, size: int) -> Claim:
    """The data chunk's size, which counts its own header; one that was never filled in is mended for decoders."""
    place = 40
    for _ in range(MOST_PARTS):
        head = at(file, place, 24)
        if len(head) < 24:
            break
        length = struct.unpack("<Q", head[16:])[0]
        if head[:4] == b"data" and length > 24:
            end = place + length
            return Claim(None, *short(end, size, place + 24), follows=after(file, end, size, _wave64, pads=-length % 8))
        if head[:4] == b"data":
            start = at(file, 0, place + 24)
            mended = start[:16] + struct.pack("<Q", size) + start[24 : place + 16] + struct.pack("<Q", size - place)
            return Claim(unfinished=NO_LENGTH, head=mended, follows=joined(file, place + 24, size, b"riff"))
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
