"""One source into one folder, complete or not at all; and all sources of the stage."""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.download import places
from earmark.download.catalogue import File
from earmark.download.pins import FEW, Pins, read_json, summary
from earmark.download.places import Fetched, exact
from earmark.download.plan import Plan, plan
from earmark.download.progress import Meter, each
from earmark.download.unpack import DamagedError, unpack, writing
from earmark.params import DownloadParams
from earmark.storage.files import file_digest, remove, write_json
from earmark.storage.locks import locked
from earmark.storage.redact import shown
from earmark.storage.s3 import RemoteError

log = logging.getLogger(__name__)
RECORD = "download.json"


def fetch_all(download: DownloadParams, *, output: Path) -> dict[str, float]:
    """Every source of params into its folder below `output`; what is there already is not fetched again. Errors: InputError."""
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    figures = {f"{name}/bytes": fetch(source, output / name, download)["bytes"] for name, source in download.sources.items()}
    return {"sources": len(download.sources), **figures}


def fetch(source: str, target: Path, params: DownloadParams) -> dict[str, Any]:
    """Fetch a name or address into `target`, and return its record. Errors: InputError. An interrupted download resumes."""
    wanted = plan(source)
    log.info("%s: licence %s; see %s", wanted.known.title, wanted.known.licence or "not known", wanted.known.homepage)
    if record := read_record(target):
        if record["source"] != wanted.source:
            raise InputError(f"{target} holds {record['source']}, not {wanted.source}: remove it, or name another folder")
        log.info("%s: complete in %s", wanted.known.title, target)
        return record
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} holds something that was not downloaded: move it away, or name another folder")
    staging = target.with_name(f"{target.name}.download")
    with writing(staging):
        staging.mkdir(parents=True, exist_ok=True)
    with locked(staging / ".lock") as free:
        if not free:
            raise InputError(f"{staging}: another process downloads into it: wait for it")
        return _fetch(wanted, target, staging, params)


def read_record(folder: Path) -> dict[str, Any]:
    """What was fetched into a folder; empty when it is not complete. Errors: InputError when the record is damaged."""
    return read_json(folder / RECORD, f"remove {folder}, and fetch it again")


def fetched_from(root: Path) -> dict[str, dict[str, str]]:
    """Where the folders below `root` were fetched from: by folder ("." is `root`) exact addresses, each with the SHA-256 of its files."""
    found = {}
    for folder, below, files in os.walk(root):
        if RECORD in files and (record := read_record(Path(folder))):
            below.clear()
            addresses = {exact(address, about["revision"]): about["sha256"] for address, about in record["addresses"].items()}
            found[Path(folder).relative_to(root).as_posix()] = addresses
    return found


def _fetch(wanted: Plan, target: Path, staging: Path, params: DownloadParams) -> dict[str, Any]:
    pins = Pins(target.parent)
    try:
        with Meter(wanted.known.title) as meter:
            content, found = _Gathering(wanted, staging, params, pins, meter).run()
    except RemoteError as error:
        raise RemoteError(f"{error}\n{wanted.by_hand(staging)}") from None
    if wanted.weights:
        from earmark.download.weights import convert

        content = convert(content, staging / "converted")
    licence = wanted.known.licence or read_record(content).get("licence")
    record = {"source": wanted.source, "title": wanted.known.title, "licence": licence, "homepage": wanted.known.homepage, **found}
    write_json(content / RECORD, record)
    pins.keep(found["addresses"])
    os.replace(content, target)
    shutil.rmtree(staging)
    return record


@dataclass
class _Gathering:
    """One source on its way: `staging` holds parts/ as they arrive, and content/ at the end."""

    plan: Plan
    staging: Path
    params: DownloadParams
    pins: Pins
    meter: Meter

    def run(self) -> tuple[Path, dict[str, Any]]:
        """Folder with all of it, and its record: addresses with digests and revisions, bytes. Errors: InputError."""
        wanted = [*self.plan.files, *(File(address=address) for address in self.plan.known.folders)]
        fetched = each(self._fetch, enumerate(wanted), self.params.connections, self.meter)
        addresses = {shown(file.address): self._verify(file, one) for file, one in zip(wanted, fetched, strict=True)}
        size = sum((one.root / name).stat().st_size for one in fetched for name in one.files)
        content = self.staging / "content"
        remove(content)
        content.mkdir()
        plain = self._unpack(fetched, content)
        self._check_layout([content, *(one.root for one in plain)])
        self._merge(plain, content)
        return content, {"addresses": addresses, "bytes": size}

    def _fetch(self, numbered: tuple[int, File]) -> Fetched:
        """Fetch one file or folder; a file that was put into staging by hand is taken instead."""
        number, file = numbered
        if number < len(self.plan.files) and (self.staging / places.name_of(file.address)).is_file():
            return Fetched(self.staging, {places.name_of(file.address): file}, local=True)
        folder = self.staging / "parts" / str(number)
        return places.fetch(file, folder, self.pins.revision(file.address), self.params, self.meter)

    def _verify(self, file: File, fetched: Fetched) -> dict[str, Any]:
        """Record of an address. Errors: InputError for other bytes than the known ones, which go unless they are the user's."""

        def verify(name: str) -> str:
            known = file if file.digests else fetched.files[name]
            sha256 = file_digest(fetched.root / name)
            if fault := known.fault(fetched.root / name, sha256):
                self._discard(fetched, name)
                raise InputError(f"{shown(known.address)}{fault}")
            return sha256

        digests = dict(zip(fetched.files, each(verify, fetched.files, self.params.connections, self.meter), strict=True))
        self.pins.check(file.address, digests)
        return {"sha256": summary(digests), "revision": fetched.revision} | ({"files": digests} if len(digests) <= FEW else {})

    def _discard(self, fetched: Fetched, *names: str) -> None:
        for name in () if fetched.local else names:
            (fetched.root / name).unlink()

    def _unpack(self, fetched: list[Fetched], content: Path) -> list[Fetched]:
        """Unpack all archives into one folder. Returns what is no archive."""
        left = list(fetched)
        for archive in self.plan.known.archives:
            parts = [left.pop(0) for _ in archive.parts]
            try:
                paths = [one.root / name for one in parts for name in one.files]
                unpack(paths, shown(archive.parts[0].address), content / archive.into, self.params)
            except DamagedError:
                for one in parts:
                    self._discard(one, *one.files)
                raise
        return left

    def _check_layout(self, roots: list[Path]) -> None:
        """Errors: InputError naming files that should be there."""
        for name, sha256 in self.plan.known.holds.items():
            path = next((root / name for root in roots if (root / name).exists()), None)
            if path is None:
                raise InputError(f"{self.plan.known.title}: {name} is not in what was fetched: the publisher changed it")
            if sha256 and file_digest(path) != sha256:
                raise InputError(f"{self.plan.known.title}: {name} is not the published file (sha256 {sha256})")

    def _merge(self, plain: list[Fetched], content: Path) -> None:
        for one in plain:
            for name in one.files:
                with writing(content / name):
                    (content / name).parent.mkdir(parents=True, exist_ok=True)
                    (shutil.copyfile if one.local else os.replace)(one.root / name, content / name)
