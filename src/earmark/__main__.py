"""The command line: one command a stage, and tools around them. Heavy code is imported by the command that needs it."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from earmark import InputError, params, stages
from earmark.storage.printable import log_to_stderr, printable_lines

app = typer.Typer(
    name="earmark",
    help="Tells whether speech is bona fide or spoofed, and which system made it. Stages read params.yaml; `dvc repro` runs them all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PARAMS = Path("params.yaml")
ParamsFile = Annotated[Path, typer.Option("--params", help="settings of the run")]
ENROLLED = Path("artifacts/enrolled.safetensors")
Shard = Annotated[str, typer.Option("--shard", help="i/n: the i-th of n workers that share this stage")]

Member = Annotated[str, typer.Option("--member", help="train this member of the tracer alone; other workers train the others")]


def _unless_absent(file: Path) -> Path | None:
    """The settings to read; none where the usual file is not there and nobody named another."""
    return None if file == PARAMS and not file.exists() else file


def _find_preset(name: str) -> Path:
    """A preset by name, or an overlay by path."""
    if Path(name).suffix:
        return Path(name)
    known = sorted(path.stem for path in Path("presets").glob("*.yaml"))
    if name not in known:
        there = f"presets/ holds {', '.join(known)}" if known else "there is no folder presets/ here: name a file"
        raise InputError(f"--preset {name}: {there}")
    return Path("presets") / f"{name}.yaml"


def _add_stage(stage: stages.Stage) -> None:
    def plain(params_file: ParamsFile = PARAMS) -> None:
        stages.run(stage.name, params.load(params_file))

    def sharded(params_file: ParamsFile = PARAMS, shard: Shard = "1/1") -> None:
        stages.run(stage.name, params.load(params_file), shard=shard)

    def by_member(params_file: ParamsFile = PARAMS, member: Member = "") -> None:
        stages.run(stage.name, params.load(params_file), member=member)

    command = {None: plain, "shard": sharded, "member": by_member}[stage.option]
    app.command(stage.name, help=stage.summary, rich_help_panel="Stages")(command)


for _stage in stages.STAGES.values():
    if _stage.name not in ("download", "doctor"):  # they have commands of their own below
        _add_stage(_stage)


@app.command(rich_help_panel="Stages")
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
    """Fetch corpora and weights, verified and unpacked, each into a folder of its own; a killed download goes on where it was."""
    from earmark.cli import download as command

    if list_:
        command.show()
        return
    if not sources and not weights:
        if to:
            raise InputError("--to belongs to names and addresses: earmark download NAME --to PLACE; the stage writes data/")
        stages.run("download", params.load(params_file))
        return
    settings = params.load(_unless_absent(params_file)).download
    command.download(sources or [], weights or [], to, settings, Path(stages.ARTIFACTS["data"]))


@app.command(rich_help_panel="Stages")
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
        stages.run("doctor", params.load(params_file or PARAMS))
        return
    from earmark.cli.doctor import check_folder

    if not check_folder(corpus, params_file, out, json):
        raise typer.Exit(1)


@app.command("params")
def show_params(
    params_file: ParamsFile = PARAMS,
    preset: Annotated[list[str] | None, typer.Option(help="overlay from presets/, by name or path; may be repeated")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value, laid over the presets; may be repeated")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="write the resulting params file here instead of printing the table")
    ] = None,
) -> None:
    """Print every setting with its value, provenance and description, or write the params file that a run uses."""
    settings = params.load(_unless_absent(params_file), [_find_preset(name) for name in preset or []], set_)
    if output:
        from earmark.storage.files import complete

        with complete(output) as aside:
            aside.write_text(params.dump(settings))
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for key, value, provenance, description in params.describe(settings):
        console.print(Text.assemble((key, "bold"), f" = {params.spell(value)}  ", (f"[{provenance}]", "dim")), soft_wrap=True)
        console.print(Padding(Text(description), (0, 0, 0, 4), expand=False))


@app.command()
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


@app.command()
def copysynthesis(
    bonafide: Annotated[Path, typer.Option(help="folder of recordings")],
    out: Annotated[Path, typer.Option(help="new folder for the labelled corpus")],
    systems: Annotated[list[str] | None, typer.Option("--system", help="system to use; may be repeated; by default all")] = None,
    seed: int = 688,
) -> None:
    """Turn a folder of recordings into a labelled training corpus: the recordings and their copy-synthesis by classical systems."""
    from earmark.copies.copysynthesis import synthesize_folder

    synthesize_folder(bonafide, out, systems=systems, seed=seed)


@app.command()
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
    from earmark.verdict.judge import load_judge

    if schema:
        print(command.schema())
        return
    if not inputs:
        raise InputError("say what to check: earmark check FILE, a folder, or - for stdin")
    compute = params.parse({"compute": {"device": device}}, "--device").compute
    tracking = params.load(_unless_absent(params_file)).tracking
    if enrolled is None and model == stages.ARTIFACTS["model"] and ENROLLED.exists():
        enrolled = ENROLLED
    judge = load_judge(command.find_model(model, tracking), model, enrolled, compute, prior)
    raise typer.Exit(command.check(judge, inputs, command.Options(json, html, exit_code, track, channel)))


@app.command()
def enrol(
    clips: Annotated[Path | None, typer.Argument(help="folder of at least 5 clips of the source")] = None,
    source: Annotated[str | None, typer.Option(help="name of the source that the clips are of")] = None,
    list_: Annotated[bool, typer.Option("--list", help="print the enrolled sources")] = False,
    remove: Annotated[str | None, typer.Option(help="name of an enrolled source to take out again")] = None,
    params_file: ParamsFile = PARAMS,
    file: Annotated[Path, typer.Option(help="file of the enrolled sources")] = ENROLLED,
) -> None:
    """Teach the fitted ensemble a source from a few clips, without training: earmark enrol --source NAME FOLDER."""
    from earmark.model.enrol import command

    places = (Path(stages.ARTIFACTS[key]) for key in ("protocol", "members", "answers"))
    command(params.load(params_file), file, *places, clips=clips, source=source, show=list_, remove=remove)


@app.command()
def sync(params_file: ParamsFile = PARAMS) -> None:
    """Send to MLflow what was logged while its server was away; nothing is lost or sent twice."""
    from earmark.cli.registry import sync

    sync(params.load(params_file).tracking)


@app.command()
def promote(
    params_file: ParamsFile = PARAMS,
    decision: Annotated[Path, typer.Option(help="the gate's record")] = Path(stages.ARTIFACTS["decision"]) / "decision.json",
    by: Annotated[str | None, typer.Option(help="who promotes; by default user@host")] = None,
) -> None:
    """Make the challenger champion if the gate's record passes and is of these very models; it keeps the last one as `previous`."""
    from earmark.cli.registry import promote

    promote(params.load(params_file).tracking, decision, by)


