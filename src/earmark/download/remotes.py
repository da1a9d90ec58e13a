"""A file somewhere else: what every kind of source offers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

CHUNK = 1 << 20


@dataclass(frozen=True)
class Identity:
    """What tells a remote file from a changed one: size in bytes and tag (None: not told); and whether ranges of it can be read."""

    size: int | None
    tag: str | None
    ranges: bool


@dataclass(frozen=True)
class Digest:
    """What a file must hash to: SHA-256, or where none is known one of some MD5s; `trusted` when any is known."""

    sha256: str | None = None
    md5: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether the file's bytes are known beforehand."""
        return bool(self.sha256 or self.md5)

    @property
    def text(self) -> str:
        """For people who bring the file by hand."""
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {' or '.join(self.md5)}" if self.md5 else "checksum not known"


UNKNOWN = Digest()


class Remote(Protocol):
    """A file that can be read in ranges. Every method may raise TransientError, ChangedError or InputError."""

    digest: Digest

    @property
    def name(self) -> str:
        """Below its target, with forward slashes."""
        ...

    @property
    def shown(self) -> str:
        """Its address without secrets."""
        ...

    def identify(self) -> Identity:
        """Ask for size and tag."""
        ...

    def read(self, start: int, end: int | None, identity: Identity) -> Iterator[bytes]:
        """Bytes from `start` to before `end` (None: to the file's end) of the very file that `identity` was of."""
        ...


@dataclass(frozen=True)
class Listing:
    """What an address stands for: one file, or all files of a folder; the exact revision, where the source has any."""

    remotes: list[Remote] = field(default_factory=list)
    folder: bool = False
    revision: str | None = None
