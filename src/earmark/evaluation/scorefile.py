"""Anybody's score files and protocols as tables, joined by id. Every error names the file and the line, or the first ids."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark import InputError
from earmark.corpora import asvspoof, in_the_wild
from earmark.corpora.protocol import KEYS, assemble, keep_apart
from earmark.corpora.text import Line, read_delimited, read_lines, require_columns, split_rows
from earmark.evaluation.join import first_of, ids_of
from earmark.metrics.detection import AsvScores
from earmark.storage.files import read_table

LOG = logging.getLogger(__name__)
LABELS = {**dict(zip(KEYS, KEYS, strict=True)), **in_the_wild.LABELS}
SCORE_NAMES = ("cm_score", "cm-score", "score")
ID_NAMES = (
    "utterance_id", "utterance", "utt_id", "utt", "id", "file", "filename", "file_name", "fname", "path", "file_path", "filepath", "name",
    "trial", "trial_id", "audio", "wav",
)  # fmt: skip
KEY_NAMES = ("key", "label", "labels", "target", "truth", "y_true", "class", "ground_truth")
NAMES = (*ID_NAMES, *SCORE_NAMES, *KEY_NAMES)
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
NII_NAMES = ["utterance_id", "label", "score"]
NII = re.compile(r"(?:^|\s)Output,\s*(.+)$")  # `Output, id, label as number, score`, among other lines of a log
ASV_LABELS = ("target", "nontarget", "spoof")
LISTS: dict[int, tuple[str, tuple[str, ...]]] = {  # number of fields in a protocol's lines → corpus and their names
    3: ("in_the_wild", ("utterance_id", "split", "key")),
    5: ("asvspoof2019_la", asvspoof.COLUMNS_2019),
    8: ("asvspoof2021_la", asvspoof.COLUMNS_LA),
    13: ("asvspoof2021_df", asvspoof.COLUMNS_DF + asvspoof.COLUMNS_DF_MORE),
}

COLUMNS = ["utterance_id", "attack", "key", "cm_score"]
Fields = list[tuple[str, list[str]]]  # the fields of lines, each with its place for messages


def read_scores(path: Path, negate: bool = False, column: str | None = None) -> pd.DataFrame:
    """Scores as a table `utterance_id cm_score`, with `attack key` where the file carries them.

    Text (gzip allowed): lines `id score`, `id key score` or `id attack key score`; tables with tabs, commas or semicolons, with a header
    in any order or without; logs with lines `Output, id, label, score`. Or a Parquet table of ours. `column` says which one is the
    score, by name or number (1 is the first, -1 the last). `negate` is for files where a higher score is more spoofed.
    Errors: InputError on a row that is no score, several columns that could be the score, or an id scored twice.
    """
    if path.suffix == ".parquet":
        table, places = read_table(path), None
        require_columns(table, ("utterance_id", column or "cm_score"), path)
        table["cm_score"] = pd.to_numeric(table[column or "cm_score"], errors="coerce")
    else:
        table, places = _parse_scores(path, column)
    bad = ~np.isfinite(table["cm_score"].to_numpy(np.float64))
    if bad.any():
        raise InputError(f"{path}, {_place(places, bad)}: {bad.sum()} scores are NaN or infinite: score those trials again")
    _refuse_duplicates(table, places, path)
    return table.assign(cm_score=-table["cm_score"]) if negate else table


def _parse_scores(path: Path, column: str | None) -> tuple[pd.DataFrame, list[str]]:
    rows, names, aligned = _rows_and_names(path, column)
    if not rows:
        raise InputError(f"{path} holds no score: write lines `id score` or `id attack key score`")
    places, first = [place for place, _ in rows], rows[0][1]
    if aligned or column or (names and all(len(fields) == len(names) for _, fields in rows)):
        return _from_columns(rows, names, column, path), places
    keyed = len(first) > 2 and first[-2] in LABELS
    if not keyed and len(first) > 2 and all(len(fields) > 2 and _is_number(fields[-2]) for _, fields in rows):
        raise _several(["-2", "-1"], path)
    table = pd.DataFrame([_parse_score(fields, keyed, f"{path}, {place}") for place, fields in rows], columns=COLUMNS)
    return table if keyed else table.drop(columns=["attack", "key"]), places


def _rows_and_names(path: Path, column: str | None) -> tuple[Fields, list[str] | None, bool]:
    """Fields of all lines but the header, the names in that, and whether the fields are columns, as those between blanks are not."""
    lines = _read_lines(path)
    told = [Line(number, found[1]) for number, line in lines if (found := NII.search(line))]
    if told:
        LOG.info("%s: a log; %d lines `Output, …` are read, %d others are not", path, len(told), len(lines) - len(told))
        rows, _ = _split(told, ",")
        return rows, NII_NAMES if len(rows[0][1]) == len(NII_NAMES) else None, True
    rows, aligned = _split(lines, _delimiter(lines))
    names = _header(rows[0][1], column)
    return rows[1:] if names else rows, names, aligned


def _delimiter(lines: list[Line]) -> str | None:
    """What separates the fields: the first sign between a number, or the name of a column, and others; None, which is blanks."""
    for sign in ("\t", ";", ","):
        fields = [field.strip(' "').lower() for _, line in lines[:2] if sign in line for field in line.split(sign)]
        if any(field in NAMES or _is_number(field) or (sign != "," and DECIMAL_COMMA.fullmatch(field)) for field in fields):
            return sign
    return None


def _split(lines: list[Line], delimiter: str | None) -> tuple[Fields, bool]:
    """Fields of lines, and whether these are columns; blanks may be part of an id, so they make none."""
    if delimiter is None:
        return [(f"line {number}", line.split()) for number, line in lines], False
    return [(f"line {number}", row.fields) for number, line in lines for row in split_rows(line, delimiter)], True


def _header(fields: list[str], column: str | None) -> list[str] | None:
    """Names of the columns, when the first line has them."""
    known = any(name.lower() in NAMES for name in fields)
    return fields if (known or column in fields) and not any(map(_is_number, fields)) else None


def _from_columns(rows: Fields, names: list[str] | None, column: str | None, path: Path) -> pd.DataFrame:
    """Scores of a table, as `read_scores`."""
    width = len(names or rows[0][1])
    for place, fields in rows:
        if len(fields) != width:
            raise InputError(f"{path}, {place}: {len(fields)} fields instead of {width}: separate them by tabs or commas")
    lowered = [name.lower() for name in names] if names else [str(number + 1) for number in range(width)]
    table = list(zip(*(fields for _, fields in rows), strict=True))
    ident = next((lowered.index(name) for name in ID_NAMES if name in lowered), 0)
    key = next((number for number in range(width) if number != ident and table[number][0] in LABELS), None)
    others = [number for number in range(width) if number not in (ident, key) and lowered[number]]  # without name: pandas' index
    score = _named(column, names, width, path) if column else _only_score(table, lowered, others, path)
    if names and re.search("spoof|fake", lowered[score]):
        LOG.warning("%s: column %s is read as higher = more bona fide, as it is; --negate turns it round", path, names[score])
    found = pd.DataFrame({"utterance_id": table[ident], "cm_score": [_number(cell, f"{path}, {place}") for cell, (place, _) in
                          zip(table[score], rows, strict=True)]})  # fmt: skip
    if key is None or key == score:
        return found
    attack = lowered.index("attack") if "attack" in lowered else key - 1 if not names and key - 1 in others else None
    keys = [_label(cell, f"{path}, {place}") for cell, (place, _) in zip(table[key], rows, strict=True)]
    return found.assign(attack=table[attack] if attack is not None else "-", key=keys)[COLUMNS]


def _only_score(table: list[tuple[str, ...]], names: list[str], others: list[int], path: Path) -> int:
    """The column that is the score. Errors: InputError when it may be any of several, or is none."""
    numeric = [number for number in others if names[number] not in KEY_NAMES and any(map(_is_number, table[number]))]
    chosen = [number for number in numeric if names[number] in SCORE_NAMES] or numeric
    if len(chosen) > 1:
        raise _several([names[number] for number in chosen], path)
    if not chosen and not others:
        raise InputError(f"{path} has no column of scores; it has {', '.join(names)}: write one, `score`, or name it with --column")
    return (chosen or others)[-1]


def _several(names: Sequence[str], path: Path) -> InputError:
    return InputError(f"{path} has several numbers beside an id ({', '.join(names)}): say with --column which is the score, "
                      "by name or number (-1: the last); if higher there is more spoofed, add --negate")  # fmt: skip


def _named(column: str, names: list[str] | None, width: int, path: Path) -> int:
    """Number, from 0, of the column that a user names."""
    if names and column in names:
        return names.index(column)
    if re.fullmatch(r"-?[1-9]\d*", column) and abs(int(column)) <= width:
        return int(column) - 1 if int(column) > 0 else width + int(column)
    there = f"it has {', '.join(names)}" if names else f"its {width} columns have no names"
    raise InputError(f"{path} has no column {column}: {there}; give a name, or a number from 1 to {width} or -1 to -{width}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, place: str) -> float:
    try:
        return float(text)
    except ValueError:
        comma = "write a decimal point" if DECIMAL_COMMA.fullmatch(text) else "mend the score or remove the line"
        raise InputError(f"{place}: {text!r} is not a number: {comma}") from None


def _label(text: str, place: str) -> str:
    if text not in LABELS:
        raise InputError(f"{place}: unknown key {text!r}: write one of {', '.join(LABELS)}")
    return LABELS[text]


def _parse_score(fields: Sequence[str], keyed: bool, place: str) -> tuple[str, str, str, float]:
    """Fields of one line; an id may hold spaces, so the line is read from its end."""
    if len(fields) < (3 if keyed else 2):
        raise InputError(f"{place}: {' '.join(fields)!r} is no score: write `id score` or `id attack key score`")
    score = _number(fields[-1], place)
    if not keyed:
        return " ".join(fields[:-1]), "-", "-", score
    key = _label(fields[-2], place)
    if len(fields) == 3:
        return fields[0], "-", key, score
    return " ".join(fields[:-3]), fields[-3], key, score


def read_protocol(path: Path) -> pd.DataFrame:
    """Protocol table from the lists of ASVspoof2019, ASVspoof2021 or In-the-Wild, its meta.csv, or a protocol.parquet or .tsv of ours.

    Lists may be gzipped. Errors: InputError on an unknown form or key, a line of other length, or an id listed twice.
    """
    if path.suffix == ".parquet":
        table = read_table(path)
        require_columns(table, ("utterance_id", "corpus", "key", "split"), path)
        _refuse_duplicates(table, None, path)
        return table
    corpus, rows, places = _parse_protocol(path)
    keys = rows["key"].to_numpy(dtype=object)
    unkeyed = keys == "-"
    if unkeyed.any():
        LOG.warning("%s: %d trials without key are left out", path, unkeyed.sum())
    unknown = ~np.isin(keys.astype(str), ["-", *LABELS])
    if unknown.any():
        raise InputError(f"{path}, {_place(places, unknown)}: unknown key {keys[unknown][0]!r}: write one of {', '.join(LABELS)}")
    _refuse_duplicates(rows, places, path)
    return _assemble(rows.take(np.flatnonzero(~unkeyed)).replace({"key": LABELS}), corpus)


def protocol_of(scores: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Protocol that a score file itself carries. Errors: InputError when it has no keys."""
    if "key" not in scores:
        raise InputError(f"{path} carries no keys: name its protocol with --protocol")
    return _assemble(scores.drop(columns="cm_score"), "scores")


