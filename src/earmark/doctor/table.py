"""A diagnosis as a table on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from earmark.doctor.findings import Finding
from earmark.storage.printable import printable, printable_lines

NAMED = 3  # culprits in the stage's error, and in the terminal
STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "off": "dim", "not judged": "dim"}


def show(findings: list[Finding], title: str, console: Console) -> None:
    """Print a row a check: how it went, how much was found, and what to do."""
    table = Table("check", "severity", "result", "found", "what", title=title)
    for finding in findings:
        style = STYLES[finding.status]
        table.add_row(
            finding.check, finding.severity, f"[{style}]{finding.status}[/]", finding.found or "–", Text(printable_lines(finding.summary))
        )
    console.print(table)
    for finding in findings:
        named = [finding.first(NAMED)] if finding.count and finding.check != "cheap_cues" else []
        for line in named + finding.advice.splitlines():
            console.print(f"{finding.check}: {printable(line)}", markup=False, highlight=False)
