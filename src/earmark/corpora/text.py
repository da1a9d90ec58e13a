"""Lists and tables as people and their programs write them: Excel, LibreOffice, PowerShell, pandas, R, editors of every system."""

import codecs
import csv
import gzip
import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from earmark import InputError

LOG = logging.getLogger(__name__)
MARKS = {  # byte order marks; UTF-32's begins with UTF-16's, so it stands first
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
GZIP = b"\x1f\x8b"
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx and ods, xls
DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "pipes"}
SAVE = "save it as UTF-8 (Excel: `Unicode Text`; a shell: iconv -f CP1252 -t UTF-8)"
NO_VALUES = frozenset(("NA", "N/A", "#N/A", "NaN", "nan", "NULL", "None", "<NA>"))  # how R, pandas and SQL write a missing value


class Line(NamedTuple):
    """A line that holds anything, and its number from 1."""

    number: int
    text: str


class Row(NamedTuple):
    """A row that holds anything, its number from 1 as a spreadsheet counts it, and the number of its first line."""

    number: int
    line: int
    fields: list[str]

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"row {self.number}" + (f" (line {self.line})" if self.line != self.number else "")


class Table(NamedTuple):
    """Cells as text, each row's place for messages."""

    cells: pd.DataFrame
    places: list[str]


def read_text(path: Path) -> str:
    """Text of a file, plain or gzipped: UTF-8, or UTF-16 or UTF-32 with a byte order mark; line ends of all systems become newlines.

    Errors: InputError naming it, and the line, when it is missing, unreadable, in another encoding, or no text.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(GZIP) else content
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check its name and place") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path} ({error}): mend or download it again") from error
    if content.startswith(WORKBOOKS):
        raise InputError(f"cannot read {path}: it is a workbook or archive: save its sheet as text separated by tabs")
    return io.StringIO(_decode(content, path), newline=None).read()  # U+2028, U+0085 and their like end no line


def _decode(content: bytes, path: Path) -> str:
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding.startswith("utf-8") and b"\0" in content:
        number = _line_of(content, content.index(b"\0"))
        raise InputError(f"cannot read {path}: line {number} holds NUL: it is no text, or UTF-16 without its mark: {SAVE}")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8"):
            raise InputError(f"cannot read {path}: its mark says {encoding.upper()}, but {error.reason}: {SAVE}") from error
        byte = error.object[error.start : error.start + 1]
        guess = f"byte 0x{byte.hex()}, which would be {byte.decode('cp1252', 'replace')!r} in Windows-1252"
        raise InputError(f"cannot read {path}: line {_line_of(error.object, error.start)} is not UTF-8 ({guess}): {SAVE}") from error


def _line_of(content: bytes, place: int) -> int:
    return len((content[:place] + b"-").splitlines())  # of bytes: at newlines alone


def read_lines(path: Path) -> list[Line]:
    """Lines that hold anything. Errors: as `read_text`."""
    return [Line(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]


def read_fields(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """Read space-separated lines of exactly `names`. Errors: InputError naming file and line when a line has other fields."""
    rows = []
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != len(names):
            raise InputError(f"{path}, line {number}: {len(fields)} fields instead of {len(names)} ({' '.join(names)}): mend the line")
        rows.append(fields)
    return pd.DataFrame(rows, columns=list(names), dtype="str")


def read_delimited(path: Path, delimiter: str, required: Sequence[str], quotes: bool = True) -> Table:
    """Read a table with a header; cells are stripped; rows may end before columns that are not `required`.

    `quotes` reads `"a, b"` as spreadsheets write it. Columns without a name are left out, and so are empty fields beyond the header.
    Errors: InputError naming the file and row or column: other separators, a column lacking or there twice, rows too short or too long.
    """
    rows = list(split_rows(read_text(path), delimiter, quotes))
    by = DELIMITERS[delimiter]
    if not rows:
        raise InputError(f"{path} is empty: write a header ({', '.join(required)}) and a line an utterance, separated by {by}")
    header, rows = rows[0].fields, rows[1:]
    _check_header(header, delimiter, required, path)
    last = max(header.index(name) for name in required)
    for row in rows:
        if len(row.fields) <= last:
            lacking = ", ".join(name for name in required if header.index(name) >= len(row.fields))
            raise InputError(f"{path}, {row.place}: {len(row.fields)} fields instead of {len(header)}, {lacking} lacking: mend the row")
        if len(row.fields) > len(header):
            named = all(len(row.fields) == len(header) + 1 for row in rows)
            hint = "; R's write.table names rows, and the header does not: row.names=FALSE" if named else f"; separate them by single {by}"
            raise InputError(f"{path}, {row.place}: {len(row.fields)} fields instead of {len(header)}{hint}")
    _say_short(rows, len(header), path)
    padded = [[*row.fields, *[""] * (len(header) - len(row.fields))] for row in rows]
    return Table(_drop_nameless(pd.DataFrame(padded, columns=header, dtype="str"), path), [row.place for row in rows])


def _check_header(header: list[str], delimiter: str, required: Sequence[str], path: Path) -> None:
    if len(header) == 1:
        for other in DELIMITERS.keys() - {delimiter}:
            if set(required) <= {name.strip(' "') for name in header[0].split(other)}:
                raise InputError(f"{path} is separated by {DELIMITERS[other]}: save it with {DELIMITERS[delimiter]} between the columns")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{path} has the column {', '.join(twice)} more than once: keep one, or rename the others")
    require_columns(pd.DataFrame(columns=header), required, path)


def _say_short(rows: list[Row], width: int, path: Path) -> None:
    short = [row.place for row in rows if len(row.fields) < width]
    if short:
        LOG.warning("%s: %d rows end early (%s): their last columns count as empty", path, len(short), _first(short))


def _drop_nameless(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Without columns that have no name: trailing separators, the index of pandas."""
    named = [bool(name) for name in table.columns]
    lost = table.loc[:, [not name for name in named]]
    if lost.ne("").any(axis=None):
        LOG.warning("%s: a column without a name, which pandas writes of its index, is left out", path)
    return table.loc[:, named]


