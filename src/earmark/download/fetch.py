"""One source into one folder, complete or not at all; and all sources of the stage."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.download.gather import Gathering
from earmark.download.pins import Pins
from earmark.download.places import exact
from earmark.download.plan import Plan, plan
from earmark.download.progress import Meter
from earmark.download.s3errors import RemoteError
from earmark.download.unpack import writing
from earmark.files import write_json
from earmark.params import DownloadParams

log = logging.getLogger(__name__)
RECORD = "download.json"


def fetch_all(params: DownloadParams, output: Path) -> dict[str, float]:
    """Every source of params into its folder below `output`; what is there already is not fetched again. Errors: InputError."""
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    figures = {f"{name}/bytes": fetch(source, output / name, params)["bytes"] for name, source in params.sources.items()}
    return {"sources": len(params.sources), **figures}


def fetch(source: str, target: Path, params: DownloadParams, pins: Pins | None = None) -> dict[str, Any]:
    """Fetch a name or address into `target`, and return its record. Errors: InputError. An interrupted download resumes."""
    wanted = plan(source)
    wanted.say_licence()
    if (record := read_record(target)) is not None:
        if record["source"] != wanted.source:
            raise InputError(f"{target} holds {record['source']}, not {wanted.source}: remove it, or name another folder")
        log.info("%s: complete in %s", wanted.known.title, target)
        return record
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} holds something that was not downloaded: move it away, or name another folder")
    staging = target.with_name(f"{target.name}.download")
    with _held(staging):
        return _fetch(wanted, target, staging, params, pins or Pins(target.parent))


def read_record(folder: Path) -> dict[str, Any] | None:
    """What was fetched into a folder; None when it is not complete. Errors: InputError when the record is damaged."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged: remove {folder}, and fetch it again") from None


def fetched_from(root: Path) -> dict[str, dict[str, str]]:
    """Where the folders below `root` were fetched from: by folder ("." is `root`) exact addresses, each with the SHA-256 of its files."""
    found = {}
    for folder, below, files in os.walk(root):
        if RECORD in files and (record := read_record(Path(folder))):
            below.clear()
            addresses = {exact(address, about["revision"]): about["sha256"] for address, about in record["addresses"].items()}
            found[Path(folder).relative_to(root).as_posix()] = addresses
    return found


def _fetch(wanted: Plan, target: Path, staging: Path, params: DownloadParams, pins: Pins) -> dict[str, Any]:
    try:
        with Meter(wanted.known.title) as meter:
            content, found = Gathering(wanted, staging, params, pins, meter).run()
    except RemoteError as error:
        raise RemoteError(f"{error}\n{wanted.by_hand(staging)}") from None
    if wanted.weights:
        from earmark.download.weights import convert

        content = convert(content, staging / "converted")
    licence = wanted.known.licence or (read_record(content) or {}).get("licence")
    about = {"source": wanted.source, "title": wanted.known.title, "licence": licence, "homepage": wanted.known.homepage}
    record = {**about, **found}
    write_json(content / RECORD, record)
    pins.keep(found["addresses"])
    os.replace(content, target)
    shutil.rmtree(staging)
    return record


@contextmanager
def _held(staging: Path) -> Iterator[None]:
    """Keep other processes out of a staging folder."""
    with writing(staging):
        staging.mkdir(parents=True, exist_ok=True)
    with (staging / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{staging}: another process downloads into it: wait for it") from None
        yield
