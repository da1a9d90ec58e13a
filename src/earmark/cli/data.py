"""Commands that fetch, check and make recordings."""

from pathlib import Path
from typing import Annotated

import typer

from earmark import InputError, stages
from earmark import params as settings
from earmark.cli.options import PARAMS, ParamsFile, unless_absent


def download(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="names of --list, https://, s3://, hf://, dvc://, paths; without any the stage", metavar="NAME|URI"),
    ] = None,
    to: Annotated[str | None, typer.Option(help="folder to fetch into (default: data, weights), or s3://bucket/prefix to copy to")] = None,
    weights: Annotated[list[str] | None, typer.Option(help="pretrained weights of --list, made safetensors; may be repeated")] = None,
    list_: Annotated[bool, typer.Option("--list", help="print what is known by name")] = False,
    params_file: ParamsFile = PARAMS,
) -> None:
    """Fetch corpora and weights, verified and unpacked, each into a folder of its own; an interrupted download resumes."""
    from earmark.cli import download as command

    if list_:
        command.show()
        return
    if not sources and not weights:
        if to:
            raise InputError("--to belongs to names and addresses: earmark download NAME --to PLACE; the stage writes data/")
        stages.run("download", settings.load(params_file))
        return
    limits = settings.load(unless_absent(params_file)).download
    command.download(sources or [], weights or [], to, limits, Path(stages.ARTIFACTS["data"]))


def doctor(
    corpus: Annotated[Path | None, typer.Argument(help="folder corpus to check; without it the stage, on the protocol of the run")] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write the report to: HTML, JSON, CSVs")] = None,
    json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", help="severities and thresholds; by default the stage's are params.yaml, CORPUS's built in"),
    ] = None,
) -> None:
    """Check corpora for faults, leaks and cheap cues; exit code 1 when a check of severity error fails."""
    if corpus is None:
        if out or json:
            raise InputError("--out and --json belong to a corpus: earmark doctor CORPUS; the stage writes artifacts/diagnosis")
        stages.run("doctor", settings.load(params_file or PARAMS))
        return
    from earmark.cli.doctor import check_folder

    if not check_folder(corpus, params_file, out, json):
        raise typer.Exit(1)


def copysynthesis(
    bonafide: Annotated[Path, typer.Option(help="folder of recordings")],
    out: Annotated[Path, typer.Option(help="new folder for the labelled corpus")],
    systems: Annotated[list[str] | None, typer.Option("--system", help="system to use; may be repeated; by default all")] = None,
    seed: int = 688,
) -> None:
    """Turn a folder of recordings into a labelled training corpus: the recordings and their copy-synthesis by classical systems."""
    from earmark.copies.copysynthesis import synthesize_folder

    synthesize_folder(bonafide, out, systems=systems, seed=seed)


def voices(out: Annotated[Path, typer.Argument(help="folder to write")]) -> None:
    """Speak the demo's reference voices: a synthesiser's, standing in for recordings."""
    from earmark.copies.voices import speak

    speak(out)
