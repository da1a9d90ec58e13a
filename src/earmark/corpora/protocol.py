"""The protocol: one table of trials for all corpora, a row an utterance."""

import logging
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from earmark import InputError
from earmark.storage.printable import legible

LOG = logging.getLogger(__name__)
CORE = ("utterance_id", "corpus", "path", "key", "source", "attack", "speaker", "group", "split", "in_domain", "language", "copied")
KEYS = ("bonafide", "spoof")
SPLITS = ("train", "dev", "eval")
MISSING = ("", "-")
SHOWN = 20  # names that are no text
RESERVED = frozenset(  # columns that stages add to the protocol, or that adapters of public corpora give a meaning
    (
        "corpus", "seconds", "digest", "fault", "error", "words", "active", "level_dbfs", "peak_dbfs", "active_dbfs", "leading_silence",
        "trailing_silence", "silence_share", "duration", "bandwidth_hz", "clipped", "rate", "container", "coding", "cm_score", "lowest",
        "windows", "embedding", "llr", "champion_llr", "answer", "ood_score", "unseen", "posterior", "set", "system", "known", "new_group",
        "new_language", "degradation", "level", "listed", "quadrant", "misfiled", "strictly_unseen", "subset",
    )
)  # fmt: skip
TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def keep_apart(rows: pd.DataFrame, place: object) -> pd.DataFrame:
    """Rename columns of a corpus's own table that have a RESERVED name: `seconds` becomes `stated_seconds`; the log names them.

    Errors: InputError naming `place`, where the table was read, when it has both.
    """
    names = {name: f"stated_{name}" for name in rows.columns if name in RESERVED}
    if both := [new for new in names.values() if new in rows]:
        raise InputError(f"{place}: the column {both[0]} is there beside {both[0].removeprefix('stated_')}: rename one")
    if names:
        renamed = ", ".join(f"{old} becomes {new}" for old, new in names.items())
        LOG.warning("%s: earmark makes columns of these names itself: %s", place, renamed)
    return rows.rename(columns=names)


def refuse_names_that_are_no_text(names: Iterable[str]) -> None:
    """Errors: InputError naming those that are no UTF-8: no table can hold them."""
    if odd := [legible(name) for name in names if any("\ud800" <= one <= "\udfff" for one in name)]:
        shown = ", ".join(f"'{name}'" for name in odd[:SHOWN]) + (f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else "")
        raise InputError(f"no UTF-8, which a corpus's names must be: {shown}: rename them")


def assemble(rows: pd.DataFrame, corpus: str, root: Path) -> pd.DataFrame:
    """Bring an adapter's rows (all strings) into the protocol's form: every core column, nulls for missing, paths joined to `root`.

    Names are brought into Unicode's form NFC, but for paths: `checks.locate` finds how the disk writes them.
    Labels are left as they are: `checks.validate` lists all unknown ones at once. Errors: InputError when `root` is no UTF-8.
    """
    refuse_names_that_are_no_text([str(root)])
    if "made" in rows:
        raise InputError(f"{root}: its column made is called copied now: rename it in the protocol")
    table = rows.reset_index(drop=True).astype("str").replace(dict.fromkeys(MISSING))
    for name in table.columns.drop("path"):
        composed = {text: unicodedata.normalize("NFC", text) for text in table[name].dropna().unique() if not text.isascii()}
        table[name] = table[name].replace({text: one for text, one in composed.items() if text != one})
    table["corpus"] = corpus
    base = str(root)
    table["path"] = [os.path.join(base, os.path.normpath(p)) if isinstance(p, str) else None for p in table["path"]]
    for name in CORE:
        if name not in table:
            table[name] = None
    table.loc[table["key"] == "bonafide", ["source", "attack"]] = None
    conditions = [name for name in table.columns if name not in CORE]
    table = table[[*CORE, *conditions]].astype({name: "str" for name in table.columns if name not in ("in_domain", "copied")})
    table["in_domain"] = _truths(table, "in_domain").astype("boolean")
    table["copied"] = _truths(table, "copied").astype("boolean").fillna(False).astype(bool)
    return table


def _truths(table: pd.DataFrame, column: str) -> pd.Series:
    lowered = table[column].astype("str").str.lower()
    wrong = lowered.notna() & ~lowered.isin(list(TRUTHS))
    if wrong.any():
        row = table[wrong].iloc[0]
        raise InputError(f"{row['utterance_id']}: {column} is {row[column]!r}; write 1, 0 or leave it empty")
    return lowered.map(TRUTHS).astype("object")


def headline(protocol: pd.DataFrame) -> pd.DataFrame:
    """Trials that figures are reported on: split eval and, in a corpus with organisers' subsets, subset eval.

    Errors: InputError when no trial is in split eval.
    """
    chosen = (protocol["split"] == "eval").to_numpy(bool, na_value=False)
    if "subset" in protocol:
        subset, corpus = protocol["subset"], pd.Index(protocol["corpus"])
        parted = corpus.isin(corpus[subset.notna().to_numpy(bool)])
        chosen = chosen & (~parted | (subset == "eval").to_numpy(bool, na_value=False))
    if not chosen.any():
        raise InputError("the protocol has no trial in split eval: add an evaluation corpus, or mark trials `eval` in the column split")
    return protocol.take(np.flatnonzero(chosen)).reset_index(drop=True)
