"""The command `earmark download NAME|URI …`; without any it is the stage."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from earmark import InputError
from earmark.download.catalogue import Known, catalogue
from earmark.download.fetch import fetch
from earmark.download.plan import plan
from earmark.download.unpack import stem
from earmark.params import DownloadParams
from earmark.storage.redact import shown

WEIGHTS = Path("weights")


def show() -> None:
    """Print what is known by name."""
    table = Table("name", "what", "GB", "licence", "checksums", "where")
    for known in (catalogue().corpora, catalogue().weights):
        for name, source in known.items():
            size = f"{source.gigabytes:g}" if source.gigabytes else "–"
            table.add_row(name, source.title, size, source.licence or "not known", _checksums(name, source), source.homepage)
    Console().print(table)


def _checksums(name: str, source: Known) -> str:
    files = plan(name).files
    known = sum(bool(file.digests) for file in files)
    return "pinned at first use" if source.folders or not known else "published" if known == len(files) else f"{known} of {len(files)}"


def download(sources: list[str], weights: list[str], to: str | None, params: DownloadParams, place: Path) -> None:
    """Fetch sources below `place`, weights below weights/, or both below `to`; to an object store they are copied afterwards.

    Errors: InputError for a name that is not known, two sources of one name, or anything that fails on the way.
    """
    for name in weights:
        if name not in catalogue().weights:
            raise InputError(f"--weights {name}: not known; known are {', '.join(catalogue().weights)}")
    far = to if to and to.startswith("s3://") else None
    if to and not far and "://" in to:
        raise InputError(f"--to {shown(to)}: name a folder or s3://bucket/prefix")
    wanted = [(source, Path(to) if to and not far else WEIGHTS if plan(source).weights else place) for source in [*sources, *weights]]
    targets = [base / folder_name(source) for source, base in wanted]
    if len(set(targets)) < len(targets):
        raise InputError("two of the sources would go to one folder: fetch them one by one, each with a --to of its own")
    for (source, _), target in zip(wanted, targets, strict=True):
        fetch(source, target, params)
        if far:
            from earmark.download.mirror import mirror

            mirror(target, f"{far.rstrip('/')}/{target.name}", params)


def folder_name(source: str) -> str:
    """The folder that a source goes to: its name, or the last part of its address."""
    last = shown(source).rstrip("/").rpartition("/")[2]
    if source.startswith("hf://"):
        last = last.partition("@")[0] or last
    return stem(last) or "download"
