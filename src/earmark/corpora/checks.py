"""Faults of a protocol, all named at once and before any training."""

import logging
import os
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from earmark import InputError
from earmark.audio.finder import is_recording
from earmark.corpora.protocol import KEYS, SPLITS

LOG = logging.getLogger(__name__)
SHOWN = 20  # rows of a table of culprits; the rest is counted


def validate(table: pd.DataFrame, max_unreadable: float = 0.01) -> pd.DataFrame:
    """Return the rows whose audio exists; `max_unreadable` is the fraction of a corpus that may be missing.

    Errors: InputError with one table of all culprits: unknown keys and splits, ids that occur twice, too much missing audio.
    """
    missing = find_missing(table)
    share = missing.groupby(table["corpus"]).transform("mean")
    too_many = missing & (share > max_unreadable)
    _refuse(pd.concat([_label_faults(table), _repeat_faults(table), _faults(table, too_many, "audio file is missing")]))
    for corpus, lost in table[missing].groupby("corpus"):
        LOG.warning("%s: %d audio files are missing, going on without them\n%s", corpus, len(lost), show(lost[["utterance_id", "path"]]))
    return table[~missing].reset_index(drop=True)


def refuse_wrong_labels(table: pd.DataFrame) -> None:
    """Refuse unknown keys and splits. Errors: InputError with one table of all culprits."""
    _refuse(_label_faults(table))


def _refuse(culprits: pd.DataFrame) -> None:
    if len(culprits):
        raise InputError(f"{_count(culprits)}\n{show(culprits)}\nmend the protocol or bring the files, then run again")


def _count(culprits: pd.DataFrame) -> str:
    corpora = ", ".join(sorted(culprits["corpus"].unique()))
    return f"{len(culprits)} fault{'s' if len(culprits) > 1 else ''} in {corpora}:"


def _faults(table: pd.DataFrame, wrong: pd.Series, what: str | pd.Series) -> pd.DataFrame:
    return table.assign(fault=what).loc[wrong, ["corpus", "utterance_id", "fault", "path"]]


def _label_faults(table: pd.DataFrame) -> pd.DataFrame:
    key = _faults(table, ~table["key"].isin(KEYS), "key is " + table["key"].fillna("empty") + ", not bonafide or spoof")
    split = _faults(table, ~table["split"].isin(SPLITS), "split is " + table["split"].fillna("empty") + ", not train, dev or eval")
    return pd.concat([key, split])


def _repeat_faults(table: pd.DataFrame) -> pd.DataFrame:
    return _faults(table, table["utterance_id"].duplicated(keep=False), "utterance_id occurs more than once")


