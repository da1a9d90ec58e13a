"""Verdicts on a folder of recordings that many workers share."""

import os
from collections import Counter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.progress import track

from earmark import InputError
from earmark.audio.finder import find
from earmark.features.shards import worker
from earmark.params import ComputeParams
from earmark.storage.files import complete, file_digest
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.files import Found, Given, Options, check_one
from earmark.verdict.judge import Judge, load_judge

CHUNK = 50  # recordings of a file of verdicts
LINE: TypeAdapter[Found] = TypeAdapter(Found)


def check_recordings(compute: ComputeParams, *, data: Path, model: Path, output: Path, shard: str = "1/1") -> dict[str, float]:
    """Write `00000.jsonl`, …: a line an answer on what lies below `data`, as `earmark check --json` prints it, names relative to `data`.

    Worker i of n writes every n-th file; one that lies there, of the same recordings and model, is kept. A recording that cannot be
    judged has a line that says why. Return how many there are of each answer, of this worker's share.
    Errors: InputError when there is no recording, or as `bundle.load`.
    """
    there = find(data)
    if not there.recordings:
        raise InputError(f"{data}: no recording there" + "".join(f"\n  {path}: {reason}" for path, reason in there.left_out.items()))
    files = [Given.of(path, path.relative_to(data).as_posix()) for path in there.recordings]
    files += [Given.of(path, path.relative_to(data).as_posix(), reason) for path, reason in there.left_out.items()]
    judge = load_judge(model, "artifacts/model", None, compute, None)
    first, workers = worker(shard)
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    found: list[Found] = []
    for number in track(range(first, len(chunks), workers), "check"):
        found += _check_chunk(judge, chunks[number], output / f"{number:05}.jsonl")
    return count(found)


def read_verdicts(folder: Path) -> list[Found]:
    """All lines of all workers, in the order of their files."""
    return [one for path in sorted(folder.glob("[0-9]*.jsonl")) for one in _read(path)]


def count(found: list[Found]) -> dict[str, float]:
    """Counts of answers on recordings (one a channel where channels differ), in all and by kind; other files count as `left_out`."""
    kinds = Counter(("left_out" if one.left_out else "failed") if isinstance(one, Failure) else one.decision for one in found)
    counts = {name: float(kinds[name]) for name in ("bonafide", "spoof", "inconclusive", "failed", "left_out")}
    return {"recordings": float(len(found) - kinds["left_out"])} | counts


def _check_chunk(judge: Judge, files: list[Given], place: Path) -> list[Found]:
    kept = _kept(place, judge.model.digest)
    found: list[Found] = []
    for given in files:
        known = kept.get(given.name, [])
        same = known and given.wrong is None and os.path.isfile(given.path) and known[0].sha256 == file_digest(given.path)
        found += known if same else check_one(judge, given, Options()).found
    with complete(place) as aside:
        aside.write_text("".join(f"{one.model_dump_json()}\n" for one in found))
    return found


def _read(path: Path) -> list[Found]:
    """The answers of a file. A line ends at its newline alone: what a recording says of itself may hold other ends of lines."""
    return [LINE.validate_json(line) for line in path.read_bytes().split(b"\n") if line]


def _kept(place: Path, model: str) -> dict[str, list[Verdict]]:
    """Verdicts that lie there and are of this model, by file."""
    try:
        lines = _read(place)
    except (OSError, ValidationError):
        return {}
    kept: dict[str, list[Verdict]] = {}
    for one in lines:
        if isinstance(one, Verdict) and one.model.digest == model:
            kept.setdefault(one.file, []).append(one)
    return kept
