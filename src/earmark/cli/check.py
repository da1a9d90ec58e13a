"""`earmark check`: files, folders or stdin in; a table, JSON or pages out."""

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic import TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from earmark import InputError
from earmark.audio.finder import find
from earmark.ensemble import fusion as tracing
from earmark.ensemble.enrolment import Enrolled
from earmark.features.recording import Recording
from earmark.model import bundle
from earmark.model.calibration import NAMES
from earmark.model.system import Heard
from earmark.params import ComputeParams, TrackingParams
from earmark.report.clock import clock
from earmark.report.terminal import print_wide
from earmark.storage.files import complete, flat_name, refuse_folder
from earmark.storage.printable import legible, printable, printable_lines
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.judge import Judge, Show, describe_model

STDIN = "-"
SPOOF, INCONCLUSIVE, UNREADABLE = 10, 11, 3  # exit codes; 2 is a wrong call, 0 all judged
SHOWN = 20  # files left out that are named when nothing is left to judge
STYLES = {"bonafide": "green", "spoof": "bold red", "inconclusive": "yellow"}
Found = Verdict | Failure


@dataclass(frozen=True)
class Options:
    """How to check and what to write; `track` and `channel` count from 1, None: what sounds."""

    json: bool = False
    html: Path | None = None
    exit_code: bool = False
    track: int | None = None
    channel: int | None = None


class Given(NamedTuple):
    """A file to judge: where it lies, the name it was given by, that name in print, and why it is not to be judged.

    `piped`: it came through a pipe, and lies in no folder.
    """

    path: Path
    shown: str
    name: str
    wrong: str | None = None
    piped: bool = False

    @classmethod
    def of(cls, path: Path, shown: str, wrong: str | None = None, piped: bool = False) -> "Given":
        """With its name in print."""
        return cls(path, shown, legible(shown), wrong, piped)


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
    try:
        scratch = tempfile.TemporaryDirectory()
    except OSError as error:
        raise InputError(f"there is no place for scratch files ({error.strerror}): set TMPDIR") from error
    with scratch as place:
        return _check_all(judge, list(_find(inputs, Path(place))), inputs, options)


def _check_all(judge: Judge, given: list[Given], inputs: list[str], options: Options) -> int:
    if len(given) == len(inputs) == 1 and given[0].wrong and not os.path.isdir(inputs[0]):
        raise InputError(f"{given[0].name}: {given[0].wrong}")
    if not any(one.wrong is None for one in given):
        left_out = "".join(f"\n  {one.name}: {one.wrong}" for one in given[:SHOWN]) + ("\n  …" if len(given) > SHOWN else "")
        raise InputError(f"{', '.join(inputs)}: no recording there{left_out}")
    if options.html and _is_page(options.html) and len(given) > 1:
        raise InputError(f"--html {options.html} is one page, and there are {len(given)} files: name a folder, which gets a page for each")
    if options.html and _is_page(options.html):
        refuse_folder(options.html)
    found: list[Found] = []
    whole, pages = True, set()
    with _bar() as bar:
        for number, one in enumerate(given):
            task = bar.add_task(escape(one.name), total=None, count=f"{number + 1}/{len(given)}")
            checked = check_one(judge, one, options, lambda done, of, task=task: bar.update(task, completed=done, total=of), pages)
            bar.remove_task(task)
            found += checked.found
            whole &= not checked.lost_pages
            for line in checked.lost_pages:
                print(printable_lines(f"warning: {line}"), file=sys.stderr)
            if options.json:
                for answer in checked.found:
                    print(answer.model_dump_json(), flush=True)
    if not options.json:
        _print_table(found)
    return _exit_code(found, options.exit_code) if whole else UNREADABLE


def schema() -> str:
    """JSON Schema of a line of `--json`."""
    return json.dumps(TypeAdapter(Found).json_schema(), indent=2)


class Checked(NamedTuple):
    """Answers on a file, and the pages that could not be written."""

    found: list[Found]
    lost_pages: list[str]


