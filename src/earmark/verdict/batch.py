"""Verdicts on a folder of recordings that many workers share."""

from collections import Counter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.progress import track

from earmark import InputError
from earmark.corpora.protocol import AUDIO_SUFFIXES
from earmark.features.shards import worker
from earmark.files import complete, file_digest
from earmark.params import ComputeParams
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.command import Found, Options, check_one, load_judge
from earmark.verdict.judge import Judge

CHUNK = 50  # recordings of a file of verdicts
LINE: TypeAdapter[Found] = TypeAdapter(Found)


def check_recordings(data: Path, model: Path, compute: ComputeParams, output: Path, shard: str = "1/1") -> dict[str, float]:
    """Write `00000.jsonl`, …: a line a recording below `data`, as `earmark check --json` prints it; names are relative to `data`.

    Worker i of n writes every n-th file; one that lies there, of the same recordings and model, is kept. A recording that cannot be
    judged has a line that says why. Return how many there are of each answer, of this worker's share.
    Errors: InputError when there is no recording, or as `bundle.load`.
    """
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        raise InputError(f"{data}: no audio file there; known endings: {', '.join(sorted(AUDIO_SUFFIXES))}")
    judge = load_judge(model, "artifacts/model", None, compute, None)
    first, workers = worker(shard)
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    found: list[Found] = []
    for number in track(range(first, len(chunks), workers), "check"):
        found += _check_chunk(judge, chunks[number], data, output / f"{number:05}.jsonl")
    return count(found)


def read_verdicts(folder: Path) -> list[Found]:
    """All lines of all workers, in the order of their files."""
    return [LINE.validate_json(line) for path in sorted(folder.glob("[0-9]*.jsonl")) for line in path.read_text().splitlines()]


def count(found: list[Found]) -> dict[str, float]:
    """How many recordings there are, and of each answer."""
    answers = Counter("failed" if isinstance(one, Failure) else one.decision for one in found)
    return {"recordings": float(len(found))} | {name: float(answers[name]) for name in ("bonafide", "spoof", "inconclusive", "failed")}


def _check_chunk(judge: Judge, files: list[Path], data: Path, place: Path) -> list[Found]:
    kept = _kept(place, judge.model.digest)
    found: list[Found] = []
    for path in files:
        name = path.relative_to(data).as_posix()
        known = kept.get(name)
        found.append(known if known and known.sha256 == file_digest(path) else check_one(judge, path, name, Options()))
    with complete(place) as aside:
        aside.write_text("".join(f"{one.model_dump_json()}\n" for one in found))
    return found


def _kept(place: Path, model: str) -> dict[str, Verdict]:
    """Verdicts that lie there and are of this model."""
    try:
        lines = [LINE.validate_json(line) for line in place.read_text().splitlines()]
    except (OSError, ValidationError):
        return {}
    return {one.file: one for one in lines if isinstance(one, Verdict) and one.model.digest == model}
