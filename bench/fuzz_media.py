"""Mutated recordings of 30 formats through the decoder, twice: python bench/fuzz_media.py [--files 1200] [--seed 688].

Every file must be heard or refused by name: no crash, no traceback, no hang, bounded memory, and the same answer both times.
"""

import argparse
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from earmark import InputError
from earmark.audio import worker
from earmark.audio.decode import decoded
from earmark.params import DecodingParams

CASES = Path(__file__).parents[1] / "tests/cases"
FOLDERS = ("formats-that-work", "other-endings/mix", "ogg-opus-chained", "one-damaged-packet", "codec-tag-not-ascii", "flac-length-unknown")
DECODING = DecodingParams()
HEADER = 600  # first bytes, in which fields of headers lie


@dataclass(frozen=True)
class Answer:
    """What came of a file: the digest of its samples, or why there are none; and how long that took."""

    text: str
    heard: bool
    seconds: float


def seeds() -> list[Path]:
    """Whole recordings to mutate, one a form."""
    found = [path for folder in FOLDERS for path in sorted((CASES / folder).iterdir())]
    return [path for path in found if "damaged" not in path.name]


def mutate(content: bytes, others: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """One of six kinds of damage, and the bytes after it."""
    kind = ("bits", "cut", "splice", "header", "zeros", "gone")[rng.integers(6)]
    data, size = bytearray(content), len(content)
    first = int(rng.integers(size))
    length = int(min(size - first, 2 ** rng.uniform(2, 14)))
    if kind == "bits":
        for place in rng.integers(size, size=int(2 ** rng.uniform(0, 8))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[first:]
    elif kind == "splice":
        other = others[rng.integers(len(others))]
        start = int(rng.integers(len(other)))
        data[first:first] = other[start : start + length]
    elif kind == "header":
        for place in rng.integers(min(HEADER, size), size=int(rng.integers(1, 9))):
            data[place] = (0, 0xFF, 0x7F, 0x80, int(rng.integers(256)))[rng.integers(5)]
    elif kind == "zeros":
        data[first : first + length] = bytes(length)
    else:
        del data[first : first + length]
    return kind, bytes(data)


def mutants(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(form, kind of damage, bytes) of so many files, the forms in turn."""
    sources = seeds()
    contents = [path.read_bytes() for path in sources]
    for number in range(count):
        row = number % len(sources)
        kind, content = mutate(contents[row], contents, np.random.default_rng((seed, number)))
        yield sources[row].name, kind, content


def answer(content: bytes, place: Path) -> Answer:
    """Decode a file of these bytes; anything but InputError is raised: that is what is looked for."""
    place.write_bytes(content)
    start = time.monotonic()
    try:
        with decoded(place, DECODING) as (samples, found):
            text = f"{hashlib.sha256(samples.tobytes()).hexdigest()} {found}"
        return Answer(text, True, time.monotonic() - start)
    except InputError as error:
        return Answer(str(error).removeprefix(f"{place}: "), False, time.monotonic() - start)
    finally:
        place.unlink()


def peak_megabytes() -> float:
    """Most memory that any worker of this process that still lives has used."""
    found = []
    for one in worker._idle.get(DECODING.memory_mb, []):
        status = Path(f"/proc/{one.process.pid}/status").read_text()
        found += [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")]
    return max(found, default=0.0)


def campaign(count: int, seed: int, threads: int = 2) -> pd.DataFrame:
    """A row a mutant: form, damage, both answers, seconds."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(threads) as pool:

        def both(job: tuple[int, tuple[str, str, bytes]]) -> dict:
            number, (form, kind, content) = job
            first, second = (answer(content, Path(scratch, str(number))) for _ in range(2))
            slowest = max(first.seconds, second.seconds)
            same = first.text == second.text
            return {"form": form, "damage": kind, "heard": first.heard, "said": first.text, "same": same, "seconds": slowest}

        return pd.DataFrame(list(track(pool.map(both, enumerate(mutants(count, seed))), "fuzz", total=count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=688)
    options = parser.parse_args()
    found = campaign(options.files, options.seed)
    died, stalled = (found["said"].str.contains(text, regex=False) for text in ("ends the decoder", "no sound came of it"))
    table = found.assign(died=died, stalled=stalled).groupby("form", sort=False).agg(
        files=("heard", "size"), heard=("heard", "sum"), died=("died", "sum"), stalled=("stalled", "sum"),
        slowest=("seconds", "max"), differing=("same", lambda same: int((~same).sum())),
    )  # fmt: skip
    print(table.assign(refused=table["files"] - table["heard"]).round(2).to_markdown())
    print(dict(Counter(found["damage"])), f"{len(found)} files, peak of a worker {peak_megabytes():.0f} MB")
    for said, rows in found[died | stalled | ~found["same"]].groupby("said"):
        print(said[:200], rows[["form", "damage"]].to_dict("records")[:3])


if __name__ == "__main__":
    main()
