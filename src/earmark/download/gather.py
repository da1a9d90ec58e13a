"""All files of a source: fetched, verified, unpacked, and laid into one folder."""

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
                self._discard(fetched)
                raise InputError(f"{shown(fetched.files[name].address)}{fault}")
            return sha256

        digests = dict(zip(fetched.files, each(verify, fetched.files, self.params.connections, self.meter), strict=True))
        self.pins.check(file.address, digests)
        return {"sha256": summary(digests), "revision": fetched.revision} | ({"files": digests} if len(digests) <= FEW else {})

    def _discard(self, fetched: Fetched) -> None:
        if not fetched.local:
            remove(fetched.root)

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
                    self._discard(one)
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
