"""One source into one folder, complete or not at all; and all sources of the stage."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.download import places
from earmark.download.catalogue import File
from earmark.download.pins import FEW, Pins, summary
from earmark.download.places import Fetched, exact
from earmark.download.plan import Plan, plan
from earmark.download.progress import Meter, each
from earmark.download.unpack import DamagedError, unpack, writing
from earmark.params import DownloadParams
from earmark.storage.files import file_digest, remove, write_json
from earmark.storage.redact import shown
from earmark.storage.s3errors import RemoteError

log = logging.getLogger(__name__)
RECORD = "download.json"


def fetch_all(download: DownloadParams, *, output: Path) -> dict[str, float]:
    """Every source of params into its folder below `output`; what is there already is not fetched again. Errors: InputError."""
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    figures = {f"{name}/bytes": fetch(source, output / name, download)["bytes"] for name, source in download.sources.items()}
    return {"sources": len(download.sources), **figures}


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
            content, found = _Gathering(wanted, staging, params, pins, meter).run()
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


@dataclass
class _Gathering:
    """One source on its way: `staging` holds parts/ as they arrive, unpacked/, and content/ at the end."""

    plan: Plan
    staging: Path
    params: DownloadParams
    pins: Pins
    meter: Meter

    def run(self) -> tuple[Path, dict[str, Any]]:
        """Folder with all of it, and its record: addresses with digests and revisions, bytes. Errors: InputError."""
        wanted = [*self.plan.files, *(File(address=address) for address in self.plan.known.folders)]
        fetched = each(self._fetch, list(enumerate(wanted)), self.params.connections, self.meter)
        addresses = {shown(file.address): self._verify(file, one) for file, one in zip(wanted, fetched, strict=True)}
        size = sum((one.root / name).stat().st_size for one in fetched for name in one.files)
        plain = self._unpack(fetched)
        self._check_layout([self.staging / "unpacked", *(one.root for one in plain)])
        return self._merge(plain), {"addresses": addresses, "bytes": size}

    def _fetch(self, numbered: tuple[int, File]) -> Fetched:
        """Fetch one file or folder; a file that was put into staging by hand is taken instead."""
        number, file = numbered
        is_file = number < len(self.plan.files)
        if is_file and (self.staging / places.name_of(file.address)).is_file():
            return Fetched(self.staging, {places.name_of(file.address): file}, local=True)
        folder = self.staging / "parts" / str(number)
        found = places.fetch(file, folder, self.pins.revision(file.address), self.params, self.meter)
        if is_file and list(found.files) != [places.name_of(file.address)]:
            raise InputError(f"{shown(file.address)} is a folder where one file is expected: name a file below it")
        if is_file and file.trusted:
            found.files.update(dict.fromkeys(found.files, file))
        return found

    def _verify(self, file: File, fetched: Fetched) -> dict[str, Any]:
        """Record of an address. Errors: InputError for other bytes than the known ones, which go unless they are the user's."""

        def verify(name: str) -> str:
            sha256 = file_digest(fetched.root / name)
            if fault := fetched.files[name].fault(fetched.root / name, sha256):
                self._discard(fetched, name)
                raise InputError(f"{shown(fetched.files[name].address)}{fault}")
            return sha256

        digests = dict(zip(fetched.files, each(verify, fetched.files, self.params.connections, self.meter), strict=True))
        self.pins.check(file.address, digests)
        return {"sha256": summary(digests), "revision": fetched.revision} | ({"files": digests} if len(digests) <= FEW else {})

    def _discard(self, fetched: Fetched, name: str) -> None:
        if not fetched.local:
            (fetched.root / name).unlink()

    def _unpack(self, fetched: list[Fetched]) -> list[Fetched]:
        """Unpack all archives into one folder. Returns what is no archive."""
        root, left = self.staging / "unpacked", list(fetched)
        remove(root)
        root.mkdir()
        for archive in self.plan.known.archives:
            parts = [left.pop(0) for _ in archive.parts]
            try:
                paths = [one.root / name for one in parts for name in one.files]
                unpack(paths, shown(archive.parts[0].address), root / archive.into, self.params)
            except DamagedError:
                for one in parts:
                    self._discard(one, *one.files)
                raise
        return left

    def _check_layout(self, roots: list[Path]) -> None:
        """Errors: InputError naming files that should be there."""
        title = self.plan.known.title
        for name, sha256 in self.plan.known.holds.items():
            path = next((root / name for root in roots if (root / name).exists()), None)
            if path is None:
                raise InputError(f"{title}: {name} is not in what was fetched: the publisher changed it")
            if sha256 and file_digest(path) != sha256:
                raise InputError(f"{title}: {name} is not the published file (sha256 {sha256})")

    def _merge(self, plain: list[Fetched]) -> Path:
        content = self.staging / "content"
        remove(content)
        os.replace(self.staging / "unpacked", content)
        for one in plain:
            for name in one.files:
                with writing(content / name):
                    (content / name).parent.mkdir(parents=True, exist_ok=True)
                    (shutil.copyfile if one.local else os.replace)(one.root / name, content / name)
        return content
