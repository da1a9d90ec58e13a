"""Anybody's score files and protocols as tables, joined by id. Every error names the file and the line, or the first ids."""

import csv
import gzip
import logging
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark import InputError
from earmark.audio.finder import is_recording
from earmark.corpora import asvspoof, in_the_wild
from earmark.corpora.protocol import KEYS, assemble, require_columns
from earmark.files import read_table
from earmark.metrics.detection import AsvScores

LOG = logging.getLogger(__name__)
LABELS = {**dict(zip(KEYS, KEYS, strict=True)), **in_the_wild.LABELS}
HEADERS = ("score", "cm_score", "cm-score")  # last word of a score file's first line, when it is a header
ASV_LABELS = ("target", "nontarget", "spoof")
SHOWN = 5  # ids listed in a message
LISTS: dict[int, tuple[str, tuple[str, ...]]] = {  # number of fields in a protocol's lines → corpus and their names
    3: ("in_the_wild", ("utterance_id", "split", "key")),
    5: ("asvspoof2019_la", asvspoof.COLUMNS_2019),
    8: ("asvspoof2021_la", asvspoof.COLUMNS_LA),
    13: ("asvspoof2021_df", asvspoof.COLUMNS_DF + asvspoof.COLUMNS_DF_MORE),
}

Line = tuple[int, str]
Ids = NDArray[np.object_]


def read_scores(path: Path, negate: bool = False) -> pd.DataFrame:
    """Scores as a table `utterance_id cm_score`, with `attack key` where the file carries them.

    Text lines `id score`, `id key score` or `id attack key score` (gzip allowed, header allowed), or a Parquet table of ours.
    `negate` is for files where a higher score is more spoofed. Errors: InputError on a row that is no score, or an id scored twice.
    """
    if path.suffix == ".parquet":
        table, places = read_table(path), None
        require_columns(table, ("utterance_id", "cm_score"), path)
    else:
        table, places = _parse_scores(path)
    bad = ~np.isfinite(table["cm_score"].to_numpy(np.float64))
    if bad.any():
        raise InputError(f"{path}, {_place(places, bad)}: {bad.sum()} scores are NaN or infinite: score those trials again")
    _refuse_duplicates(table, places, path)
    return table.assign(cm_score=-table["cm_score"]) if negate else table


def _parse_scores(path: Path) -> tuple[pd.DataFrame, list[int]]:
    lines = [(number, line.split() if len(line.split()) > 1 else line.split(",")) for number, line in _read_lines(path)]
    if lines[0][1][-1].lower() in HEADERS:
        lines = lines[1:]
    keyed = bool(lines) and len(lines[0][1]) > 2 and lines[0][1][-2] in LABELS
    rows = [_parse_score(fields, keyed, f"{path}, line {number}") for number, fields in lines]
    if not rows:
        raise InputError(f"{path} holds no score: write lines `id score` or `id attack key score`")
    table = pd.DataFrame(rows, columns=["utterance_id", "attack", "key", "cm_score"])
    return table if keyed else table.drop(columns=["attack", "key"]), [number for number, _ in lines]


def _parse_score(fields: Sequence[str], keyed: bool, place: str) -> tuple[str, str, str, float]:
    """Fields of one line; an id may hold spaces, so the line is read from its end."""
    if len(fields) < (3 if keyed else 2):
        raise InputError(f"{place}: {' '.join(fields)!r} is no score: write `id score` or `id attack key score`")
    try:
        score = float(fields[-1])
    except ValueError:
        raise InputError(f"{place}: {fields[-1]!r} is not a number: mend the score or remove the line") from None
    if not keyed:
        return " ".join(fields[:-1]), "-", "-", score
    if fields[-2] not in LABELS:
        raise InputError(f"{place}: unknown key {fields[-2]!r}: write one of {', '.join(LABELS)}")
    if len(fields) == 3:
        return fields[0], "-", LABELS[fields[1]], score
    return " ".join(fields[:-3]), fields[-3], LABELS[fields[-2]], score


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


def _parse_protocol(path: Path) -> tuple[str, pd.DataFrame, list[int]]:
    lines = _read_lines(path)
    first = lines[0][1]
    if "\t" in first and "utterance_id" in first:
        table, places = _parse_table(lines, path, "\t")
        require_columns(table, ("utterance_id", "key"), path)
        return "folder", table, places
    if "," in first:
        table, places = _parse_table(lines, path, ",")
        require_columns(table, ("file", "speaker", "label"), path)
        return "in_the_wild", table.rename(columns={"file": "utterance_id", "label": "key"}), places
    width = len(first.split())
    if width not in LISTS:
        raise InputError(f"{path}: lines of {width} fields are no protocol known here: give protocol.tsv, meta.csv or an ASVspoof list")
    corpus, names = LISTS[width]
    fields = [(number, line.split()) for number, line in lines]
    return corpus, *_tabulate(fields, names, path)


