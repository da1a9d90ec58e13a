"""Files that a DVC repository tracks: dvc://REPOSITORY@REVISION/PATH. Credentials: those of git and of the DVC remote."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.download.errors import RemoteError, TransientError, shown
from earmark.download.remotes import CHUNK, Digest, Identity, Listing, Remote

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

FORM = "write dvc://REPOSITORY@REVISION/PATH, where REPOSITORY is a folder or an address of git"


def parse(address: str) -> tuple[str, str, str]:
    """Repository, revision and path. Errors: InputError saying how to write one."""
    repository, at, rest = address.removeprefix("dvc://").rpartition("@")
    revision, _, path = rest.partition("/")
    if not at or not repository or not revision:
        raise InputError(f"{shown(address)}: {FORM}")
    return repository, revision, path.strip("/")


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if (told := _explained(address, error)) is None:
            raise
        raise told from None


def _explained(address: str, error: Exception) -> Exception | None:
    """What is said of an error of DVC, git or the remote's store; None of any other."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from dvc.exceptions import DvcException
    from dvc.scm import CloneError, RevError
    from dvc_data.index.index import DataIndexDirError

    if isinstance(error, DataIndexDirError) and isinstance(error.__cause__, Exception):
        return _explained(address, error.__cause__)  # the list of a folder's files could not be had: why?
    if isinstance(error, RevError):
        return RemoteError(f"{address}: the repository has no such revision")
    if isinstance(error, CloneError):
        return RemoteError(f"{address}: no git repository can be had there: check the address and git's credentials")
    if isinstance(error, DvcException):
        return RemoteError(f"{address}: DVC says: {' '.join(str(error).split())}")
    if isinstance(error, FileNotFoundError):
        return RemoteError(f"{address}: tracked, but not in the DVC remote: `dvc push` it where it was made")
    if isinstance(error, (PermissionError, ClientError, NoCredentialsError)):
        return RemoteError(f"{address}: access refused: give the credentials of the DVC remote in the environment")
    if isinstance(error, (OSError, BotoCoreError)):
        return TransientError(f"the DVC remote does not answer ({type(error).__name__})")
    return None


def at(address: str, revision: str) -> str:
    """The address with another revision."""
    repository, _, path = parse(address)
    return f"dvc://{repository}@{revision}/{path}"


@dataclass
class DvcFile:
    """One file at one revision: it cannot change."""

    path: str
    name: str
    shown: str
    digest: Digest
    fs: "DVCFileSystem" = field(repr=False)

    def identify(self) -> Identity:
        """DVC does not keep the sizes of a folder's files: the remote tells."""
        with _told(self.shown), self.fs.open(self.path, "rb") as stream:
            return Identity(stream.seek(0, 2), self.digest.md5[0] if self.digest.md5 else None, True)

    def read(self, start: int, end: int | None, identity: Identity) -> Iterator[bytes]:
        """See Remote."""
        with _told(self.shown), self.fs.open(self.path, "rb") as stream:
            stream.seek(start)
            left = (identity.size if end is None else end) or 0
            left -= start
            while left > 0 and (chunk := stream.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk


def find(address: str) -> Listing:
    """The tracked file, or all of a tracked folder. Errors: InputError when there is neither, or no such repository or revision."""
    from dvc.api import DVCFileSystem

    repository, revision, path = parse(address)
    public = f"dvc://{shown(repository)}@{revision}/{path}"
    with _told(public):
        fs = DVCFileSystem(repository, rev=revision)
        commit = fs.repo.get_rev() if not hasattr(fs.repo.scm, "resolve_rev") else fs.repo.scm.resolve_rev(revision)
        found: dict[str, Any] = {path: fs.info(path)} if fs.isfile(path) else fs.find(path, detail=True)
    if not found:
        raise InputError(f"{public}: nothing is tracked there: check path and revision")
    one = list(found) == [path]
    remotes: list[Remote] = [
        DvcFile(entry, entry.rpartition("/")[2] if one else entry.removeprefix(f"{path}/"), f"{public}:{entry}", _digest(info), fs)
        for entry, info in found.items()
    ]
    return Listing(remotes, folder=not one, revision=commit)


def _digest(info: dict[str, Any]) -> Digest:
    entry = (info.get("dvc_info") or {}).get("entry")
    kept = getattr(entry, "hash_info", None)
    return Digest(md5=(kept.value,)) if kept and kept.name == "md5" and not kept.value.endswith(".dir") else Digest()
