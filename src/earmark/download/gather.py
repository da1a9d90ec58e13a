"""All files of a source: fetched, verified, unpacked, and laid into one folder."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.download import places
from earmark.download.catalogue import File
from earmark.download.pins import FEW, Pins, summary
from earmark.download.places import Fetched
from earmark.download.plan import Plan
from earmark.download.progress import Meter, each
from earmark.download.redact import shown
from earmark.download.unpack import DamagedError, unpack, writing
from earmark.files import file_digest, remove
from earmark.params import DownloadParams


@dataclass
class Gathering:
    """One source on its way: `staging` holds parts/ as they arrive, unpacked/, and content/ at the end."""

    plan: Plan
    staging: Path
    params: DownloadParams
    pins: Pins
    meter: Meter

    def run(self) -> tuple[Path, dict[str, Any]]:
        """Folder with all of it, and what is recorded: addresses with digests and revisions, bytes. Errors: InputError."""
        known = self.plan.known
        wanted = [*self.plan.files, *(File(address=address) for address in known.folders)]
        fetched = each(self._fetch, list(enumerate(wanted)), self.params.connections, self.meter)
        digests = [self._verify(file, one) for file, one in zip(wanted, fetched, strict=True)]
        unpacked, plain = self._unpack(fetched)
        self._check_layout([unpacked, *(one.root for one in plain)])
        size = sum((one.root / name).stat().st_size for one in fetched for name in one.files)
        record = {
            shown(file.address): {"sha256": summary(found), "revision": one.revision} | ({"files": found} if len(found) <= FEW else {})
            for file, one, found in zip(wanted, fetched, digests, strict=True)
        }
        return self._merge(unpacked, plain), {"addresses": record, "bytes": size}

    def _fetch(self, numbered: tuple[int, File]) -> Fetched:
        """Fetch one file or folder; a file that was put into staging by hand is taken instead."""
        number, file = numbered
        is_file = number < len(self.plan.files)
        if is_file and (name := places.name_of(file.address)) and (self.staging / name).is_file():
            return Fetched(self.staging, {name: file}, local=True)
        folder = self.staging / "parts" / str(number)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        found = places.fetch(file, folder, self.pins.revision(file.address), self.params, self.meter)
        if not is_file:
            return found
        if len(found.files) != 1 or "/" in next(iter(found.files)):
            raise InputError(f"{shown(file.address)} is a folder where one file is expected: name a file below it")
        ((name, listed),) = found.files.items()
        return Fetched(found.root, {name: file if file.trusted or not listed.trusted else listed}, found.revision, found.local)

    def _verify(self, file: File, fetched: Fetched) -> dict[str, str]:
        """SHA-256 of each file by name. Errors: InputError for bytes that are not the known ones; what was fetched of them goes."""

        def verify(name: str) -> str:
            path, known = fetched.root / name, fetched.files[name]
            sha256 = file_digest(path)
            md5 = _md5(path) if known.md5s else None
            wrong = sha256 != known.sha256 if known.sha256 else bool(md5) and md5 not in known.md5s
            size = path.stat().st_size
            if known.bytes not in (None, size):
                raise InputError(f"{shown(known.address)} has {size:,} bytes, not {known.bytes:,}: it is another file, or not whole")
            if wrong:
                self._discard(fetched)
                found = f"sha256 {sha256}" if known.sha256 else f"md5 {md5}"
                raise InputError(f"{shown(known.address)}: wrong checksum: {found}, not {known.digest}; not used: fetch it again")
            return sha256

        digests = dict(zip(fetched.files, each(verify, fetched.files, self.params.connections, self.meter), strict=True))
        self.pins.check(file.address, digests)
        return digests

    def _discard(self, fetched: Fetched) -> None:
        if not fetched.local:
            remove(fetched.root)

    def _unpack(self, fetched: list[Fetched]) -> tuple[Path, list[Fetched]]:
        """Unpack all archives into one folder. Returns it, and what is no archive."""
        root = self.staging / "unpacked"
        remove(root)
        left = list(fetched)
        for archive in self.plan.known.archives:
            parts = [left.pop(0) for _ in archive.parts]
            paths = [one.root / name for one in parts for name in one.files]
            try:
                unpack(paths, shown(archive.parts[0].address), root / archive.into, self.params)
            except DamagedError:
                for one in parts:
                    self._discard(one)
                raise
        return root, left

    def _check_layout(self, roots: list[Path]) -> None:
        """Errors: InputError naming files that should be there."""
        title = self.plan.known.title
        for name, sha256 in self.plan.known.holds.items():
            path = next((root / name for root in roots if (root / name).exists()), None)
            if path is None:
                raise InputError(f"{title}: {name} is not in what was fetched: the publisher changed it")
            if sha256 and file_digest(path) != sha256:
                raise InputError(f"{title}: {name} is not the published file (sha256 {sha256})")

    def _merge(self, unpacked: Path, plain: list[Fetched]) -> Path:
        content = self.staging / "content"
        remove(content)
        unpacked.mkdir(exist_ok=True)
        os.replace(unpacked, content)
        for one in plain:
            for name in one.files:
                target = content / name
                with writing(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(one.root / name, target) if one.local else os.replace(one.root / name, target)
        return content


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
