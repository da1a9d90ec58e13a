"""Where files are fetched from: https, S3, the hub, DVC repositories, this machine; each by its library, whole files at a time."""

import errno
import glob
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from earmark import InputError
from earmark.download.catalogue import File
from earmark.download.http import Stream
from earmark.download.progress import Meter, each
from earmark.download.unpack import CHUNK, writing
from earmark.params import DownloadParams
from earmark.storage.files import remove
from earmark.storage.redact import refuse_secrets, shown
from earmark.storage.s3errors import explained, refusal, told

SCHEMES = ("https", "http", "s3", "hf", "dvc")
HUB_CREDENTIALS = "set HF_TOKEN to a token that may read it, and accept its terms on its page if it has any"
DVC_FORM = "write dvc://REPOSITORY@REVISION/PATH, where REPOSITORY is a folder or an address of git"


Get = Callable[[str, Path], None]  # writes one entry to a path


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
    if separator and scheme not in SCHEMES:
        raise InputError(f"{scheme}://: not known; write {', '.join(f'{one}://' for one in SCHEMES)} or a path")
    return not separator


def name_of(address: str) -> str:
    """Name of the one file at an address. Errors: InputError when it has none."""
    name = PurePosixPath(address if is_local(address) else unquote(urlsplit(address).path)).name
    if not name or name == "..":
        raise InputError(f"{shown(address)}: names no file")
    return name


