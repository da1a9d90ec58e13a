"""`earmark check`: files, folders or stdin in; a table, JSON or pages out."""

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from earmark import InputError
from earmark.audio.finder import find
from earmark.model.calibration import NAMES
from earmark.report.clock import clock
from earmark.report.terminal import print_wide
from earmark.storage.files import refuse_folder
from earmark.storage.printable import printable_lines
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.files import Found, Given, Options, check_one, is_page
from earmark.verdict.judge import Judge

STDIN = "-"
SPOOF, INCONCLUSIVE, UNREADABLE = 10, 11, 3  # exit codes; 2 is a wrong call, 0 all judged
SHOWN = 20  # files left out that are named when nothing is left to judge
STYLES = {"bonafide": "green", "spoof": "bold red", "inconclusive": "yellow"}


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
    if options.html and is_page(options.html) and len(given) > 1:
        raise InputError(f"--html {options.html} is one page, and there are {len(given)} files: name a folder, which gets a page for each")
    if options.html and is_page(options.html):
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
