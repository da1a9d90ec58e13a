"""A diagnosis as a table on the terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from earmark.storage.printable import printable, printable_lines

if TYPE_CHECKING:
    from earmark.doctor.diagnose import Diagnosis

NAMED = 3  # culprits in the stage's error, and in the terminal
STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "off": "dim", "not judged": "dim"}


def show(diagnosis: "Diagnosis", console: Console) -> None:
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
