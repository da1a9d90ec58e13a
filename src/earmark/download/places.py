"""Where files are fetched from: https, S3, the hub, DVC repositories, this machine; each by its library, whole files at a time."""

import glob
import hashlib
import logging
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from earmark import InputError
from earmark.download.catalogue import File
from earmark.download.http import Stream
from earmark.download.progress import Meter, each
from earmark.download.unpack import CHUNK, leads_out, writing
from earmark.params import DownloadParams
from earmark.storage.redact import refuse_secrets, shown
from earmark.storage.s3 import explained, refusal, s3_client, split_s3, told

HUB = re.compile(r"hf://(?P<datasets>datasets/)?(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?")
DVC = re.compile(r"dvc://(?P<repository>.+)@(?P<revision>[^/@]+)(/(?P<path>.*))?")
HUB_CREDENTIALS = "set HF_TOKEN to a token that may read it, and accept its terms on its page if it has any"


@dataclass(frozen=True)
class Fetched:
    """Files that lie below `root` now, by name with what is known of them; the revision that they are of, where the place has any."""

    root: Path
    files: dict[str, File]
    revision: str | None = None
    local: bool = False  # the user's own: never moved


def is_local(address: str) -> bool:
    """Whether it is a folder or file of this machine. Errors: InputError for a scheme that is not known."""
    scheme, separator, _ = address.partition("://")
    if separator and scheme not in PLACES:
        raise InputError(f"{scheme}://: not known; write {', '.join(f'{one}://' for one in PLACES)} or a path")
    return not separator


def name_of(address: str) -> str:
    """Name of the one file at an address. Errors: InputError when it has none."""
    name = PurePosixPath(address if is_local(address) else unquote(urlsplit(address).path)).name
    if not name or leads_out(name):
        raise InputError(f"{shown(address)}: names no file")
    return name


