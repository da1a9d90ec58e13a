"""Commands of tracking and registry."""

from pathlib import Path
from typing import Annotated, Any

import typer

from earmark import InputError, stages
from earmark import params as settings
from earmark.cli.options import PARAMS, ParamsFile


def sync(params_file: ParamsFile = PARAMS) -> None:
    """Publish in MLflow the outputs that were completed while its server was away; none is lost or sent twice."""
    from rich.console import Console
    from rich.table import Table

    from earmark.registry.publish import BUSY, PLACE, SENT
    from earmark.registry.publish import sync as publish_all

    with Console(stderr=True).status("sending to MLflow"):
        done = publish_all(PLACE, settings.load(params_file).tracking)
    if not done:
        Console().print("nothing to send")
        return
    table = Table("output", "what became of it")
    for name, outcome in done.items():
        table.add_row(name, outcome)
    Console().print(table)
    failed = [name for name, outcome in done.items() if outcome not in (SENT, BUSY)]
    if failed:
        raise InputError(f"{len(failed)} of {len(done)} outputs could not be sent; they are kept in {PLACE}")


def promote(
    params_file: ParamsFile = PARAMS,
    decision: Annotated[Path, typer.Option(help="the gate's record")] = Path(stages.ARTIFACTS["decision"]) / "decision.json",
    by: Annotated[str | None, typer.Option(help="who promotes; by default user@host")] = None,
) -> None:
    """Make the gate's version champion if its record passes and the champion is still the one compared with, which becomes `previous`."""
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
