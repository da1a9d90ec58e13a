"""The protocol: one table of trials for all corpora, a row an utterance."""

import os
from pathlib import Path

import pandas as pd

from earmark import InputError

CORE = ("utterance_id", "corpus", "path", "key", "source", "attack", "speaker", "group", "split", "in_domain", "language", "made")
KEYS = ("bonafide", "spoof")
SPLITS = ("train", "dev", "eval")
MISSING = ("", "-")
TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def assemble(rows: pd.DataFrame, corpus: str, root: Path) -> pd.DataFrame:
    """Bring an adapter's rows (all strings) into the protocol's form: every core column, nulls for missing, paths joined to `root`.

    Labels are left as they are: `checks.validate` lists all unknown ones at once.
    """
    table = rows.reset_index(drop=True).astype("str").replace(dict.fromkeys(MISSING))
    table["corpus"] = corpus
    base = str(root)
    table["path"] = [os.path.join(base, os.path.normpath(p)) if isinstance(p, str) else None for p in table["path"]]
    for name in CORE:
        if name not in table:
            table[name] = None
    table.loc[table["key"] == "bonafide", ["source", "attack"]] = None
    conditions = [name for name in table.columns if name not in CORE]
    table = table[[*CORE, *conditions]].astype({name: "str" for name in table.columns if name not in ("in_domain", "made")})
    table["in_domain"] = _truths(table, "in_domain").astype("boolean")
    table["made"] = _truths(table, "made").astype("boolean").fillna(False).astype(bool)
    return table


def _truths(table: pd.DataFrame, column: str) -> pd.Series:
    lowered = table[column].astype("str").str.lower()
    wrong = lowered.notna() & ~lowered.isin(list(TRUTHS))
    if wrong.any():
        row = table[wrong].iloc[0]
        raise InputError(f"{row['utterance_id']}: {column} is {row[column]!r}; write 1, 0 or leave it empty")
    return lowered.map(TRUTHS).astype("object")


def read_text(path: Path) -> str:
    """Read a corpus's own text file. Errors: InputError naming it when it is missing, unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the corpus's root in params, its layout is described in the README") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error}): mend or download it again") from error


def read_fields(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """Read space-separated lines of exactly `names`. Errors: InputError naming file and line when a line has other fields."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if fields and len(fields) != len(names):
            raise InputError(f"{path}, line {number}: {len(fields)} fields instead of {len(names)} ({' '.join(names)}): mend the line")
        if fields:
            rows.append(fields)
    return pd.DataFrame(rows, columns=list(names), dtype="str")


def require_columns(table: pd.DataFrame, names: tuple[str, ...], path: Path) -> None:
    """Refuse a table that lacks a column. Errors: InputError naming `path` and the columns."""
    lacking = [name for name in names if name not in table]
    if lacking:
        raise InputError(f"{path} has no column {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}: add what is lacking")
