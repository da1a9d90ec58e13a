"""Commands of a run: its settings, and one for each stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from earmark import InputError, stages
from earmark import params as settings
from earmark.cli.options import PARAMS, ParamsFile, unless_absent

Shard = Annotated[str, typer.Option("--shard", help="i/n: the i-th of n workers that share this stage")]
Member = Annotated[str, typer.Option("--member", help="train this member of the tracer alone; other workers train the others")]


def params(
    params_file: ParamsFile = PARAMS,
    preset: Annotated[list[str] | None, typer.Option(help="overlay from presets/, by name or path; may be repeated")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value, laid over the presets; may be repeated")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="write the resulting params file here instead of printing the table")
    ] = None,
) -> None:
    """Print every setting with its value, provenance and description, or write the params file that a run uses."""
    found = settings.load(unless_absent(params_file), [_find_preset(name) for name in preset or []], set_)
    if output:
        from earmark.storage.files import complete

        with complete(output) as aside:
            aside.write_text(settings.dump(found))
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for key, value, provenance, description in settings.describe(found):
        console.print(Text.assemble((key, "bold"), f" = {settings.spell(value)}  ", (f"[{provenance}]", "dim")), soft_wrap=True)
        console.print(Padding(Text(description), (0, 0, 0, 4), expand=False))


def _find_preset(name: str) -> Path:
    """A preset by name, or an overlay by path."""
    if Path(name).suffix:
        return Path(name)
    known = sorted(path.stem for path in Path("presets").glob("*.yaml"))
    if name not in known:
        there = f"presets/ holds {', '.join(known)}" if known else "there is no folder presets/ here: name a file"
        raise InputError(f"--preset {name}: {there}")
    return Path("presets") / f"{name}.yaml"


def stage_command(stage: stages.Stage) -> Callable[..., None]:
    """The command that runs a stage."""

    def plain(params_file: ParamsFile = PARAMS) -> None:
        stages.run(stage.name, settings.load(params_file))

    def sharded(params_file: ParamsFile = PARAMS, shard: Shard = "1/1") -> None:
        stages.run(stage.name, settings.load(params_file), shard=shard)

    def by_member(params_file: ParamsFile = PARAMS, member: Member = "") -> None:
        stages.run(stage.name, settings.load(params_file), member=member)

    return {None: plain, "shard": sharded, "member": by_member}[stage.option]
