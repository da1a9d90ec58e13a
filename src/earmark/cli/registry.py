"""Commands of tracking and registry."""

from pathlib import Path
from typing import Annotated, Any

import typer

from earmark import InputError, stages
from earmark import params as settings
from earmark.cli.options import PARAMS, ParamsFile


def sync(params_file: ParamsFile = PARAMS) -> None:
    """Send to MLflow what was logged while its server was away; nothing is lost or sent twice."""
    from rich.console import Console
    from rich.table import Table

    from earmark.registry import sender
    from earmark.registry.journal import PLACE

    with Console(stderr=True).status("sending to MLflow"):
        done = sender.sync(PLACE, settings.load(params_file).tracking)
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


def promote(
    params_file: ParamsFile = PARAMS,
    decision: Annotated[Path, typer.Option(help="the gate's record")] = Path(stages.ARTIFACTS["decision"]) / "decision.json",
    by: Annotated[str | None, typer.Option(help="who promotes; by default user@host")] = None,
) -> None:
    """Make the challenger champion if the gate's record passes and is of these very models; it keeps the last one as `previous`."""
    from earmark.registry import promote as registry

    _print(registry.promote(settings.load(params_file).tracking, decision, by))


def rollback(
    params_file: ParamsFile = PARAMS,
    by: Annotated[str | None, typer.Option(help="who goes back; by default user@host")] = None,
    reason: Annotated[str, typer.Option(help="why, for the record")] = "",
) -> None:
    """Swap champion and previous in the registry."""
    from earmark.registry import promote as registry

    _print(registry.rollback(settings.load(params_file).tracking, by, reason))


def _print(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table, before = Table(show_header=False), record["from"]
    table.add_row("champion", f"version {record['to']['version']}")
    table.add_row("previous", f"version {before['version']}" if before else "none")
    table.add_row("by", record["who"])
    table.add_row("when", record["when"])
    Console().print(table)
