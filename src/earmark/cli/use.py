"""Commands that use a model, or anybody's scores."""

from pathlib import Path
from typing import Annotated

import typer

from earmark import InputError, stages
from earmark import params as settings
from earmark.cli.options import ENROLLED, PARAMS, ParamsFile, unless_absent


def check(
    inputs: Annotated[list[str] | None, typer.Argument(help="media files, folders, or - for stdin", metavar="FILE|DIR|-")] = None,
    model: Annotated[
        str, typer.Option(help="folder of a model, models:/earmark@champion, or runs:/ID/earmark of a run of stage register")
    ] = stages.ARTIFACTS["model"],
    json: Annotated[bool, typer.Option("--json", help="print a line of JSON a file; its form: docs/verdict.schema.json")] = False,
    html: Annotated[Path | None, typer.Option(help="write evidence reports: a page x.html, or a folder of one a file")] = None,
    prior: Annotated[float | None, typer.Option(help="probability of spoof before listening; default: the model's")] = None,
    track: Annotated[int | None, typer.Option(help="sound track to judge, from 1 on; default: the first that is not silent", min=1)] = None,
    channel: Annotated[
        int | None, typer.Option(help="channel to judge, from 1 on; default: all as one where they are alike, else each by itself", min=1)
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit with 10 on a spoof, else 11 on an inconclusive file")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    enrolled: Annotated[Path | None, typer.Option(help=f"file of enrolled sources; default model: {ENROLLED}")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of --json and end")] = False,
    params_file: Annotated[Path, typer.Option("--params", help="says where MLflow is, for a model that lies there")] = PARAMS,
) -> None:
    """Judge recordings: bona fide, spoof or inconclusive, how sure, and from which source. Exit code 3: some were not judged."""
    from earmark.cli import check as command
    from earmark.registry.fetch import folder_of
    from earmark.verdict.judge import load_judge

    if schema:
        print(command.schema())
        return
    if not inputs:
        raise InputError("say what to check: earmark check FILE, a folder, or - for stdin")
    compute = settings.parse({"compute": {"device": device}}, "--device").compute
    tracking = settings.load(unless_absent(params_file)).tracking
    if enrolled is None and model == stages.ARTIFACTS["model"] and ENROLLED.exists():
        enrolled = ENROLLED
    judge = load_judge(folder_of(model, tracking), model, enrolled, compute, prior)
    raise typer.Exit(command.check(judge, inputs, command.Options(json, html, exit_code, track, channel)))


def enrol(
    clips: Annotated[Path | None, typer.Argument(help="folder of at least 5 clips of the source")] = None,
    source: Annotated[str | None, typer.Option(help="name of the source that the clips are of")] = None,
    list_: Annotated[bool, typer.Option("--list", help="print the enrolled sources")] = False,
    remove: Annotated[str | None, typer.Option(help="name of an enrolled source to take out again")] = None,
    params_file: ParamsFile = PARAMS,
    file: Annotated[Path, typer.Option(help="file of the enrolled sources")] = ENROLLED,
) -> None:
    """Teach the fitted ensemble a source from a few clips, without training: earmark enrol --source NAME FOLDER."""
    from earmark.cli.enrol import command

    places = (Path(stages.ARTIFACTS[key]) for key in ("protocol", "members", "answers"))
    command(settings.load(params_file), file, *places, clips=clips, source=source, show=list_, remove=remove)


def metrics(
    scores: Annotated[
        Path,
        typer.Option(
            help="lines `id score` or `id attack key score`, a table with tabs, commas or semicolons, a log of NII's (.gz too), or an "
            "evaluation's trials.parquet; ids may be paths; higher = more bona fide"
        ),
    ],
    protocol: Annotated[
        Path | None, typer.Option(help="trials' keys: ASVspoof, In-the-Wild, protocol.tsv or .parquet; not needed if scores carry keys")
    ] = None,
    asv: Annotated[Path | None, typer.Option(help="the organisers' speaker verification scores: adds min t-DCF")] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON: fractions and bits")] = False,
    negate: Annotated[bool, typer.Option("--negate", help="the file's higher scores mean more spoofed: turn them round")] = False,
    column: Annotated[
        str | None,
        typer.Option(help="the column that is the score, where there are several numbers: its name or number; -1: the last"),
    ] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="go on when trials of the protocol have no score")] = False,
) -> None:
    """EER, minDCF, actDCF, Cllr and min t-DCF of anybody's score file, in all and per attack."""
    from earmark.cli.metrics import run

    run(scores, protocol, asv, json, allow_missing=allow_missing, negate=negate, column=column)
