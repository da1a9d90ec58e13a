"""What a check found, and how grave that is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from earmark.corpora.protocol import SPLITS

SHOWN = 20  # culprits in report.json and report.html; the CSV has all


@dataclass(frozen=True)
class Finding:
    """Outcome of a check: `status` is pass, warn, fail, off or "not judged"; `count` things are wrong, a row of `culprits` for each."""

    check: str
    severity: str
    status: str
    count: int = 0
    unit: str = "files"
    summary: str = ""
    advice: str = ""
    culprits: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def found(self) -> str:
        """How much: "1 file"; nothing when nothing is wrong."""
        return f"{self.count} {self.unit[:-1] if self.count == 1 else self.unit}" if self.count else ""

    def first(self, number: int) -> str:
        """The first culprits, by what tells them apart."""
        column = next((name for name in ("utterance_id", "speaker", "group", "cue") if name in self.culprits), None)
        names = [str(name) for name in self.culprits[column].drop_duplicates()] if column else []
        return ", ".join(names[:number]) + (" …" if len(names) > number else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values, culprits capped."""
        plain = {name: getattr(self, name) for name in ("check", "severity", "status", "count", "unit", "found", "summary", "advice")}
        return plain | {"culprits": records(self.culprits.head(SHOWN)), "culprits_total": len(self.culprits)}


def judge(
    check: str, severity: str, culprits: pd.DataFrame, what: str, advice: str, count: int | None = None, unit: str = "files",
    tolerated: bool = False,
) -> Finding:  # fmt: skip
    """Finding of a check that ran: what is found of severity error fails, or warns where so little is `tolerated`."""
    number = len(culprits) if count is None else count
    if not number:
        return Finding(check, severity, "pass", unit=unit)
    status = "fail" if severity == "error" and not tolerated else "warn"
    return Finding(check, severity, status, number, unit, what, advice, culprits.reset_index(drop=True))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; missing ones are None."""
    return [{str(name): None if pd.isna(value) else value for name, value in row.items()} for row in table.to_dict("records")]


def name_splits(splits: Sequence[str]) -> str:
    """Splits in their usual order: "train and eval"."""
    return " and ".join(name for name in SPLITS if name in set(splits))