def check_one(judge: Judge, given: Given, options: Options, show: Show = lambda done, of: None, pages: set[Path] | None = None) -> Checked:
    """The verdicts on a file, with their pages where they are asked for; a Failure where it cannot be judged.

    `pages` are those of the files before, to which this one's are added.
    """
    pages = set() if pages is None else pages
    answers: list[Found] = []
    lost: list[str] = []
    try:
        if given.wrong is not None:
            raise InputError(f"{given.name}: {given.wrong}")
        for recording, heard, verdict in judge.hear(given.path, given.name, options.track, options.channel, show):
            answers.append(verdict)
            if options.html:
                page = _free(page_place(options.html, given.shown, recording.channel), pages)
                try:
                    _write_page(judge, recording, heard, verdict, page)
                except InputError as error:  # a page is not worth a verdict
                    lost.append(f"{given.name}: its page is missing: {error}")
    except (InputError, OSError) as error:  # such as a disk that is full, or a file that has gone meanwhile
        said = printable(str(error)).replace(f"{printable(str(given.path))}: ", f"{given.name}: ", 1)
        return Checked([Failure(file=given.name, error=said, left_out=given.wrong is not None and not given.piped)], lost)
    return Checked(answers, lost)


def _write_page(judge: Judge, recording: Recording, heard: Heard, verdict: Verdict, place: Path) -> None:
    from earmark.verdict.evidence import explain
    from earmark.verdict.page import evidence_page

    evidence = explain(judge.system, recording, heard, verdict.decision)
    page = evidence_page(verdict, recording, evidence, judge.system.params.ensemble.coverage)
    with complete(place) as aside:
        aside.write_text(page)


def page_place(place: Path, name: str, channel: int | None) -> Path:
    """A single page where an .html file is asked for, else a page a file in that folder; a channel judged by itself has its own."""
    suffix = f"-channel-{channel}" if channel else ""
    if _is_page(place):
        return place.with_name(f"{place.stem}{suffix}{place.suffix}")
    return place / flat_name(name, f"{suffix}.html")


def _free(place: Path, taken: set[Path]) -> Path:
    """The place, or, where another verdict's page lies there, the same with a number; it is taken then. Case makes no difference."""
    tries = (place.with_name(f"{place.stem}{f'-{number}' if number > 1 else ''}{place.suffix}") for number in count(1))
    free = next(one for one in tries if _folded(one) not in taken)
    taken.add(_folded(free))
    return free


def _folded(place: Path) -> Path:
    return place.with_name(place.name.casefold())


def _is_page(place: Path) -> bool:
    return place.suffix.lower() in (".html", ".htm")


def _find(inputs: list[str], scratch: Path) -> Iterator[Given]:
    """What there is to judge: a folder's recordings in order and what else lies there, stdin and pipes through files in `scratch`."""
    for number, given in enumerate(inputs):
        path = Path(given)
        if not given:
            raise InputError("an empty name is no file: say what to check (. is the folder you are in)")
        if given == STDIN:
            yield _spool(sys.stdin and sys.stdin.buffer, scratch / str(number), "stdin")
        elif os.path.isdir(path):
            found = find(path)
            yield from (Given.of(one, str(one)) for one in found.recordings)
            yield from (Given.of(one, str(one), reason) for one, reason in found.left_out.items())
        elif _is_pipe(path):
            try:
                with path.open("rb") as pipe:
                    yield _spool(pipe, scratch / str(number), given)
            except OSError as error:
                yield Given.of(path, given, error.strerror or "cannot be read", piped=True)
        else:
            yield Given.of(path, given)


def _is_pipe(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _spool(pipe: BinaryIO | None, place: Path, shown: str) -> Given:
    """All that comes through a pipe, as a file in scratch space; what is wrong where it is closed, or does not fit there."""
    if pipe is None:
        return Given.of(place, shown, "it is closed", piped=True)
    try:
        with place.open("wb") as file:
            shutil.copyfileobj(pipe, file)
    except OSError as error:
        place.unlink(missing_ok=True)
        wrong = f"cannot be read into {tempfile.gettempdir()} ({error.strerror}): set TMPDIR to a larger place"
        return Given.of(place, shown, wrong, piped=True)
    return Given.of(place, shown, piped=True)


def _bar() -> Progress:
    columns = (TextColumn("{task.fields[count]} {task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _print_table(found: list[Found]) -> None:
    table = Table("file", "verdict", "spoof", "llr", "source, if a spoof", "remarks", box=None, pad_edge=False)
    for one in found:
        if isinstance(one, Failure):
            table.add_row(Text(one.file), "[magenta]no verdict[/]", "", "", "", Text(one.error.removeprefix(f"{one.file}: ")))
            continue
        name = one.file if one.channel is None else f"{one.file}, channel {one.channel}"
        decision = f"[{STYLES[one.decision]}]{NAMES[one.decision]}[/]"
        figures = f"{100 * one.probability_of_spoof:.1f} %", f"{one.llr:+.2f}"
        table.add_row(Text(name), decision, *figures, Text(_say_source(one)), Text("\n".join(_remarks(one))))
    print_wide(table)


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
