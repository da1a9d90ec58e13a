"""The command `earmark doctor CORPUS`, and the table that both it and the stage print."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from earmark import InputError
from earmark import params as settings
from earmark.doctor.diagnose import NAMED, Diagnosis, diagnose, read_folder, write_report
from earmark.params import Params
from earmark.storage.printable import printable, printable_lines

STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "off": "dim", "not judged": "dim"}


def check_folder(corpus: Path, params_file: Path | None, out: Path | None, as_json: bool) -> bool:
    """Diagnose a folder corpus, print the table or JSON, write the report if asked; return whether no check failed."""
    params = settings.load(params_file) if params_file else Params()
    if out and out.exists() and not (out / "report.json").exists():
        raise InputError(f"{out} holds something else than a report: name a new folder for --out")
    diagnosis = diagnose(read_folder(corpus, params.trials), params.doctor, params.trials, params.decoding)
    if out:
        write_report(diagnosis, out)
    if as_json:
        print(json.dumps(diagnosis.to_json(), indent=2, allow_nan=False))
    else:
        show(diagnosis, Console())
        if not out:
            print("--out FOLDER writes the report: every file, with what was found in it, as a page, JSON and CSVs")
    return not diagnosis.failed


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print a row a check: how it went, how much was found, and what to do."""
    table = Table("check", "severity", "result", "found", "what", title=f"{len(diagnosis.table)} utterances: {diagnosis.status}")
    for finding in diagnosis.findings:
        style = STYLES[finding.status]
        table.add_row(
            finding.check, finding.severity, f"[{style}]{finding.status}[/]", finding.found or "–", Text(printable_lines(finding.summary))
        )
    console.print(table)
    for finding in diagnosis.findings:
        named = [finding.first(NAMED)] if finding.count and finding.check != "cheap_cues" else []
        for line in named + finding.advice.splitlines():
            console.print(f"{finding.check}: {printable(line)}", markup=False, highlight=False)
