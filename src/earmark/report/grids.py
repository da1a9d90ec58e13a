"""Tables as a page shows them: cells of text, made from metrics and tables."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

SHOWN = 15  # rows that stand open; the others are folded


@dataclass(frozen=True)
class Cell:
    """Text, what stands smaller below it, and the metric that it shows."""

    text: str
    below: str = ""
    metric: str = ""
    number: bool = True
    heat: float | None = None  # 0 to 1: how warm its ground is
    marked: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: headings and rows, of which some are folded."""

    columns: list[Cell]
    rows: list[list[Cell]]
    folded: list[list[Cell]] = field(default_factory=list)

    @classmethod
    def of(cls, columns: list[Cell], rows: list[list[Cell]], shown: int = SHOWN) -> "Grid":
        """Fold what is beyond the first rows, unless that is hardly anything."""
        shown = len(rows) if len(rows) <= shown + 3 else shown
        return cls(columns, rows[:shown], rows[shown:])


@dataclass(frozen=True)
class Figure:
    """How a figure is called, read and printed."""

    name: str
    meaning: str
    show: Callable[[float], str]


def percent(value: float) -> str:
    """.0218 → 2.18 %, unbroken."""
    return f"{_percent(value)}\N{NO-BREAK SPACE}%"


def _percent(value: float) -> str:
    return f"{100 * value:.{1 if abs(value) >= 0.0995 else 2}f}"


def cost(value: float) -> str:
    """Costs, bits, areas."""
    return f"{value:.3f}"


def shown(figure: Figure, value: Any) -> str:
    """A value as printed; a dash where there is none."""
    return "–" if value is None or pd.isna(value) else figure.show(float(value))


def interval(figure: Figure, low: Any, high: Any) -> str:
    """Both ends, or nothing."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    first = _percent(low) if figure.show is percent else figure.show(low)
    return f"{first}\N{NO-BREAK SPACE}–\N{NO-BREAK SPACE}{figure.show(high)}"


def upright(metrics: Mapping[str, float], figures: Mapping[str, Figure], columns: Mapping[str, str]) -> Grid:
    """A row a figure, a column an entry (title → prefix of its metrics), with intervals; figures that nobody has are left out."""
    rows = []
    for name, figure in figures.items():
        if any(prefix + name in metrics for prefix in columns.values()):
            cells = [_metric(metrics, figure, prefix + name) for prefix in columns.values()]
            rows.append([Cell(figure.name, figure.meaning, number=False), *cells])
    return Grid([Cell("", number=False), *(Cell(title) for title in columns)], rows)


def _metric(metrics: Mapping[str, float], figure: Figure, name: str) -> Cell:
    value, low, high = (metrics.get(name + end) for end in ("", "_low", "_high"))
    return Cell(shown(figure, value), interval(figure, low, high), name if value is not None else "")


def across(table: pd.DataFrame, words: Mapping[str, str], figures: Mapping[str, Figure]) -> Grid:
    """A table row by row: `words` are columns and their titles; the columns `figures` are printed as fractions, other numbers as counts."""
    columns = {name: title for name, title in words.items() if name in table}
    number = {name: name in figures or table[name].dtype.kind in "iuf" for name in columns}
    rows = [
        [Cell(shown(figures[name], row[name]) if name in figures else plain(row[name]), number=number[name]) for name in columns]
        for row in table.to_dict("records")
    ]
    return Grid.of([Cell(title, number=number[name]) for name, title in columns.items()], rows)


def plain(value: Any) -> str:
    """Words as they are, counts with thousands parted, nothing where there is nothing."""
    if isinstance(value, str | bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return "" if pd.isna(value) else f"{value:,.0f}" if float(value).is_integer() else f"{value:.3f}"


def pairs(items: Iterable[tuple[str, Any]]) -> Grid:
    """Names and values."""
    return Grid([], [[Cell(name, number=False), Cell(str(value), number=False)] for name, value in items])


def heat(table: pd.DataFrame, name: Callable[[Any], str], clean: float) -> Grid:
    """A row a degradation, a cell a level, warmer the further its EER lies above `clean`; the worst is marked."""
    top, worst = max(float(table["eer"].max()), clean + 1e-9), table["eer"].idxmax()
    rows: list[list[Cell]] = []
    for degradation, part in table.groupby("degradation", sort=False):
        cells = [Cell(name(degradation), number=False)]
        for place, row in part.iterrows():
            risen = None if pd.isna(row["eer"]) else float(min(max((row["eer"] - clean) / (top - clean), 0), 1))
            text = "too few" if risen is None else percent(row["eer"])
            cells.append(Cell(text, name(row["level"]), heat=risen, marked=place == worst))
        rows.append(cells)
    return Grid([], _fill(rows))


def _fill(rows: Sequence[list[Cell]]) -> list[list[Cell]]:
    width = max(map(len, rows), default=0)
    return [[*row, *[Cell("")] * (width - len(row))] for row in rows]
