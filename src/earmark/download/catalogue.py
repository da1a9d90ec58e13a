"""The registry of sources, sources.yaml: public corpora and weights with addresses, checksums, licence and layout."""

import functools
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from earmark.params.strict import parse_yaml
from earmark.storage.files import file_digest


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Entry):
    """A file: its address, and what is known of its bytes. SHA-256 decides; several MD5s are of editions that differ in nothing read."""

    address: str
    bytes: int | None = None
    sha256: str | None = None
    md5: tuple[str, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests of which its bytes have one, in words: the SHA-256 where it is known."""
        return (f"sha256 {self.sha256}",) if self.sha256 else tuple(f"md5 {one}" for one in self.md5)

    @property
    def digest(self) -> str:
        """The digests in words, for people who bring the file by hand."""
        return " or ".join(self.digests) or "checksum not known"

    def fault(self, path: Path, sha256: str) -> str | None:
        """Reason to refuse an arrived file; None when it has the expected digest."""
        size = path.stat().st_size
        if self.bytes not in (None, size):
            return f" has {size:,} bytes, not {self.bytes:,}: it is another file, or not whole"
        found = f"md5 {file_digest(path, 'md5')}" if self.md5 and not self.sha256 else f"sha256 {sha256}"
        if not self.digests or found in self.digests:
            return None
        return f": wrong checksum: {found}, not {self.digest}; not used: fetch it again"


class Archive(_Entry):
    """An archive, and the folder that it is unpacked to; `parts` are the pieces of one archive that was cut up, mostly one."""

    parts: tuple[File, ...]
    into: str = ""


class Known(_Entry):
    """A corpus, or weights. `holds`: files that must lie there in the end, with their SHA-256 where it is known."""

    title: str
    licence: str | None
    homepage: str
    gigabytes: float | None = None
    archives: tuple[Archive, ...] = ()
    files: tuple[File, ...] = ()
    folders: tuple[str, ...] = ()
    holds: dict[str, str | None] = {}


class Catalogue(_Entry):
    """All that is known by name."""

    corpora: dict[str, Known]
    weights: dict[str, Known]


@functools.cache
def catalogue() -> Catalogue:
    """Read sources.yaml, which is part of the package."""
    raw = files("earmark.download").joinpath("sources.yaml").read_bytes()
    return Catalogue.model_validate(parse_yaml(raw, "sources.yaml"))
