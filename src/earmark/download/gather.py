"""Fetch the files of a source into its staging folder, verify them, and unpack archives there while they arrive."""

import io
import json
import logging
import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import requests

from earmark import InputError
from earmark.download import archive, resolve, tree
from earmark.download.errors import shown
from earmark.download.items import Item, Items, collect
from earmark.download.part import Chain, Follower, PartFile, Placed, unwritable
from earmark.download.pins import FEW, Pins, summary
from earmark.download.plan import Plan
from earmark.download.remotes import CHUNK, Digest, Listing
from earmark.download.transfer import Transfers
from earmark.params import DownloadParams
from earmark.storage.files import remove, write_json

log = logging.getLogger(__name__)
BATCH = 500  # files that are on their way at once; a corpus may have hundreds of thousands
Open = list[tuple[Item, PartFile | Placed]]


class Gathering:
    """One source on its way into `staging`: `parts/` holds what arrives, `content/` what is whole and verified."""

    def __init__(self, plan: Plan, staging: Path, params: DownloadParams, pins: Pins, session: requests.Session, transfers: Transfers):
        self.plan, self.staging, self.params, self.pins = plan, staging, params, pins
        self.session, self.transfers = session, transfers
        self.content = staging / "content"
        self.digests: dict[str, dict[str, str]] = defaultdict(dict)
        self.bytes = 0

    def run(self) -> dict[str, Any]:
        """Fetch, verify, unpack; return what is recorded of it. Errors: InputError; ChangedError when to begin anew."""
        items = collect(self.plan, self.staging, self.pins, self._find)
        self.transfers.each(self._identify, items.all)
        sizes = [item.identity.size for item in items.all if item.identity]
        self.transfers.meter.expect(None if None in sizes else sum(size or 0 for size in sizes))
        self._keep_known(items)
        opened = [(into, [(item, item.open(self.staging, self.params)) for item in parts]) for into, parts in items.archives]
        self._start([pair for _, parts in opened for pair in parts])
        for number, (into, parts) in enumerate(opened):
            self._unpack(parts, self.staging / f"unpacked-{number}", into)
        self._take_plain(items.plain)
        self._merge(opened)
        self._check_layout()
        return {shown(address): self._record(address, items) for address in self.digests}

    def _find(self, address: str, pinned: str | None, digest: Digest) -> Listing:
        ask = self.transfers.patience(shown(address))
        return ask.persist(lambda: resolve.find(address, self.session, self.params, pinned, digest))

    def _identify(self, item: Item) -> None:
        self.transfers.patience(item.title).persist(item.identify)

    def _keep_known(self, items: Items) -> None:
        """Take what an earlier run brought as it is, unless it has changed since; throw the rest of that run away."""
        path = self.staging / "listing.json"
        now = {item.name: [item.identity.size, item.identity.tag] for item in items.plain if item.identity}
        before = json.loads(path.read_text()) if path.exists() else {}
        for file in sorted(self.content.rglob("*")):
            name = file.relative_to(self.content).as_posix()
            if (file.is_file() or file.is_symlink()) and (name not in now or before.get(name) != now[name]):
                file.unlink()
        write_json(path, now)
        for item in items.plain:
            if (here := self.content / item.name).is_file() and item.identity and (item.identity.tag or item.digest.trusted):
                item.origin = here

    def _start(self, pairs: Open) -> None:
        self.transfers.start([file for _, file in pairs if isinstance(file, PartFile)])
        self.transfers.meter.skip(sum(file.size for _, file in pairs if isinstance(file, Placed)))

    def _unpack(self, parts: Open, folder: Path, into: str) -> None:
        """Unpack an archive; its checksums are compared when all of it was read, before anything of it is used."""
        remove(folder)
        followers = [Follower(file, md5=bool(item.digest.md5)) for item, file in parts]
        zipped = parts[0][0].name.lower().endswith(".zip")
        try:
            if zipped:
                self._verify(parts, followers)
            root = tree.Tree(folder / into, parts[0][0].title, self._packed(parts), self.params)
            if zipped:
                archive.unpack_zip(parts[0][1].path, root)
            else:
                archive.unpack_tar(io.BufferedReader(Chain(followers), CHUNK), root)
                self._verify(parts, followers)
        except tree.DamagedError:
            self._verify(parts, followers)  # other bytes than they should be are the better explanation
            _discard(parts)
            raise

    def _packed(self, parts: Open) -> int:
        """Bytes of an archive, as large as is allowed at all where a size is not known."""
        sizes = [item.identity.size if item.identity else None for item, _ in parts]
        return int(self.params.max_unpacked_gb * 1e9) if None in sizes else sum(size or 0 for size in sizes)

    def _verify(self, parts: Open, followers: list[Follower]) -> None:
        """Read to the end, and compare with what is known. Errors: InputError, and the wrong bytes are thrown away."""
        for (item, file), follower in zip(parts, followers, strict=True):
            follower.drain()
            sha256, md5 = follower.sha256.hexdigest(), follower.md5.hexdigest() if follower.md5 else None
            if item.digest.trusted and sha256 != item.digest.sha256 and md5 not in item.digest.md5:
                _discard([(item, file)])
                found = f"sha256 {sha256}" if item.digest.sha256 else f"md5 {md5}"
                raise InputError(f"{item.title}: wrong checksum: {found}, not {item.digest.text}; not used: fetch it again")
            self.digests[item.address][item.name] = sha256
            self.bytes += follower.position

    def _take_plain(self, items: list[Item]) -> None:
        """Bring files over as they are: the next ones are fetched while some are verified."""
        waiting: Open = []
        for start in range(0, len(items), BATCH):
            pairs = [(item, item.open(self.staging, self.params)) for item in items[start : start + BATCH]]
            self._start(pairs)
            self._deliver(waiting)
            waiting = pairs
        self._deliver(waiting)

    def _deliver(self, pairs: Open) -> None:
        for item, file in pairs:
            self._verify([(item, file)], [Follower(file, md5=bool(item.digest.md5))])
            target = self.content / item.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(file, PartFile):
                    os.replace(file.path, target)
                    file.discard()
                elif file.path != target:
                    _copy(file.path, target)
            except OSError as error:
                raise unwritable(target, error) from error

    def _merge(self, opened: list[tuple[str, Open]]) -> None:
        """Lay unpacked archives into one folder."""
        self.content.mkdir(parents=True, exist_ok=True)
        for number in range(len(opened)):
            _move(self.staging / f"unpacked-{number}", self.content)

    def _check_layout(self) -> None:
        """Errors: InputError naming files that should be there."""
        for name, sha256 in self.plan.known.holds.items():
            path = self.content / name
            if not path.exists():
                raise InputError(f"{self.plan.known.title}: {name} is not in what was fetched: the publisher changed it")
            if sha256 and _sha256(path) != sha256:
                raise InputError(f"{self.plan.known.title}: {name} is not the published file (sha256 {sha256})")

    def _record(self, address: str, items: Items) -> dict[str, Any]:
        digests, revision = self.digests[address], items.revisions.get(address)
        self.pins.check(address, digests)
        return {"sha256": summary(digests), "revision": revision} | ({"files": digests} if len(digests) <= FEW else {})


def _discard(parts: Open) -> None:
    for _, file in parts:
        if isinstance(file, PartFile):
            file.discard()


def _sha256(path: Path) -> str:
    follower = Follower(Placed(path), md5=False)
    follower.drain()
    return follower.sha256.hexdigest()


def _copy(source: Path, target: Path) -> None:
    aside = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, aside)
    os.replace(aside, target)


def _move(source: Path, target: Path) -> None:
    """Lay a folder over another; where both have a file, the one of `source` stays."""
    if source.is_dir() and not source.is_symlink() and target.is_dir() and not target.is_symlink():
        for entry in list(source.iterdir()):
            _move(entry, target / entry.name)
        source.rmdir()
    else:
        remove(target) if not target.is_symlink() else target.unlink()
        os.replace(source, target)
