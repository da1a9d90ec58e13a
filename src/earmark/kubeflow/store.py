"""What a cluster's steps hand each other: large objects named by their own digest, and small pointers that say which files they hold.

A store is a folder (a shared volume) or a prefix of an S3 bucket. Small files lie together in one object, so that a folder of many
files becomes few large ones. Equal content is stored once.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

from earmark import InputError
from earmark.kubeflow.pointer import File, Pointer, by_object
from earmark.storage.files import complete, file_digest

log = logging.getLogger(__name__)
PACK = 64 * 1024**2  # bytes; smaller files share an object of about this size
TRANSFERS = 8  # objects moved at a time
OBJECTS, STEPS = "objects", "steps"


class Gone(InputError):
    """Objects that a pointer names are no longer in the store."""


class Store(Protocol):
    """Named objects, complete or absent."""

    @property
    def place(self) -> str:
        """Its address."""
        ...

    def has(self, name: str) -> bool:
        """Whether the object is there."""
        ...

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the store."""
        ...

    def get(self, name: str, target: Path) -> None:
        """Copy an object to a file, or link it. Errors: Gone."""
        ...


@dataclass(frozen=True)
class Folder:
    """A store on a file system; what it hands out is linked where it can be, so nobody may write to it."""

    root: Path

    @property
    def place(self) -> str:
        """Its address."""
        return str(self.root)

    def has(self, name: str) -> bool:
        """Whether the object is there."""
        return (self.root / name).is_file()

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the store."""
        own = self.root / f"{name}.{uuid4().hex}"  # equal content may come from several workers at once
        with complete(own) as aside:
            shutil.copyfile(source, aside)
            aside.chmod(0o444)
        os.replace(own, self.root / name)

    def get(self, name: str, target: Path) -> None:
        """Link or copy an object to a file. Errors: Gone."""
        try:
            with contextlib.suppress(OSError):
                os.link(self.root / name, target)
                return
            shutil.copyfile(self.root / name, target)
        except FileNotFoundError as error:
            raise Gone(f"{self.root / name} is gone") from error


class Bucket:
    """A store below a prefix of an S3 bucket; endpoint and credentials are those of the standard environment (AWS_ENDPOINT_URL, …)."""

    def __init__(self, place: str):
        import boto3
        from botocore.config import Config

        parts = urlsplit(place)
        self.place = place
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        retries: Any = {"mode": "standard"}
        if "AWS_MAX_ATTEMPTS" not in os.environ:  # which a Config would have its own way over
            retries["total_max_attempts"] = 9
        self.client = boto3.client("s3", config=Config(retries=retries, max_pool_connections=4 * TRANSFERS))

    def has(self, name: str) -> bool:
        """Whether the object is there."""
        from botocore.exceptions import ClientError

        try:
            self._say(lambda: self.client.head_object(Bucket=self.bucket, Key=self._key(name)))
        except ClientError:
            return False
        return True

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the store."""
        self._say(lambda: self.client.upload_file(str(source), self.bucket, self._key(name)))

    def get(self, name: str, target: Path) -> None:
        """Copy an object to a file. Errors: Gone."""
        from botocore.exceptions import ClientError

        try:
            self._say(lambda: self.client.download_file(self.bucket, self._key(name), str(target)))
        except ClientError as error:
            raise Gone(f"{self.place}/{name} is gone") from error

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _say(self, call: Any) -> None:
        """Run a call; an object that is not there is the caller's business, everything else becomes a clear error."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                raise
            raise InputError(f"{self.place}: {error}: see to the bucket and to the credentials in the environment") from error
        except (Boto3Error, BotoCoreError) as error:
            raise InputError(f"{self.place}: {error}: see to the endpoint (AWS_ENDPOINT_URL) and to the credentials") from error


def open_store(place: str) -> Store:
    """s3://bucket/prefix, or a folder. Errors: InputError for another scheme."""
    scheme = urlsplit(place).scheme
    if scheme == "s3":
        return Bucket(place.rstrip("/"))
    if scheme not in ("", "file"):
        raise InputError(f"store {place}: s3://bucket/prefix or a folder, nothing else")
    return Folder(Path(urlsplit(place).path).resolve())