def fetch(file: File, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """Fetch a file, or all files of a folder, at the `pinned` revision if there is one; what `folder` has of it already is kept.

    Errors: RemoteError, InputError.
    """
    refuse_secrets(file.address)
    if is_local(file.address):
        return _local(Path(file.address))
    return PLACES[file.address.partition("://")[0]](file, folder, pinned, params, meter)


def exact(address: str, revision: str | None) -> str:
    """The address of just the revision that was fetched, from which the same bytes come again."""
    found = HUB.fullmatch(address) or DVC.fullmatch(address)
    if found is None or revision is None:
        return address
    path = f"/{found['path']}" if found["path"] else ""
    return f"{address[: found.end('repository')]}@{revision}{path}"


def _local(path: Path) -> Fetched:
    root = path.parent if path.is_file() else path
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not found:
        raise InputError(f"{path}: neither a file nor a folder with files: check the path")
    return Fetched(root, {file.relative_to(root).as_posix(): File(address=str(file)) for file in found}, local=True)


def _http(file: File, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    name = name_of(file.address)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    Stream(file, folder / name, params, meter).fetch()
    return Fetched(folder, {name: file})


def _version(*version: str) -> str:
    """Name of the folder that files of one version are fetched to."""
    return hashlib.sha256("\n".join(version).encode()).hexdigest()[:16]


def _named(asked: str, listed: Collection[str], missing: str) -> dict[str, str]:
    """The path that was asked for, or all below it, by name. Errors: InputError when there are none, or one leads out of the folder."""
    prefix = f"{asked.rstrip('/')}/" if asked else ""
    found = {path.removeprefix(prefix): path for path in listed if path.startswith(prefix)}
    if asked in listed:
        found = {asked.rpartition("/")[2]: asked}
    if not found:
        raise InputError(missing)
    if outside := [path for name, path in found.items() if leads_out(name)]:
        raise InputError(f"{asked}: its file {outside[0]!r} leads out of the folder")
    return found


def _bring_missing(root: Path, found: dict[str, str], get: Callable[[str, Path], None], connections: int, meter: Meter) -> None:
    """Get each file that an earlier run has not brought, several at a time; each is complete or absent."""

    def bring(name: str) -> None:
        target = root / name
        if target.exists():
            return meter.skip(target.stat().st_size)
        aside = target.with_name(f".{target.name}.part")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            get(found[name], aside)
            os.replace(aside, target)

    each(bring, found, connections, meter)


def _s3(file: File, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """The object of this key, or all below it."""
    from boto3.s3.transfer import TransferConfig

    bucket, key = split_s3(file.address)
    client = s3_client(params.retries + 1, params.connections, params.timeout_seconds)
    with told(file.address):
        pages = list(client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key))
    listed = {item["Key"]: item for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")}
    found = _named(key, listed, f"{file.address}: no object has this key, and none lies below it: check the address")
    own = folder / _version(file.address, *(f"{path} {listed[path]['ETag']}" for path in found.values()))
    transfer = TransferConfig(max_concurrency=params.connections if len(found) == 1 else 1, num_download_attempts=params.retries + 1)

    def get(name: str, path: Path) -> None:
        with told(f"s3://{bucket}/{name}"):
            client.download_file(bucket, name, str(path), Callback=meter.add, Config=transfer)

    meter.expect(sum(listed[path]["Size"] for path in found.values()))
    _bring_missing(own, found, get, params.connections, meter)
    return Fetched(own, {name: File(address=f"s3://{bucket}/{path}") for name, path in found.items()})


def _hub_reason(error: BaseException) -> str | None:
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return refusal(error.response.status_code, HUB_CREDENTIALS)
    if isinstance(error, ValueError):  # a name that no repository can have
        return str(error)
    broken = isinstance(error, OSError) and error.errno is None  # as its library reports files that are not whole
    if broken or type(error).__module__.startswith("httpx"):
        return "the hub does not answer, or broke off: check the network, then run it again"
    return None


def _hub(file: File, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """A repository, or one folder or file of it, at one commit. Credentials: HF_TOKEN."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    if not (asked := HUB.fullmatch(file.address)):
        form = "hf://owner/name@revision or hf://datasets/owner/name@revision, with /path if wanted"
        raise InputError(f"{file.address}: write {form}")
    repository, path = asked["repository"], (asked["path"] or "").strip("/")
    at: dict[str, Any] = {"repo_type": "dataset" if asked["datasets"] else "model"}
    endpoint = os.environ.get("HF_ENDPOINT")
    with explained(file.address, _hub_reason):
        api = HfApi(endpoint=endpoint)
        at["revision"] = pinned or str(api.repo_info(repository, revision=asked["revision"] or "main", **at).sha)
        tree = list(api.list_repo_tree(repository, recursive=True, **at))
    listed = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    found = _named(path, listed, f"{file.address}: holds no file {path}: check the address")
    meter.expect(sum(listed[one].size for one in found.values()))
    own = folder / _version(file.address, at["revision"])
    only = [glob.escape(path), f"{glob.escape(path)}/*"] if path else None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings show addresses that hold passes to a file
    options: dict[str, Any] = {"endpoint": endpoint, "max_workers": params.connections, "tqdm_class": _counting(meter)}
    with explained(file.address, _hub_reason), writing(own):
        snapshot_download(repository, local_dir=own, allow_patterns=only, **at, **options)
    digests = {one: getattr(listed[one].lfs, "sha256", None) for one in listed}
    known = {name: File(address=f"{file.address}: {one}", sha256=digests[one]) for name, one in found.items()}
    return Fetched((own / path).parent if path in listed else own / path, known, at["revision"])


def _counting(meter: Meter) -> Any:
    """The hub's progress bars, as silent ones; that of bytes on the disk counts for ours."""
    from huggingface_hub.utils import tqdm

    class Counting(tqdm):
        def __init__(self, *arguments: Any, **options: Any):
            self.counts = options.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            meter.add(int(n or 0) if self.counts else 0)

    return Counting


def _dvc_reason(error: BaseException) -> str | None:
    """Plain words for an error of DVC, git or the remote's store; None for any other error."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from dvc.exceptions import DvcException
    from dvc.scm import CloneError, RevError
    from dvc_data.index.index import DataIndexDirError

    if isinstance(error, DataIndexDirError) and error.__cause__:
        return _dvc_reason(error.__cause__)  # the list of a folder's files could not be had: why?
    reasons: tuple[tuple[Any, str], ...] = (
        (RevError, "the repository has no such revision"),
        (CloneError, "no git repository can be had there: check the address and git's credentials"),
        (DvcException, f"DVC says: {' '.join(str(error).split())}"),
        (FileNotFoundError, "tracked, but not in the DVC remote: `dvc push` it where it was made"),
        ((PermissionError, ClientError, NoCredentialsError), "access refused: give the credentials of the DVC remote in the environment"),
        ((OSError, BotoCoreError), f"the DVC remote does not answer ({type(error).__name__}): check the network, then run it again"),
    )
    return next((reason for kinds, reason in reasons if isinstance(error, kinds)), None)


def _dvc(file: File, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """The tracked file, or all files of a tracked folder, at one commit, with the credentials of git and of the DVC remote."""
    from dvc.api import DVCFileSystem

    if not (asked := DVC.fullmatch(file.address)):
        form = "dvc://REPOSITORY@REVISION/PATH, where REPOSITORY is a folder or an address of git"
        raise InputError(f"{shown(file.address)}: write {form}")
    path = (asked["path"] or "").strip("/")
    public = shown(file.address)
    with explained(public, _dvc_reason):
        system = DVCFileSystem(asked["repository"], rev=asked["revision"])
        commit = system.repo.get_rev()
        listed: dict[str, Any] = {path: system.info(path)} if system.isfile(path) else system.find(path, detail=True)
    found = _named(path, listed, f"{public}: nothing is tracked there: check path and revision")
    own = folder / _version(file.address, commit)

    def get(entry: str, aside: Path) -> None:
        with explained(f"{public}:{entry}", _dvc_reason), system.open(entry, "rb") as source, aside.open("wb") as stream:
            while chunk := source.read(CHUNK):  # DVC's own get may link to a cache on this machine
                with writing(aside):
                    stream.write(chunk)
                meter.add(len(chunk))

    _bring_missing(own, found, get, params.connections, meter)
    digests = {entry: (about["md5"],) if "md5" in about else () for entry, about in listed.items()}
    known = {name: File(address=f"{public}:{entry}", md5=digests[entry]) for name, entry in found.items()}
    return Fetched(own, known, commit)


PLACES = {"https": _http, "http": _http, "s3": _s3, "hf": _hub, "dvc": _dvc}
