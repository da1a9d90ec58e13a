"""Whether dvc.lock is of the code, the settings and the commands that lie here; runs no stage and needs neither data nor cache.

Ends with 1 and a line a stage that differs: its files, settings or command, or what it wrote and the next one read.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

OURS = ("src/", "params.yaml", "metrics")  # what git has; data and artifacts may not be here
MEND = "run `make demo`, then commit dvc.lock, data.dvc and metrics/"


def say(*command: str) -> str:
    """Standard output of a command, which has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def stale() -> Iterator[str]:
    """What DVC would run again because of something that git has."""
    for stage, changes in json.loads(say("dvc", "status", "--json")).items():
        for change in changes:
            if isinstance(change, str):
                yield f"{stage}: {change}"
                continue
            for place, how in (item for found in change.values() for item in found.items()):
                if place.startswith(OURS):
                    yield f"{stage}: {place}{': ' + ', '.join(how) if isinstance(how, dict) else ''} differs{named(place)}"


def named(place: str) -> str:
    """Files below a place that differ from the commit of dvc.lock."""
    since = say("git", "log", "-1", "--format=%H", "--", "dvc.lock").strip()
    files = say("git", "diff", "--name-only", since, "--", place) + say("git", "ls-files", "--others", "--exclude-standard", "--", place)
    found = [name for name in files.split() if name != place]
    return f" ({', '.join(found[:5])}{', …' if len(found) > 5 else ''})" if found else ""


def torn() -> Iterator[str]:
    """Outputs that a later stage read otherwise than they were written."""
    stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    written = {out["path"]: (out["md5"], stage) for stage, entry in stages.items() for out in entry["outs"]}
    for out in yaml.safe_load(Path("data.dvc").read_text())["outs"]:
        written[out["path"]] = (out["md5"], "data.dvc")
    for stage, entry in stages.items():
        for one in entry["deps"]:
            digest, writer = written.get(one["path"], (one["md5"], ""))
            if digest != one["md5"]:
                yield f"{stage}: {one['path']} is another than {writer} has"


def whole() -> Iterator[str]:
    """Stages that stand in one of the two files alone."""
    pipeline, lock = (set(yaml.safe_load(Path(name).read_text())["stages"]) for name in ("dvc.yaml", "dvc.lock"))
    yield from (f"{stage}: not in dvc.{'lock' if stage in pipeline else 'yaml'}" for stage in sorted(pipeline ^ lock))


def main() -> int:
    """Say all that differs."""
    found: list[Any] = [*dict.fromkeys([*whole(), *stale(), *torn()])]
    if found:
        print("dvc.lock is not what this code makes:", *(f"  {one}" for one in found), MEND, sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
