"""Recordings below a folder: by their ending, or where that says nothing by their first bytes; what is no recording is named too."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SUFFIXES = frozenset((
    ".3g2", ".3ga", ".3gp", ".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".awb", ".bwf",
    ".caf", ".dsf", ".dss", ".dts", ".eac3", ".ec3", ".f4a", ".f4v", ".flac", ".flv", ".m2a", ".m2ts", ".m4a", ".m4b", ".m4p", ".m4r",
    ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpa", ".mpc", ".mpeg", ".mpg", ".mpga", ".mts", ".mxf", ".nist", ".oga",
    ".ogg", ".ogv", ".oma", ".opus", ".qcp", ".qt", ".qta", ".ra", ".rf64", ".rm", ".rmvb", ".snd", ".sox", ".spx", ".sph", ".tak",
    ".ts", ".tta", ".vob", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wtv", ".wv",
    ".al", ".g722", ".gsm", ".pcm", ".raw", ".sln", ".sw", ".ul",  # they state no rate: refused by name, not passed over
))  # fmt: skip
MAGICS = (
    (0, b"RIFF"), (0, b"RF64"), (0, b"BW64"), (0, b"RIFX"), (0, b"FORM"), (0, b".snd"), (0, b"caff"), (0, b"riff"), (0, b"fLaC"),
    (0, b"ID3"), (4, b"ftyp"), (4, b"moov"), (0, b"\x1a\x45\xdf\xa3"), (0, b"OggS"), (0, b"#!AMR"), (0, b"\x30\x26\xb2\x75"),
    (0, b"FLV\x01"), (0, b"wvpk"), (0, b"MAC "), (0, b"TTA1"), (0, b"Creative Voice File"), (0, b"NIST_1A"), (0, b"tBaK"), (0, b"MPCK"),
    (0, b".RMF"), (0, b"DSD "), (0, b"\x0b\x77"), (0, b"\x7f\xfe\x80\x01"), (0, b"\0\0\1\xba"),
)  # fmt: skip
SYSTEMS_OWN = (  # what systems leave in folders: macOS beside a file as ._name, and as .DS_Store; Windows' pictures of films
    b"\0\x05\x16\x07", b"\0\0\0\1Bud1", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
)  # fmt: skip
HEAD = 9000  # bytes that are looked at: the longest frame of AAC, and the next


class Found(NamedTuple):
    """Recordings in the order of their paths, and what else lies there, each with why it is none."""

    recordings: list[Path]
    left_out: dict[Path, str]


def find(folder: Path, beside: Sequence[str] = ()) -> Found:
    """Look through a folder and those below it, but for those `beside`; linked ones are followed once, wherever they lead."""
    recordings: list[Path] = []
    left_out: dict[Path, str] = {}
    seen = {_identity(folder), *(_identity(folder / name) for name in beside)}
    for place, folders, names in os.walk(folder, followlinks=True, onerror=lambda error: left_out.update(_unreadable(error))):
        if place == str(folder):
            folders[:] = [name for name in folders if name not in beside]
        for name in sorted(folders):
            inside, identity = Path(place, name), _identity(Path(place, name))
            if name.startswith("."):
                left_out[inside] = "a hidden folder: name it to have it searched"
                folders.remove(name)
            elif identity in seen:
                left_out[inside] = "a link to a folder that was searched already"
                folders.remove(name)
            seen.add(identity)
        folders.sort()
        for path in (Path(place, name) for name in names):
            if reason := _reason(path):
                left_out[path] = reason
            elif reason is None:
                recordings.append(path)
    return Found(sorted(recordings), dict(sorted(left_out.items())))


def is_recording(name: str) -> bool:
    """Whether a name has a recording's ending, or is nothing else."""
    return os.path.splitext(f"_{name}")[1].lower() in SUFFIXES


def _reason(path: Path) -> str | None:
    """Why a file is no recording; None where it is one, empty where it is a system's own and nothing to speak of."""
    if not os.path.isfile(path):  # unlike Path.is_file it never raises
        return "a link to nothing" if os.path.islink(path) else "no file that can be read"
    if is_recording(path.name) and not path.name.startswith("._"):
        return None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        return error.strerror or "cannot be read"
    own = path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini")
    if own and (head.startswith(SYSTEMS_OWN) or (_is_text(head) and not is_recording(path.name))):
        return ""
    return None if is_recording(path.name) or _is_sound(head) else "no recording, by its ending and its first bytes"


def _is_sound(head: bytes) -> bool:
    if any(head[start : start + len(magic)] == magic for start, magic in MAGICS):
        return not head.startswith(SYSTEMS_OWN)
    return _begins_frames(head) or head[0:377:188] == b"GGG"  # an MPEG transport stream


def _begins_frames(head: bytes) -> bool:
    """Whether frames of MPEG sound or AAC (ADTS) begin here: the first one's header comes again."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    adts, version, layer = head[1] & 0xF6 == 0xF0, head[1] >> 3 & 3, head[1] >> 1 & 3
    if not adts and (version == 1 or not layer or head[2] >> 4 == 15 or head[2] >> 2 & 3 == 3):
        return False
    fixed = 0xFC if adts else 0x0C  # profile and rate, or rate alone
    place = head.find(head[:2], 24)
    while place >= 0:
        if head[place + 2 : place + 3] and head[place + 2] & fixed == head[2] & fixed:
            return True
        place = head.find(head[:2], place + 1)
    return False


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
        return not _begins_frames(head)
    text = head.decode("utf-8", "ignore")
    return len(text.encode()) > len(head) - 4 and not any(ord(one) < 32 and not one.isspace() for one in text)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _unreadable(error: OSError) -> dict[Path, str]:
    return {Path(os.fsdecode(error.filename)): error.strerror or "cannot be read"}
