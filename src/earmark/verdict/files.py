"""Verdicts on a file as it was given: every answer, its page, and a line that says why there is none."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from earmark import InputError
from earmark.features.recording import Recording
from earmark.model.system import Heard
from earmark.storage.files import complete, flat_name
from earmark.storage.printable import legible, printable
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.judge import Judge, Show

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
    if is_page(place):
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


def is_page(place: Path) -> bool:
    """Whether a place is a single page by its name."""
    return place.suffix.lower() in (".html", ".htm")
