"""`earmark check`: files, folders or stdin in; a table, JSON or pages out."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from earmark import InputError, bundle
from earmark.calibration import NAMES
from earmark.corpora.protocol import AUDIO_SUFFIXES
from earmark.features.recording import open_recording
from earmark.files import complete
from earmark.params import ComputeParams, TrackingParams
from earmark.report.pages import clock
from earmark.tracing import ensemble as tracing
from earmark.tracing.enrolment import Enrolled
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.judge import Judge, Show, describe_model

STDIN = "-"
SPOOF, INCONCLUSIVE, UNREADABLE = 10, 11, 3  # exit codes; 2 is a wrong call, 0 all judged
STYLES = {"bonafide": "green", "spoof": "bold red", "inconclusive": "yellow"}
Found = Verdict | Failure


@dataclass(frozen=True)
class Options:
    """How to check and what to write."""

    json: bool = False
    html: Path | None = None
    exit_code: bool = False


def find_model(model: str, tracking: TrackingParams) -> Path:
    """A model's folder; one of MLflow's is fetched first."""
    from earmark.registry import fetch

    return fetch.fetch(tracking, model) if fetch.is_address(model) else Path(model)


def load_judge(folder: Path, place: str, enrolled: Path | None, compute: ComputeParams, prior: float | None) -> Judge:
    """The model and the sources enrolled with its ensemble. Errors: InputError as `bundle.load`."""
    if prior is not None and not 0 < prior < 1:
        raise InputError(f"--prior {prior}: a probability between 0 and 1, without them")
    system, manifest = bundle.load(folder, compute)
    if enrolled and not enrolled.exists():
        raise InputError(f"{enrolled} does not exist: `earmark enrol` makes it")
    added = Enrolled.load(enrolled, folder / bundle.TRACER / tracing.FILE) if enrolled else None
    return Judge(system, describe_model(manifest, place), added, prior)


def check(judge: Judge, inputs: list[str], options: Options) -> int:
    """Judge every input, print as asked, and return the exit code. Errors: InputError when there is nothing to judge."""
    with tempfile.TemporaryDirectory() as scratch:
        return _check_all(judge, list(_find(inputs, Path(scratch))), inputs, options)


def _check_all(judge: Judge, files: list[tuple[Path, str]], inputs: list[str], options: Options) -> int:
    if not files:
        raise InputError(f"{', '.join(inputs)}: no audio file there; known endings: {', '.join(sorted(AUDIO_SUFFIXES))}")
    found: list[Found] = []
    with _bar() as bar:
        for number, (path, name) in enumerate(files):
            task = bar.add_task(name, total=None, count=f"{number + 1}/{len(files)}")
            found.append(check_one(judge, path, name, options, lambda done, of, task=task: bar.update(task, completed=done, total=of)))
            bar.remove_task(task)
            if options.json:
                print(found[-1].model_dump_json(), flush=True)
    if not options.json:
        _print_table(found)
    return _exit_code(found, options.exit_code)


def schema() -> str:
    """JSON Schema of a line of `--json`."""
    return json.dumps(TypeAdapter(Found).json_schema(), indent=2)


def check_one(judge: Judge, path: Path, name: str, options: Options, show: Show = lambda done, of: None) -> Found:
    """The verdict on a file, with its page where one is asked for; a Failure where it cannot be judged."""
    try:
        with open_recording(path, judge.system.params.audio, judge.system.transform) as (recording, origin):
            heard = judge.system.hear(recording, show)
            verdict = judge.conclude(path, name, recording, origin, heard)
            if options.html:
                from earmark.report.evidence import evidence_page  # matplotlib and captum, for pages alone
                from earmark.verdict.evidence import explain

                evidence = explain(judge.system, recording, heard, verdict.decision)
                page = evidence_page(verdict, recording, evidence, judge.system.params.cqt, judge.system.params.ensemble.coverage)
                with complete(_page_place(options.html, name)) as aside:
                    aside.write_text(page)
            return verdict
    except InputError as error:
        return Failure(file=name, error=str(error))


def _page_place(place: Path, name: str) -> Path:
    """A single page where an .html file is asked for, else a page a file in that folder."""
    if place.suffix.lower() in (".html", ".htm"):
        return place
    return place / (name.strip("/.").replace("/", "_") + ".html")


def _find(inputs: list[str], scratch: Path) -> Iterator[tuple[Path, str]]:
    """Files with the names they are shown by; a folder's audio files in order, stdin through a file in `scratch`."""
    for given in inputs:
        if given == STDIN:
            path = scratch / "stdin"
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            yield path, "stdin"
        elif Path(given).is_dir():
            listed = sorted(path for path in Path(given).rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
            yield from ((path, str(path)) for path in listed)
        else:
            yield Path(given), given


def _bar() -> Progress:
    columns = (TextColumn("{task.fields[count]} {task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _print_table(found: list[Found]) -> None:
    table = Table("file", "verdict", "spoof", "llr", "source, if a spoof", "remarks", box=None, pad_edge=False)
    for one in found:
        if isinstance(one, Failure):
            table.add_row(one.file, "[magenta]no verdict[/]", "", "", "", one.error)
            continue
        decision = f"[{STYLES[one.decision]}]{NAMES[one.decision]}[/]"
        figures = f"{100 * one.probability_of_spoof:.1f} %", f"{one.llr:+.2f}"
        table.add_row(one.file, decision, *figures, _say_source(one), "\n".join(_remarks(one)))
    Console().print(table)


def _say_source(verdict: Verdict) -> str:
    source = verdict.source
    if source is None or verdict.decision == "bonafide":
        return ""
    if source.enrolled or source.unseen:
        return source.answer
    return f"{source.answer} ({100 * source.sources[0].probability:.0f} %)"


def _remarks(verdict: Verdict) -> Iterator[str]:
    for part in verdict.spoofed_parts if verdict.decision != "spoof" else ():
        yield f"{clock(part.start)}–{clock(part.end)} sounds spoofed"
    yield from (caution.text for caution in verdict.cautions)


def _exit_code(found: list[Found], by_verdict: bool) -> int:
    if any(isinstance(one, Failure) for one in found):
        return UNREADABLE
    decisions = {one.decision for one in found if isinstance(one, Verdict)}
    if by_verdict and decisions & {"spoof", "inconclusive"}:
        return SPOOF if "spoof" in decisions else INCONCLUSIVE
    return 0