def _assemble(rows: pd.DataFrame, corpus: str) -> pd.DataFrame:
    rows = rows.drop(columns="environment", errors="ignore").assign(path="-")  # no audio is looked for
    if "source" not in rows and "attack" in rows:
        rows["source"] = rows["attack"]
    if "split" not in rows:
        rows["split"] = "eval"  # the trials given are the trials meant
    return assemble(rows, corpus, Path())


def _parse_protocol(path: Path) -> tuple[str, pd.DataFrame, list[str]]:
    lines = _read_lines(path)
    first = lines[0].text
    if "utterance_id" in first:
        table, places = read_delimited(path, "\t", ("utterance_id", "key"))
        return "folder", keep_apart(table, path), places
    if "," in first or ";" in first:
        table, places = read_delimited(path, ",", ("file", "speaker", "label"))
        return "in_the_wild", keep_apart(table, path).rename(columns={"file": "utterance_id", "label": "key"}), places
    width = len(first.split())
    if width not in LISTS:
        raise InputError(f"{path}: lines of {width} fields are no protocol known here: give protocol.tsv, meta.csv or an ASVspoof list")
    corpus, names = LISTS[width]
    return corpus, *_tabulate(lines, names, path)


def _tabulate(lines: Iterable[Line], names: Sequence[str], path: Path) -> tuple[pd.DataFrame, list[str]]:
    rows = [(number, line.split()) for number, line in lines]
    for number, fields in rows:
        if len(fields) != len(names):
            raise InputError(f"{path}, line {number}: {len(fields)} fields instead of {len(names)} ({', '.join(names)}): mend the line")
    return pd.DataFrame([fields for _, fields in rows], columns=list(names), dtype="str"), [f"line {number}" for number, _ in rows]