def require_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Refuse a table that lacks a column. Errors: InputError naming `path` and the columns."""
    lacking = [name for name in names if name not in table]
    if lacking:
        raise InputError(f"{path} has no column {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}: add what is lacking")


def say_values_that_mean_none(table: pd.DataFrame, path: Path) -> None:
    """Warn of cells such as NA, which are names like any other here: a speaker NA would be one speaker."""
    for name in table.columns:
        found = table[name].isin(NO_VALUES)
        if found.any():
            said = "%s, column %s: %s (%d rows) is read as a name; leave cells empty, or write -, where nothing is known"
            LOG.warning(said, path, name, table[name][found].iloc[0], found.sum())


def split_rows(text: str, delimiter: str, quotes: bool = True) -> Iterator[Row]:
    """Rows of a table in order, without blank ones; a line `sep=;` of Excel's is skipped.

    A quoted cell may hold separators, doubled quotes and newlines. A quote that is never closed, such as in a transcript, is a sign like
    any other: a cell goes on over lines only as long as none of them is a row by itself, as wide as the first.
    """
    lines = text.split("\n")
    start = number = int(lines[0].startswith("sep="))
    width = 0
    while start < len(lines):
        number += 1
        stop, fields = _split_row(lines, start, delimiter, width) if quotes else (start + 1, lines[start].split(delimiter))
        fields = [field.strip("\ufeff").strip() for field in fields]
        if any(fields):
            while width and len(fields) > width and not fields[-1]:
                fields.pop()
            width = width or len(fields)
            yield Row(number, start + 1, fields)
        start = stop


def _split_row(lines: list[str], start: int, delimiter: str, width: int) -> tuple[int, list[str]]:
    """The line after a row, and its fields."""
    plain = lines[start].split(delimiter)
    width = width or len(plain)
    if '"' not in lines[start]:
        return start + 1, plain
    for stop in range(start + 1, len(lines) + 1):
        more = lines[stop - 1]
        if stop > start + 1 and len(more.split(delimiter)) >= width > 1:
            break
        if stop > start + 1 and '"' not in more:
            continue
        try:
            return stop, _read_csv("\n".join(lines[start:stop]), delimiter)
        except csv.Error as error:
            if "unexpected end of data" not in str(error):
                break
    return start + 1, [_unquote(field, delimiter) for field in plain]


def _read_csv(text: str, delimiter: str) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter == ",", strict=True))


def _unquote(field: str, delimiter: str) -> str:
    """A field without its enclosing quotes; other fields unchanged."""
    try:
        return _read_csv(field, delimiter)[0] if field.startswith('"') else field
    except csv.Error:
        return field


def _first(places: list[str]) -> str:
    return ", ".join(places[:3]) + (", …" if len(places) > 3 else "")
