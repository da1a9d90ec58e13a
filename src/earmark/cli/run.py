"""Commands of a run: its settings, and one for each stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from earmark import params as settings
from earmark import stages
from earmark.cli.options import PARAMS, Assignments, ParamsFile, Presets, load_settings

Shard = Annotated[str, typer.Option("--shard", help="i/n: the i-th of n workers that share this stage")]
Member = Annotated[str, typer.Option("--member", help="train this member alone; other workers train the others")]


def params(
    params_file: ParamsFile = PARAMS,
    preset: Presets = None,
    set_: Assignments = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="write the resulting params file here instead of printing the table")
    ] = None,
) -> None:
    """Print every setting with its value, provenance and description, or write the params file that a run uses."""
    found = load_settings(params_file, preset, set_)
    if output:
        from earmark.storage.files import complete

        with complete(output) as aside:
            aside.write_text(settings.dump_changes(found))
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for key, value, provenance, description in settings.describe(found):
        console.print(Text.assemble((key, "bold"), f" = {settings.spell(value)}  ", (f"[{provenance}]", "dim")), soft_wrap=True)
        console.print(Padding(Text(description), (0, 0, 0, 4), expand=False))


def stage_command(stage: stages.Stage) -> Callable[..., None]:
    """The command that runs a stage."""

    def plain(params_file: ParamsFile = PARAMS) -> None:
        stages.run(stage.name, settings.load(params_file))

    def sharded(params_file: ParamsFile = PARAMS, shard: Shard = "1/1") -> None:
        stages.run(stage.name, settings.load(params_file), shard=shard)

    def by_member(params_file: ParamsFile = PARAMS, member: Member = "") -> None:
        stages.run(stage.name, settings.load(params_file), member=member)

    return {None: plain, "shard": sharded, "member": by_member}[stage.option]