@app.command()
def rollback(
    params_file: ParamsFile = PARAMS,
    by: Annotated[str | None, typer.Option(help="who goes back; by default user@host")] = None,
    reason: Annotated[str, typer.Option(help="why, for the record")] = "",
) -> None:
    """Swap champion and previous in the registry."""
    from earmark.cli.registry import rollback

    rollback(params.load(params_file).tracking, by, reason)


@app.command()
def submit(
    pipeline: Annotated[Path | None, typer.Argument(help="compiled pipeline; python -m pipelines.compile writes one")] = None,
    endpoint: Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="address of the Kubeflow Pipelines server")] = "",
    namespace: Annotated[str | None, typer.Option(help="where runs go, on a server of many namespaces")] = None,
    experiment: Annotated[str, typer.Option(help="experiment to put the run in; made when there is none")] = "earmark",
    run_name: Annotated[str | None, typer.Option(help="default: the pipeline and the time")] = None,
    service_account: Annotated[str | None, typer.Option(help="that the run's pods have; default: the server's")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, laid over the compiled settings; repeatable")] = None,
    argument: Annotated[list[str] | None, typer.Option(help="name=value, a whole parameter of the pipeline; repeatable")] = None,
    recordings: Annotated[str | None, typer.Option(help="scoring: address of the recordings, as of earmark download")] = None,
    follow: Annotated[str | None, typer.Option(help="id of a run that is there: follow it, start nothing", metavar="RUN_ID")] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="end as soon as the run is started")] = False,
    every: Annotated[float, typer.Option(help="seconds between two looks at the run", min=0.01)] = 5,
) -> None:
    """Send a compiled pipeline to Kubeflow and follow its run. Exit code 0: it succeeded; 1: it failed; 130: no longer followed."""
    from earmark.cli.submit import Order, submit

    if not endpoint:
        raise InputError("say where Kubeflow Pipelines is: --endpoint https://… or KF_PIPELINES_ENDPOINT")
    given = (namespace, experiment, run_name, service_account, tuple(argument or ()), tuple(set_ or ()), recordings)
    order = Order(pipeline, *given) if pipeline else None
    raise typer.Exit(submit(endpoint, order, follow, watch=not no_follow, seconds=every))


@app.command()
def voices(out: Annotated[Path, typer.Argument(help="folder to write")]) -> None:
    """Speak the demo's reference voices: a synthesiser's, standing in for recordings."""
    from earmark.copies.voices import speak

    speak(out)


def main() -> None:
    """Entry point: what the user can mend becomes one line on stderr and exit code 2."""
    # torch's threads wait for each other in a spin of microseconds, then asleep: longer ones cost more than all that is computed where
    # other programs run, and to sleep at once costs more where none do
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    log_to_stderr()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app()
    except InputError as error:
        print(printable_lines(f"error: {error}"), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
