"""Files of the Hugging Face hub: hf://datasets/owner/name@revision/path or hf://owner/name@revision. Credentials: HF_TOKEN."""

import os
from dataclasses import dataclass

import requests

from earmark import InputError
from earmark.download.errors import RemoteError, TransientError, answered
from earmark.download.http import HttpFile
from earmark.download.remotes import Digest, Identity, Listing, Remote

SECRET = "set HF_TOKEN to a token that may read it, and accept its terms on its page if it has any"


@dataclass(frozen=True)
class HubAddress:
    """Parts of an address; `path` is a file, a folder, or empty for all."""

    kind: str  # model or dataset
    repository: str
    revision: str
    path: str


@dataclass
class HubFile(HttpFile):
    """A file at one commit, which cannot change: its size is listed, and the tags of the servers behind the hub mean nothing.

    Ranges are asked of large files alone; small ones lie on another kind of server.
    """

    size: int = 0
    commit: str = ""
    large: bool = False

    def identify(self) -> Identity:
        """As it was listed."""
        return Identity(self.size, f"W/{self.commit}", self.large and self.size > 0)

    def _same(self, answer: requests.Response, size: int | None, identity: Identity) -> bool:
        return size is None or size == identity.size


def parse(address: str) -> HubAddress:
    """Split an address. Errors: InputError saying how to write one."""
    body = address.removeprefix("hf://")
    kind = "dataset" if body.startswith("datasets/") else "model"
    parts = body.removeprefix("datasets/").split("/", 2)
    if len(parts) < 2 or not all(parts[:2]):
        raise InputError(f"{address}: write hf://owner/name@revision or hf://datasets/owner/name@revision, with /path if wanted")
    name, _, revision = parts[1].partition("@")
    return HubAddress(kind, f"{parts[0]}/{name}", revision or "main", parts[2].strip("/") if len(parts) > 2 else "")


def at(address: str, revision: str) -> str:
    """The address with another revision."""
    found = parse(address)
    return f"hf://{'datasets/' if found.kind == 'dataset' else ''}{found.repository}@{revision}/{found.path}".rstrip("/")


def find(address: str, session: requests.Session, timeout: float, pinned: str | None) -> Listing:
    """Its files at one commit: the `pinned` one, or the one that its revision is at now. Errors: see Remote."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    at, endpoint = parse(address), os.environ.get("HF_ENDPOINT")
    api, headers = HfApi(endpoint=endpoint), {key: str(value) for key, value in build_hf_headers().items() if key == "authorization"}
    commit, entries = _list(api, at, pinned, address)
    if not entries:
        raise InputError(f"{address}: holds no file {at.path}: check the address")
    one = entries[0].path == at.path
    remotes: list[Remote] = []
    for entry in entries:
        name = entry.path.rpartition("/")[2] if one else entry.path.removeprefix(f"{at.path}/")
        url = hf_hub_url(at.repository, entry.path, repo_type=at.kind, revision=commit, endpoint=endpoint)
        digest = Digest(sha256=entry.lfs.sha256) if entry.lfs else Digest()
        remotes.append(HubFile(url, name, session, timeout, digest, headers, SECRET, entry.size, commit, bool(entry.lfs)))
    return Listing(remotes, folder=not one, revision=commit)


def _list(api, at: HubAddress, pinned: str | None, address: str) -> tuple[str, list]:
    """Commit and files. The hub's library retries little, and its errors say what the server does."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    try:
        commit = pinned or str(api.repo_info(at.repository, revision=at.revision, repo_type=at.kind).sha)
        asked = {"repo_type": at.kind, "revision": commit}
        if at.path and (found := [one for one in api.get_paths_info(at.repository, [at.path], **asked) if isinstance(one, RepoFile)]):
            return commit, found
        tree = api.list_repo_tree(at.repository, at.path or None, recursive=True, **asked)
        return commit, [one for one in tree if isinstance(one, RepoFile)]
    except HfHubHTTPError as error:
        answered(error.response.status_code, address, secret=SECRET)
        raise RemoteError(f"{address}: the hub answers {error.response.status_code}") from None
    except Exception as error:
        if isinstance(error, ValueError):  # a name that no repository can have
            raise RemoteError(f"{address}: {error}") from None
        if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
            raise TransientError("the hub does not answer") from None
        raise
