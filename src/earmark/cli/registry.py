"""What the command line prints of tracking and registry."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry import promote as promotion
from earmark.registry import sender
from earmark.registry.journal import PLACE


def sync(tracking: TrackingParams) -> None:
    """Send all journals, and say what became of each. Errors: InputError when one could not be sent."""
    with Console(stderr=True).status("sending to MLflow"):
        done = sender.sync(PLACE, tracking)
    rows = [*((name, "sent") for name in done.sent), *((name, "still running") for name in done.busy), *done.failed.items()]
    if not rows:
        Console().print("nothing to send")
        return
    table = Table("journal", "what became of it")
    for name, outcome in rows:
        table.add_row(name, outcome)
    Console().print(table)
    if done.failed:
        raise InputError(f"{len(done.failed)} of {len(rows)} journals could not be sent; they are kept in {PLACE}")


def promote(tracking: TrackingParams, decision: Path, by: str | None) -> None:
    """Promote, and print the record."""
    _print(promotion.promote(tracking, decision, by))


def rollback(tracking: TrackingParams, by: str | None, reason: str) -> None:
    """Roll back, and print the record."""
    _print(promotion.rollback(tracking, by, reason))


def _print(record: dict[str, Any]) -> None:
    table, before = Table(show_header=False), record["from"]
    table.add_row("champion", f"version {record['to']['version']}")
    table.add_row("previous", f"version {before['version']}" if before else "none")
    table.add_row("by", record["who"])
    table.add_row("when", record["when"])
    Console().print(table)
