"""Recordings below a folder: by their ending, or where that says nothing by their first bytes; what is no recording is named too."""

import os
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
    (0, b".RMF"), (0, b"DSD "),
)  # fmt: skip
APPLE_DOUBLE = b"\0\x05\x16\x07"  # what macOS leaves beside a file as ._name


class Found(NamedTuple):
    """Recordings in the order of their paths, and what else lies there, each with why it is none."""

    recordings: list[Path]
    left_out: dict[Path, str]


def find(folder: Path) -> Found:
    """Look through a folder and those below it; linked ones are followed once, wherever they lead."""
    recordings: list[Path] = []
    left_out: dict[Path, str] = {}
    seen = {_identity(folder)}
    for place, folders, names in os.walk(folder, followlinks=True, onerror=lambda error: left_out.update(_unreadable(error))):
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
    """Whether a name has a recording's ending."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _reason(path: Path) -> str | None:
    """Why a file is no recording; None where it is one, empty where it is a system's own and nothing to speak of."""
    if not os.path.isfile(path):  # unlike Path.is_file it never raises
        return "a link to nothing" if os.path.islink(path) else "no file that can be read"
    if is_recording(path.name) and not path.name.startswith("._"):
        return None
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        return error.strerror or "cannot be read"
    if not head.startswith(APPLE_DOUBLE) and any(head[start : start + len(magic)] == magic for start, magic in MAGICS):
        return None
    return (
        "" if path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini") else "no recording, by its ending and its first bytes"
    )


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _unreadable(error: OSError) -> dict[Path, str]:
    return {Path(os.fsdecode(error.filename)): error.strerror or "cannot be read"}
