"""Any own folder: a protocol.tsv at its root, or two folders `bonafide/` and `spoof/<source>/`."""

import logging
import os
from pathlib import Path

import pandas as pd

from earmark import InputError
from earmark.corpora.protocol import AUDIO_SUFFIXES, MISSING, assemble, keep_apart
from earmark.corpora.text import read_delimited, say_values_that_mean_none

LOG = logging.getLogger(__name__)
REQUIRED = ("utterance_id", "path", "key")


def read(root: Path) -> pd.DataFrame:
    """Trials of an own corpus. Errors: InputError when `root` has neither form."""
    if not root.is_dir():
        raise InputError(f"{root} is no folder: check the corpus's root in params")
    return read_protocol(root) if (root / "protocol.tsv").exists() else read_folders(root)


def read_protocol(root: Path) -> pd.DataFrame:
    """Trials listed in `root/protocol.tsv`: tab-separated, with a header; columns beyond the known ones are conditions.

    Errors: InputError naming the row where one of REQUIRED is empty, and as `read_delimited`.
    """
    path = root / "protocol.tsv"
    table, places = read_delimited(path, "\t", REQUIRED)
    lacking = table[list(REQUIRED)].isin(MISSING)
    if lacking.any(axis=None):
        place = places[int(lacking.any(axis=1).to_numpy().argmax())]
        raise InputError(f"{path}, {place}: {', '.join(REQUIRED)} may not be empty; fill them in")
    say_values_that_mean_none(table, path)
    return assemble(keep_apart(table, path), "folder", root)


def read_folders(root: Path) -> pd.DataFrame:
    """Trials found below `root/bonafide` and `root/spoof/<source>`; ids are paths below the root's parent, with extension."""
    rows = []
    for key in ("bonafide", "spoof"):
        for found in _find_audio(root / key):
            path = found.relative_to(root)
            inside = len(path.parts) > 2
            rows.append(((Path(root.name) / path).as_posix(), path.as_posix(), key, path.parts[1] if key == "spoof" and inside else ""))
    others = sorted(path.name for path in root.iterdir() if path.name.lower().startswith("protocol.") and path.is_file())
    if others and rows:
        LOG.warning("%s: %s is not read: a table is read as protocol.tsv alone", root, ", ".join(others))
    if others and not rows:
        raise InputError(f"{root} has {', '.join(others)}, which is not read: save the table as protocol.tsv, separated by tabs")
    if not rows:
        raise InputError(f"{root} has neither protocol.tsv nor audio in bonafide/ and spoof/<source>/: add one of the two")
    return assemble(pd.DataFrame(rows, columns=["utterance_id", "path", "key", "source"], dtype="str"), "folder", root)


def read_recordings(root: Path) -> pd.DataFrame:
    """Every audio file below `root` as a bona fide trial; ids are paths below `root`, with extension. No file: an empty table."""
    places = [path.relative_to(root).as_posix() for path in _find_audio(root)]
    return assemble(pd.DataFrame({"utterance_id": places, "path": places, "key": "bonafide"}, dtype="str"), "folder", root)


def _find_audio(folder: Path) -> list[Path]:
    found = (Path(place) / name for place, _, names in os.walk(folder, followlinks=True) for name in names)
    return sorted(path for path in found if path.suffix.lower() in AUDIO_SUFFIXES)
