"""The command `earmark metrics`: figures of anybody's score file."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from earmark import InputError
from earmark.evaluation.detection import DetectionReport, Settings, detection_report
from earmark.evaluation.scorefile import protocol_of, read_asv_scores, read_protocol, read_scores
from earmark.metrics.detection import AsvScores
from earmark.storage.printable import printable

PERCENT = ("eer", "eer_low", "eer_high")


def run(
    scores: Path,
    protocol: Path | None,
    asv: Path | None,
    as_json: bool,
    allow_missing: bool = False,
    negate: bool = False,
    column: str | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> None:
    """Print the figures of a score file, as tables (EER in percent) or as JSON (fractions, all digits).

    `negate` is for files where a higher score is more spoofed, `column` says which column is the score.
    Errors: InputError naming file, line or ids.
    """
    table = read_scores(scores, negate, column)
    trials = read_protocol(protocol) if protocol else protocol_of(table, scores)
    settings = Settings(resamples=resamples, seed=seed, max_missing=1.0 if allow_missing else 0.0)
    report = detection_report(table, trials, _asv_of(trials, asv), settings)
    if as_json:
        print(json.dumps(to_json(report), indent=2, allow_nan=False))
    else:
        _print(report, settings.min_trials)


def _asv_of(trials: pd.DataFrame, asv: Path | None) -> dict[str, AsvScores] | None:
    if asv is None:
        return None
    corpora = list(trials["corpus"].unique())
    if len(corpora) > 1:
        names = ", ".join(map(str, corpora))
        raise InputError(f"{asv} belongs to one corpus, the protocol has {names}: give a protocol of that corpus alone")
    return {corpora[0]: read_asv_scores(asv)}


def to_json(report: DetectionReport) -> dict[str, Any]:
    """Report as plain values; an EER of too few trials is null."""
    tables = {name: [_plain(row) for row in table.to_dict("records")] for name, table in report.tables.items()}
    return {"metrics": report.metrics, **tables, "warnings": report.warnings}


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(name): None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _print(report: DetectionReport, min_trials: int) -> None:
    console = Console()
    for name, rows in report.tables.items():
        if name == "per_source" and rows.equals(report.tables.get("per_attack")):
            continue  # a corpus whose attacks are its sources
        # the headline has few rows and many figures: it stands upright to fit a terminal
        console.print(_upright(rows) if name == "headline" else _across(rows, name.replace("_", " ")))
    if any(rows["eer"].isna().any() for rows in report.tables.values()):
        console.print(f"–: fewer than {min_trials} trials of bona fide or of spoof there, too few for a figure", style="dim")
    for warning in report.warnings:
        console.print(f"WARNING: {warning}", style="bold red")


def _upright(rows: pd.DataFrame) -> Table:
    records = rows.to_dict("records")
    table = Table("figure", *(f"{record['corpus']}\n{record['trials']}" for record in records), title="headline")
    for column in map(str, rows.columns[2:]):
        table.add_row(_title(column), *(_cell(column, record[column]) for record in records))
    return table


def _across(rows: pd.DataFrame, title: str) -> Table:
    table = Table(*(_title(str(column)) for column in rows.columns), title=title)
    for record in rows.to_dict("records"):
        table.add_row(*(_cell(str(column), value) for column, value in record.items()))
    return table


def _title(column: str) -> str:
    return f"{column} %" if column in PERCENT else column


def _cell(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return escape(printable(str(value)))
    if math.isnan(value):
        return "–"
    return f"{100 * value:.4f}" if column in PERCENT else f"{value:.6f}"
