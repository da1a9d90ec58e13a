"""Any own folder: a protocol.tsv at its root, or two folders `bonafide/` and `spoof/<source>/`."""

import logging
from pathlib import Path

import pandas as pd

from earmark import InputError
from earmark.audio.finder import find
from earmark.corpora.protocol import KEYS, MISSING, assemble, keep_apart, refuse_names_that_are_no_text
from earmark.corpora.text import read_delimited, say_values_that_mean_none

LOG = logging.getLogger(__name__)
SHOWN = 20  # files left out that are named
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
    """Trials found below `root/bonafide` and `root/spoof/<source>`; ids are paths below the root's parent, with extension.

    Files that are no recordings are named in the log. Errors: InputError when there is neither folder, when one of the two holds files
    and none of them is a recording, when recordings lie beside the two, and as `refuse_names_that_are_no_text`.
    """
    rows, lost = [], {}
    for key in filter(lambda key: (root / key).is_dir(), KEYS):
        there = find(root / key)
        if there.left_out and not there.recordings:
            lost[key] = there.left_out
        _name_left_out(root / key, there.left_out)
        for found in there.recordings:
            path = found.relative_to(root)
            inside = len(path.parts) > 2
            rows.append(((Path(root.name) / path).as_posix(), path.as_posix(), key, path.parts[1] if key == "spoof" and inside else ""))
    if lost:
        raise InputError("; ".join(f"{root / key} holds no recording: {_first(files)}" for key, files in lost.items()))
    others = sorted(path.name for path in root.iterdir() if path.name.lower().startswith("protocol.") and path.is_file())
    if others and rows:
        LOG.warning("%s: %s is not read: a table is read as protocol.tsv alone", root, ", ".join(others))
    if others and not rows:
        raise InputError(f"{root} has {', '.join(others)}, which is not read: save the table as protocol.tsv, separated by tabs")
    if not rows:
        raise InputError(f"{root} has neither protocol.tsv nor audio in bonafide/ and spoof/<source>/: add one of the two")
    refuse_names_that_are_no_text(path for _, path, *_ in rows)
    refuse_names_that_are_no_text([root.name])
    _refuse_unlabelled(root)
    return assemble(pd.DataFrame(rows, columns=["utterance_id", "path", "key", "source"], dtype="str"), "folder", root)


def read_recordings(root: Path) -> pd.DataFrame:
    """Every recording below `root` as a bona fide trial; ids are paths below `root`, with extension. No file: an empty table.

    Errors: InputError as `refuse_names_that_are_no_text`.
    """
    there = find(root)
    _name_left_out(root, there.left_out)
    places = [path.relative_to(root).as_posix() for path in there.recordings]
    refuse_names_that_are_no_text(places)
    return assemble(pd.DataFrame({"utterance_id": places, "path": places, "key": "bonafide"}, dtype="str"), "folder", root)


def _refuse_unlabelled(root: Path) -> None:
    """Errors: InputError naming what lies in `root` beside the folders of the two keys and holds recordings, which no key would name."""
    others = find(root, [*KEYS]).recordings
    places = sorted({path.relative_to(root).parts[0] for path in others})
    if places:
        named = ", ".join(places[:SHOWN]) + (", …" if len(places) > SHOWN else "")
        raise InputError(
            f"{root}: {len(others)} recordings are in neither bonafide/ nor spoof/ (in small letters), but in {named}: "
            "move or rename them, or list all in a protocol.tsv"
        )


def _name_left_out(folder: Path, files: dict[Path, str]) -> None:
    if files:
        LOG.warning("%s: %d files are left out: %s", folder, len(files), _first(files))


def _first(files: dict[Path, str]) -> str:
    named = [f"{path.name} ({reason})" for path, reason in list(files.items())[:SHOWN]]
    return ", ".join(named) + (", …" if len(files) > SHOWN else "")