def read_asv_scores(path: Path) -> AsvScores:
    """Scores of a speaker verifier, lines `<attack or bonafide> <target, nontarget or spoof> <score>` (gzip allowed)."""
    found: dict[str, list[float]] = {label: [] for label in ASV_LABELS}
    for number, line in _read_lines(path):
        fields = line.split()
        try:
            found[fields[-2]].append(float(fields[-1]))
        except (KeyError, IndexError, ValueError):
            raise InputError(f"{path}, line {number}: {line!r} is not `bonafide target 7.98`, with {', '.join(ASV_LABELS)}") from None
    lacking = [label for label, scores in found.items() if not scores]
    if lacking:
        raise InputError(f"{path} holds no {', '.join(lacking)} scores: give the organisers' whole file")
    return AsvScores(*(np.array(found[label]) for label in ASV_LABELS))


def _refuse_duplicates(table: pd.DataFrame, places: list[str] | None, path: Path) -> None:
    again = pd.Index(ids_of(table)).duplicated()
    if again.any():
        raise InputError(f"{path}, {_place(places, again)}: {again.sum()} ids come twice ({first_of(ids_of(table)[again])}): keep one row")


def _place(places: list[str] | None, flags: NDArray[np.bool_]) -> str:
    row = int(np.argmax(flags))
    return f"row {row + 1}" if places is None else places[row]


def _read_lines(path: Path) -> list[Line]:
    """Numbered lines that hold anything. Errors: InputError when the file is missing, unreadable, no text or empty."""
    lines = read_lines(path)
    if not lines:
        raise InputError(f"{path} is empty: give a file with one line a trial")
    return lines
