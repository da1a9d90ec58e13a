"""What a source consists of, before any of it is fetched: a known corpus or weights, or any address."""

from dataclasses import dataclass
from pathlib import Path

from earmark import InputError
from earmark.download.catalogue import Archive, File, Known, catalogue
from earmark.download.places import is_local, name_of
from earmark.download.unpack import SUFFIXES
from earmark.storage.redact import refuse_secrets, shown


@dataclass(frozen=True)
class Plan:
    """A source that goes to a folder."""

    source: str  # its name, or its address without secrets
    known: Known
    weights: bool = False

    @property
    def files(self) -> list[File]:
        """All files that are known by name beforehand."""
        return [part for archive in self.known.archives for part in archive.parts] + list(self.known.files)

    def by_hand(self, staging: Path) -> str:
        """What to put where when the source cannot be reached from here."""
        if not self.files or self.known.folders:
            place = f"and bring its folder here as {staging.with_suffix('')}"
            return f"Without network or access: run `earmark download {self.source}` where there is one, {place}"
        lines = [f"  {name_of(file.address)}  {file.digest}  from {shown(file.address)}" for file in self.files]
        return "\n".join((f"Without network or access: bring these files, put them into {staging}, and run it again:", *lines))


def plan(source: str) -> Plan:
    """Look a name up, or take an address as it is. Errors: InputError when it is neither."""
    corpora, weights = catalogue().corpora, catalogue().weights
    if known := corpora.get(source) or weights.get(source):
        return Plan(source, known, weights=source in weights)
    if is_local(source) and not Path(source).exists():
        names = ", ".join((*corpora, *weights))
        raise InputError(f"{source}: no file or folder, and no known name; known are {names}; else https://, s3://, hf://, dvc://")
    refuse_secrets(source)
    about = {"title": shown(source), "licence": None, "homepage": shown(source)}
    if source.partition("?")[0].lower().endswith(SUFFIXES) and not Path(source).is_dir():
        return Plan(shown(source), Known(**about, archives=(Archive(parts=(File(address=source),)),)))
    if source.startswith(("https://", "http://")):
        return Plan(shown(source), Known(**about, files=(File(address=source),)))
    return Plan(shown(source), Known(**about, folders=(source,)))