def fetch(file: File, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """Fetch a file, or all files of a folder, at the `pinned` revision if there is one; what `folder` has of it already is kept.

    Errors: RemoteError, InputError.
    """
    refuse_secrets(file.address)
    if is_local(file.address):
        return _local(Path(file.address))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    scheme = file.address.partition("://")[0]
    if scheme in ("http", "https"):
        name = name_of(file.address)
        Stream(file, folder / name, params, meter).fetch()
        return Fetched(folder, {name: file})
    place = {"s3": _s3, "hf": _hub, "dvc": _dvc}[scheme]
    return place(file.address, folder, pinned, params, meter)


def exact(address: str, revision: str | None) -> str:
    """The address of just the revision that was fetched, from which the same bytes come again."""
    if revision is None:
        return address
    if address.startswith("hf://"):
        kind, repository, _, path = _split_hub(address)
        return f"hf://{'datasets/' if kind == 'dataset' else ''}{repository}@{revision}/{path}".rstrip("/")
    repository, _, path = _split_dvc(address)
    return f"dvc://{repository}@{revision}/{path}"


def _local(path: Path) -> Fetched:
    root = path.parent if path.is_file() else path
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not found:
        raise InputError(f"{path}: neither a file nor a folder with files: check the path")
    return Fetched(root, {file.relative_to(root).as_posix(): File(address=str(file)) for file in found}, local=True)


def _version(folder: Path, version: str) -> Path:
    """The folder for files of one version; what an earlier run fetched of another one goes."""
    own = folder / hashlib.sha256(version.encode()).hexdigest()[:16]
    with writing(own):
        own.mkdir(exist_ok=True)
    for other in folder.iterdir():
        if other != own:
            remove(other)
    return own


def _named(path: str, asked: str) -> str:
    """Name of a file below the one, or the folder, that was asked for. Errors: InputError when it leads out."""
    name = path.rpartition("/")[2] if path == asked else path.removeprefix(f"{asked.rstrip('/')}/" if asked else "")
    if name.startswith("/") or ".." in name.split("/"):
        raise InputError(f"{asked}: its file {path!r} leads out of the folder")
    return name


def _bring_missing(fetched: Fetched, entries: list[str], get: Get, params: DownloadParams, meter: Meter) -> Fetched:
    """Get each entry that an earlier run has not brought, several at a time; each is complete or absent."""

    def bring(named: tuple[str, str]) -> None:
        entry, target = named[0], fetched.root / named[1]
        if target.exists():
            return meter.skip(target.stat().st_size)
        aside = target.with_name(f".{target.name}.part")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            get(entry, aside)
            os.replace(aside, target)

    each(bring, list(zip(entries, fetched.files, strict=True)), params.connections, meter)
    return fetched


def split_s3(address: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key. Errors: InputError when there is no bucket."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{address}: write s3://bucket/key, or s3://bucket/prefix for a folder")
    return bucket, key


def s3_client(params: DownloadParams) -> Any:
    """A client; credentials, region and AWS_ENDPOINT_URL come from the environment, as everywhere with boto3."""
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": params.retries + 1}
    timeout = params.timeout_seconds
    config = Config(retries=retries, max_pool_connections=params.connections, connect_timeout=timeout, read_timeout=timeout)
    return boto3.Session().client("s3", config=config)


def _s3(address: str, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """The object of this key, or all below it. boto3's transfer puts an object in its place when it is whole."""
    from boto3.s3.transfer import TransferConfig

    bucket, key = split_s3(address)
    client, prefix = s3_client(params), f"{key.rstrip('/')}/" if key else ""
    with told(address):
        pages = list(client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key))
    listed = {item["Key"]: item for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")}
    found = {key: listed[key]} if key in listed else {name: item for name, item in listed.items() if name.startswith(prefix)}
    if not found:
        raise InputError(f"{address}: no object has this key, and none lies below it: check the address")
    own = _version(folder, "\n".join((address, *(f"{name} {item['ETag']}" for name, item in found.items()))))
    transfer = TransferConfig(max_concurrency=params.connections if len(found) == 1 else 1, num_download_attempts=params.retries + 1)

    def get(name: str, path: Path) -> None:
        with told(f"s3://{bucket}/{name}"):
            client.download_file(bucket, name, str(path), Callback=meter.add, Config=transfer)

    known = {_named(name, key): File(address=f"s3://{bucket}/{name}") for name in found}
    meter.expect(sum(item["Size"] for item in found.values()))
    return _bring_missing(Fetched(own, known), list(found), get, params, meter)


def _split_hub(address: str) -> tuple[str, str, str, str]:
    """Kind (model, dataset), repository, revision and path."""
    body = address.removeprefix("hf://")
    kind = "dataset" if body.startswith("datasets/") else "model"
    owner, name, *path = [*body.removeprefix("datasets/").split("/", 2), ""][:3]
    name, _, revision = name.partition("@")
    if not owner or not name:
        raise InputError(f"{address}: write hf://owner/name@revision or hf://datasets/owner/name@revision, with /path if wanted")
    return kind, f"{owner}/{name}", revision or "main", "".join(path).strip("/")


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


def _hub(address: str, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """A repository, or one folder or file of it, at one commit. Credentials: HF_TOKEN."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    kind, repository, revision, path = _split_hub(address)
    endpoint = os.environ.get("HF_ENDPOINT")
    with explained(address, _hub_reason):
        api = HfApi(endpoint=endpoint)
        commit = pinned or str(api.repo_info(repository, revision=revision, repo_type=kind).sha)
        at: dict[str, Any] = {"repo_type": kind, "revision": commit}
        listed = [entry for entry in api.list_repo_tree(repository, recursive=True, **at) if isinstance(entry, RepoFile)]
    found = [entry for entry in listed if not path or entry.path == path or entry.path.startswith(f"{path}/")]
    if not found:
        raise InputError(f"{address}: holds no file {path}: check the address")
    meter.expect(sum(entry.size for entry in found))
    own = _version(folder, f"{address} {commit}")
    only = [glob.escape(path), f"{glob.escape(path)}/*"] if path else None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings show addresses that hold passes to a file
    options: dict[str, Any] = {"endpoint": endpoint, "max_workers": params.connections, "tqdm_class": _counting(meter)}
    with explained(address, _hub_reason), writing(own):
        snapshot_download(repository, local_dir=own, allow_patterns=only, **at, **options)
    digests = {entry.path: entry.lfs.sha256 if entry.lfs else None for entry in found}
    known = {_named(name, path): File(address=f"{address}: {name}", sha256=digest) for name, digest in digests.items()}
    return Fetched((own / path).parent if path in digests else own / path, known, commit)


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


def _split_dvc(address: str) -> tuple[str, str, str]:
    """Repository, revision and path."""
    repository, at, rest = address.removeprefix("dvc://").rpartition("@")
    revision, _, path = rest.partition("/")
    if not at or not repository or not revision:
        raise InputError(f"{shown(address)}: {DVC_FORM}")
    return repository, revision, path.strip("/")


def _dvc_reason(error: BaseException) -> str | None:
    """Plain words for an error of DVC, git or the remote's store; None for any other error."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from dvc.exceptions import DvcException
    from dvc.scm import CloneError, RevError
    from dvc_data.index.index import DataIndexDirError

    if isinstance(error, DataIndexDirError) and error.__cause__:
        return _dvc_reason(error.__cause__)  # the list of a folder's files could not be had: why?
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    reasons: tuple[tuple[Any, str], ...] = (
        (RevError, "the repository has no such revision"),
        (CloneError, "no git repository can be had there: check the address and git's credentials"),
        (DvcException, f"DVC says: {' '.join(str(error).split())}"),
        (FileNotFoundError, "tracked, but not in the DVC remote: `dvc push` it where it was made"),
        ((PermissionError, ClientError, NoCredentialsError), "access refused: give the credentials of the DVC remote in the environment"),
        ((OSError, BotoCoreError), f"the DVC remote does not answer ({type(error).__name__}): check the network, then run it again"),
    )
    return next((reason for kinds, reason in reasons if isinstance(error, kinds)), None)


def _dvc(address: str, folder: Path, pinned: str | None, params: DownloadParams, meter: Meter) -> Fetched:
    """The tracked file, or all files of a tracked folder, at one commit, with the credentials of git and of the DVC remote."""
    from dvc.api import DVCFileSystem

    repository, revision, path = _split_dvc(address)
    public = f"dvc://{shown(repository)}@{revision}/{path}"
    with explained(public, _dvc_reason):
        system = DVCFileSystem(repository, rev=revision)
        scm = system.repo.scm
        commit = scm.resolve_rev(revision) if hasattr(scm, "resolve_rev") else system.repo.get_rev()
        found: dict[str, Any] = {path: system.info(path)} if system.isfile(path) else system.find(path, detail=True)
    if not found:
        raise InputError(f"{public}: nothing is tracked there: check path and revision")
    own = _version(folder, f"{address} {commit}")

    def get(entry: str, aside: Path) -> None:
        with explained(f"{public}:{entry}", _dvc_reason), system.open(entry, "rb") as source, aside.open("wb") as stream:
            while chunk := source.read(CHUNK):  # DVC's own get may link to a cache on this machine
                stream.write(chunk)
                meter.add(len(chunk))

    known = {_named(entry, path): File(address=f"{public}:{entry}", md5=_dvc_md5(info)) for entry, info in found.items()}
    return _bring_missing(Fetched(own, known, commit), list(found), get, params, meter)


def _dvc_md5(info: dict[str, Any]) -> tuple[str, ...]:
    kept = getattr((info.get("dvc_info") or {}).get("entry"), "hash_info", None)
    return (kept.value,) if kept and kept.name == "md5" and not kept.value.endswith(".dir") else ()
