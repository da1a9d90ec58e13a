"""From an address to the files that it stands for."""

from pathlib import Path

import requests

from earmark import InputError
from earmark.download.errors import refuse_secrets
from earmark.download.http import HttpFile, name_of
from earmark.download.remotes import Digest, Listing
from earmark.params import DownloadParams

SCHEMES = ("https", "http", "s3", "hf", "dvc")


def is_local(address: str) -> bool:
    """Whether it is a folder or file of this machine. Errors: InputError for a scheme that is not known."""
    scheme, separator, _ = address.partition("://")
    if separator and scheme not in SCHEMES:
        raise InputError(f"{scheme}://: not known; write {', '.join(f'{one}://' for one in SCHEMES)} or a path")
    return not separator


def find(address: str, session: requests.Session, params: DownloadParams, pinned: str | None, digest: Digest) -> Listing:
    """Files of an address that is not of this machine; `digest` is what is known of the one file it names. Errors: see Remote."""
    refuse_secrets(address)
    scheme = address.partition("://")[0]
    if scheme in ("http", "https"):
        return Listing([HttpFile(address, name_of(address), session, params.timeout_seconds, digest)])
    listing = _find(scheme, address, session, params, pinned)
    if not listing.folder and digest.trusted:
        listing.remotes[0].digest = digest
    return listing


def _find(scheme: str, address: str, session: requests.Session, params: DownloadParams, pinned: str | None) -> Listing:
    if scheme == "s3":
        from earmark.download import s3

        return s3.find(address, params.connections, params.timeout_seconds)
    if scheme == "hf":
        from earmark.download import hub

        return hub.find(address, session, params.timeout_seconds, pinned)
    from earmark.download import dvc_remote

    return dvc_remote.find(address)


def exact(address: str, revision: str | None) -> str:
    """The address of just the revision that was fetched, from which the same bytes come again."""
    if revision is None:
        return address
    if address.startswith("hf://"):
        from earmark.download import hub

        return hub.at(address, revision)
    from earmark.download import dvc_remote

    return dvc_remote.at(address, revision)


def local_files(path: Path) -> dict[str, Path]:
    """Files by name: one, or all below a folder. Errors: InputError when there is nothing."""
    if path.is_file():
        return {path.name: path}
    found = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    if not found:
        raise InputError(f"{path}: neither a file nor a folder with files: check the path")
    return found