def show(rows: pd.DataFrame) -> str:
    """Render at most SHOWN rows as text, and count the rest."""
    text = rows.head(SHOWN).to_string(index=False, max_colwidth=100, justify="left")
    return text + (f"\n... and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def find_missing(table: pd.DataFrame) -> pd.Series:
    """Mark rows whose file does not exist, by one listing per folder: 600,000 single look-ups take minutes on network drives."""
    parts = table["path"].str.rpartition(os.sep)
    present = {folder: _list_files(folder) for folder in parts[0].unique()}
    return pd.Series([name not in present[folder] for folder, name in zip(parts[0], parts[2], strict=True)], index=table.index, dtype=bool)


def locate(table: pd.DataFrame) -> pd.DataFrame:
    """Paths as the disk has them, where what is written is not there: `\\` read as `/`, names equal in Unicode's form NFC as the same.

    Others stay as they are, and are missing.
    """
    missing = find_missing(table) & table["path"].notna()
    if missing.any():
        find = cache(_names)
        found = table.loc[missing, "path"].map(lambda path: _find(path, find) or path)
        table = table.assign(path=table["path"].mask(missing, found))
    return table


def _find(path: str, names: Callable[[str], dict[str, list[str]]]) -> str | None:
    """The path of the one file that a path names; None where there is none, or several differ in their form of Unicode alone."""
    found = os.sep if path.startswith(os.sep) else ""
    for name in os.path.normpath(path.replace("\\", "/")).split(os.sep):
        exact = os.path.join(found, name)
        if os.path.lexists(exact) or not name:
            found = exact
            continue
        alike = names(found).get(unicodedata.normalize("NFC", name), [])
        if len(alike) != 1:
            return None
        found = os.path.join(found, alike[0])
    return found if os.path.isfile(found) else None


def _names(folder: str) -> dict[str, list[str]]:
    """What a folder holds, by its name in form NFC."""
    found: dict[str, list[str]] = {}
    with suppress(OSError):
        for name in os.listdir(folder or os.curdir):
            found.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return found


def refuse_unfollowed(table: pd.DataFrame) -> None:
    """In a stage that DVC runs, refuse audio that DVC does not hash: it would not run the stage again when that changes.

    Errors: InputError naming the folders; DVC follows the stage's `deps`, but no folder that is linked below them.
    """
    if not (stage := os.environ.get("DVC_STAGE")):
        return
    followed = [os.path.realpath(place) for place in _dependencies(stage.rpartition(":")[2])]
    folders = table["path"].dropna().map(os.path.dirname).unique()
    lost = [folder for folder in folders if not any(Path(os.path.realpath(folder)).is_relative_to(place) for place in followed)]
    if lost:
        named = ", ".join(f"{folder} (in truth {os.path.realpath(folder)})" for folder in lost[:SHOWN])
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise InputError(
            f"DVC does not hash the audio in {named}{more}, so it would miss every change there: move or hard-link the files below data/, "
            f"or add their folder to the deps of {stage} and of all stages that have data in dvc.yaml (docs/dvc.md)"
        )


def _dependencies(stage: str) -> list[str]:
    """What DVC hashes before it runs a stage of the dvc.yaml here."""
    try:
        return yaml.safe_load(Path("dvc.yaml").read_text())["stages"][stage]["deps"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ["data", "artifacts/copies"]


def find_surplus(table: pd.DataFrame) -> list[str]:
    """Paths of audio that lies in the table's folders without being in the table."""
    parts = table["path"].str.rpartition(os.sep)
    known = parts[2].groupby(parts[0]).agg(set)
    surplus = [os.path.join(str(folder), name) for folder, names in known.items() for name in _list_files(str(folder)) - names]
    return sorted(path for path in surplus if is_recording(path))


def _list_files(folder: str) -> set[str]:
    try:
        with os.scandir(folder or os.curdir) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def check_needs(table: pd.DataFrame, needs: Iterable[str] = SPLITS) -> None:
    """Refuse a table that cannot serve a run: both keys in train and in dev, and some eval; name sources of one file in the log.

    Errors: InputError naming the split and what it lacks.
    """
    faults = []
    for split in needs:
        counts = table.loc[table["split"] == split, "key"].value_counts()
        lacking = [key for key in KEYS if not counts.get(key)]
        if len(lacking) == 2:
            faults.append(f"no corpus brings {split} trials")
        elif lacking and split != "eval":
            faults.append(f"{split} is of one class: it has {counts.sum()} trials and none is {lacking[0]}")
    if faults:
        raise InputError("; ".join(faults) + ": add a corpus, or change the splits that the corpora in params serve")
    train = table[(table["split"] == "train") & (table["key"] == "spoof")]
    alone = train["source"].value_counts().loc[lambda counts: counts == 1]
    if len(alone):
        LOG.warning("sources with a single training file: %s", ", ".join(sorted(alone.index)))


def refuse_unreadable(faults: pd.DataFrame, counts: pd.Series, max_unreadable: float) -> None:
    """Log files that cannot be used (rows with corpus, utterance_id, error); refuse when a corpus has too large a share of them.

    Errors: InputError with one line a file.
    """
    for corpus, rows in faults.groupby("corpus"):
        listing = "\n".join(f"  {utterance}: {error}" for utterance, error in zip(rows["utterance_id"], rows["error"], strict=True))
        share = len(rows) / counts[corpus]
        message = f"{corpus}: {len(rows)} files ({share:.2%}) cannot be used:\n{listing}"
        if share > max_unreadable:
            raise InputError(f"{message}\nmend or remove them, or raise trials.max_unreadable ({max_unreadable:.2%})")
        LOG.warning("%s\nthe run goes on without them", message)