def _parse_table(lines: list[Line], path: Path, separator: str) -> tuple[pd.DataFrame, list[int]]:
    rows = []
    for number, line in lines:
        fields = next(csv.reader([line], skipinitialspace=True)) if separator == "," else line.split(separator)
        rows.append((number, [field.strip() for field in fields]))
    return _tabulate(rows[1:], rows[0][1], path)


def _tabulate(rows: Iterable[tuple[int, list[str]]], names: Sequence[str], path: Path) -> tuple[pd.DataFrame, list[int]]:
    rows = list(rows)
    for number, fields in rows:
        if len(fields) != len(names):
            raise InputError(f"{path}, line {number}: {len(fields)} fields instead of {len(names)} ({', '.join(names)}): mend the line")
    return pd.DataFrame([fields for _, fields in rows], columns=list(names), dtype="str"), [number for number, _ in rows]


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


def join(scores: pd.DataFrame, protocol: pd.DataFrame, max_missing: float = 0.0) -> pd.DataFrame:
    """Protocol rows with their `cm_score`, by id; where ids do not meet as written, audio extensions are ignored on both sides.

    Scored ids outside the protocol are left out after saying so, as are trials without score up to the share `max_missing`.
    Errors: InputError when more are missing, when all are, or when both tables give an id different keys.
    """
    scored, wanted = _ids(scores), _ids(protocol)
    if not pd.Index(wanted).isin(scored).all():
        scored, wanted = _without_extension(scored, "the score file"), _without_extension(wanted, "the protocol")
    place = pd.Index(scored).get_indexer(pd.Index(wanted))  # the row of each trial's score, -1 for none
    missing, surplus = place < 0, ~pd.Index(scored).isin(wanted)
    lost = f"{missing.sum()} of {len(wanted)} trials have no score ({_first(wanted[missing])})"
    if missing.all() or missing.mean() > max_missing:
        raise InputError(f"{lost}: score them, or check that scores and protocol belong together")
    if missing.any():
        LOG.warning("%s: left out", lost)
    if surplus.any():
        LOG.warning("%d scored ids are not trials to report on (%s): left out", surplus.sum(), _first(scored[surplus]))
    trials, found = protocol.take(np.flatnonzero(~missing)), scores.take(place[~missing])
    _refuse_other_keys(found, trials)
    return trials.assign(cm_score=found["cm_score"].to_numpy(np.float64)).reset_index(drop=True)


def _refuse_other_keys(scores: pd.DataFrame, protocol: pd.DataFrame) -> None:
    if "key" in scores:
        other = scores["key"].to_numpy() != protocol["key"].to_numpy()
        if other.any():
            raise InputError(f"scores and protocol give {other.sum()} ids different keys ({_first(_ids(protocol)[other])}): mend one")


def _ids(table: pd.DataFrame) -> Ids:
    return table["utterance_id"].to_numpy(dtype=object)


def _without_extension(ids: Ids, whose: str) -> Ids:
    bare = np.array([_strip(name) for name in ids], dtype=object)
    again = pd.Index(bare).duplicated(keep=False)
    if again.any():
        raise InputError(f"{whose} has ids that differ only in their extension ({_first(ids[again])}): rename them")
    return bare


def _strip(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return stem if dot and is_recording(name) else name


def _refuse_duplicates(table: pd.DataFrame, places: list[int] | None, path: Path) -> None:
    again = pd.Index(_ids(table)).duplicated()
    if again.any():
        raise InputError(f"{path}, {_place(places, again)}: {again.sum()} ids come twice ({_first(_ids(table)[again])}): keep one row")


def _place(places: list[int] | None, flags: NDArray[np.bool_]) -> str:
    row = int(np.argmax(flags))
    return f"row {row + 1}" if places is None else f"line {places[row]}"


def _first(ids: Ids) -> str:
    return ", ".join(map(str, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "")


def _read_lines(path: Path) -> list[Line]:
    """Numbered lines that hold anything. Errors: InputError when the file is missing, unreadable, no text or empty."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check its name") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error}): give a text file, plain or gzipped") from error
    lines = [(number, line.strip("\r\n")) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty: give a file with one line a trial")
    return lines