def save(path: Path, store: Store, scratch: Path) -> Pointer:
    """Put a file or folder into the store, skipping objects that it has; `scratch` takes packs on their way."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    names = {file: file.relative_to(path).as_posix() if path.is_dir() else "" for file in files}
    with ThreadPoolExecutor(TRANSFERS) as pool:
        found = [file for part in pool.map(lambda pack: _save_pack(pack, names, store, scratch), _packs(files)) for file in part]
    return Pointer(store.place, tuple(sorted(found, key=lambda file: file.path)))


def load(pointer: Pointer, target: Path, store: Store) -> None:
    """Fetch what the pointer names to `target`, complete or not at all, every file compared with its digest. Errors: Gone, InputError."""
    with complete(target) as aside:
        if [file.path for file in pointer.files] != [""]:
            aside.mkdir(parents=True)
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(lambda part: _load_object(part, aside, store), [list(part) for _, part in by_object(pointer.files)]))


def gone(pointer: Pointer, store: Store) -> list[str]:
    """Objects that the pointer names and the store has no longer."""
    names = list(pointer.objects)
    with ThreadPoolExecutor(TRANSFERS) as pool:
        there = pool.map(lambda name: store.has(f"{OBJECTS}/{name}"), names)
        return [name for name, found in zip(names, there, strict=True) if not found]


def _packs(files: list[Path]) -> Iterator[list[Path]]:
    """Large files alone, small ones in their order together."""
    pack: list[Path] = []
    size = 0
    for file in files:
        own = file.stat().st_size
        if own >= PACK:
            yield [file]
            continue
        if size + own > PACK:
            yield pack
            pack, size = [], 0
        pack.append(file)
        size += own
    if pack:
        yield pack


def _save_pack(pack: list[Path], names: dict[Path, str], store: Store, scratch: Path) -> list[File]:
    sizes, digests = [file.stat().st_size for file in pack], [file_digest(file) for file in pack]
    offsets = [sum(sizes[:number]) for number in range(len(pack))]
    if len(pack) == 1:
        name = digests[0]
        if not store.has(f"{OBJECTS}/{name}"):
            store.put(pack[0], f"{OBJECTS}/{name}")
    else:
        together = hashlib.sha256()
        for file in pack:
            together.update(file.read_bytes())
        name = together.hexdigest()
        if not store.has(f"{OBJECTS}/{name}"):
            with complete(scratch / name) as aside:
                with aside.open("wb") as out:
                    for file in pack:
                        out.write(file.read_bytes())
                store.put(aside, f"{OBJECTS}/{name}")
            (scratch / name).unlink()
    rows = zip(pack, digests, sizes, offsets, strict=True)
    return [File(names[file], digest, size, name, offset) for file, digest, size, offset in rows]


def _load_object(files: list[File], aside: Path, store: Store) -> None:
    whole = aside.with_name(f"{aside.name}.{files[0].object[:16]}")
    try:
        store.get(f"{OBJECTS}/{files[0].object}", whole)
        places = [(file, aside / file.path if file.path else aside) for file in files]
        for _, place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
        if len(places) == 1 and files[0].offset == 0 and whole.stat().st_size == files[0].size:
            os.replace(whole, places[0][1])
        else:
            with whole.open("rb") as source:
                for file, place in places:
                    source.seek(file.offset)
                    place.write_bytes(source.read(file.size))
    finally:
        whole.unlink(missing_ok=True)
    for file, place in places:
        if file_digest(place) != file.sha256:
            raise InputError(f"{store.place}/{OBJECTS}/{file.object} is damaged: remove it, and the step that made it runs again")
