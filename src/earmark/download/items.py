"""The files of a source, one by one: where each comes from, and what it must hash to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from earmark import InputError
from earmark.download.catalogue import File
from earmark.download.part import PartFile, Placed
from earmark.download.pins import Pins
from earmark.download.plan import Plan, name
from earmark.download.remotes import Digest, Identity, Listing, Remote
from earmark.download.resolve import is_local, local_files
from earmark.params import DownloadParams

Find = Callable[[str, str | None, Digest], Listing]  # address, pinned revision, what is known of its bytes


@dataclass
class Item:
    """A file; `address` is what it is pinned under: its own, or that of the folder that it is of."""

    name: str
    address: str
    origin: Remote | Path
    digest: Digest
    size: int | None = None
    identity: Identity | None = None

    @property
    def title(self) -> str:
        """What to call it."""
        return str(self.origin) if isinstance(self.origin, Path) else self.origin.shown

    def identify(self) -> None:
        """Ask for size and tag. Errors: InputError when the size is not the one that is known."""
        if isinstance(self.origin, Path):
            stat = self.origin.stat()
            self.identity = Identity(stat.st_size, str(stat.st_mtime_ns), True)
        else:
            self.identity = self.origin.identify()
        if None not in (self.size, self.identity.size) and self.size != self.identity.size:
            raise InputError(f"{self.title} has {self.identity.size:,} bytes, not {self.size:,}: it is another file, or not whole")

    def open(self, staging: Path, params: DownloadParams) -> PartFile | Placed:
        """The bytes that are here, and what fetches the others."""
        if isinstance(self.origin, Path):
            return Placed(self.origin)
        assert self.identity is not None
        return PartFile(self.origin, staging / "parts" / f"{self.name}.part", self.identity, params.piece_mb)


@dataclass
class Items:
    """All files of a source: those of its archives with the folder each archive goes to, and those that are taken as they are."""

    archives: list[tuple[str, list[Item]]] = field(default_factory=list)
    plain: list[Item] = field(default_factory=list)
    revisions: dict[str, str | None] = field(default_factory=dict)

    @property
    def all(self) -> list[Item]:
        """Every file."""
        return [item for _, parts in self.archives for item in parts] + self.plain


def collect(plan: Plan, staging: Path, pins: Pins, find: Find) -> Items:
    """Find all files of a plan; what was put into `staging` by hand is not asked for. Errors: see Remote."""
    items = Items()

    def one(file: File) -> Item:
        path = staging / name(file.address) if not is_local(file.address) else Path(file.address)
        if path.is_file():
            return Item(path.name, file.address, path, file.digest, file.bytes)
        listing = find(file.address, pins.revision(file.address), file.digest)
        if listing.folder:
            raise InputError(f"{file.address} is a folder where one file is expected: name a file below it")
        items.revisions[file.address] = listing.revision
        (remote,) = listing.remotes
        return Item(remote.name, file.address, remote, remote.digest, file.bytes)

    items.archives = [(archive.into, [one(part) for part in archive.parts]) for archive in plan.known.archives]
    items.plain = [one(file) for file in plan.known.files]
    for address in plan.known.folders:
        items.plain += _folder(address, pins, find, items)
    return items


def _folder(address: str, pins: Pins, find: Find, items: Items) -> list[Item]:
    if is_local(address):
        return [Item(name, address, path, Digest()) for name, path in local_files(Path(address)).items()]
    listing = find(address, pins.revision(address), Digest())
    items.revisions[address] = listing.revision
    for remote in listing.remotes:
        if remote.name.startswith("/") or ".." in remote.name.split("/"):
            raise InputError(f"{address}: its file {remote.name!r} leads out of the folder")
    return [Item(remote.name, address, remote, remote.digest) for remote in listing.remotes]
