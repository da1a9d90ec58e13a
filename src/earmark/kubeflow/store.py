"""What a cluster's steps hand each other: large objects named by their own digest, and small pointers that say which files they hold.

A store is a folder (a shared volume) or a prefix of an S3 bucket. Small files lie together in one object, so that a folder of many
files becomes few large ones. Equal content is stored once.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

from earmark import InputError
from earmark.kubeflow.pointer import File, Pointer, by_object
from earmark.storage.files import complete, file_digest
from earmark.storage.s3 import GONE, s3_client, split_s3, told

log = logging.getLogger(__name__)
PACK = 64 * 1024**2  # bytes; smaller files share an object of about this size
TRANSFERS = 8  # objects moved at a time
ATTEMPTS = 9  # of a request to S3, unless AWS_MAX_ATTEMPTS says otherwise
OBJECTS, STEPS = "objects", "steps"


class Gone(InputError):
    """Objects that a pointer names are no longer in the store."""


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
        """Copy a file into the store, complete or not at all."""
        own = self.root / f"{name}.{uuid4().hex}"  # equal content may come from several workers at once
        with complete(own) as aside:
            shutil.copyfile(source, aside)
            aside.chmod(0o444)
        os.replace(own, self.root / name)

    def get(self, name: str, target: Path) -> None:
        """Link or copy an object to a file. Errors: Gone."""
        try:
            with contextlib.suppress(OSError):
                return os.link(self.root / name, target)
            shutil.copyfile(self.root / name, target)
        except FileNotFoundError as error:
            raise Gone(f"{self.root / name} is gone") from error


class Bucket:
    """A store below a prefix of an S3 bucket; endpoint and credentials are those of the standard environment (AWS_ENDPOINT_URL, …)."""

    def __init__(self, place: str):
        self.place = place
        self.bucket, self.prefix = split_s3(place)
        self.client = s3_client(int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS)), 4 * TRANSFERS)

    def has(self, name: str) -> bool:
        """Whether the object is there."""
        return self._finds(self.client.head_object, Bucket=self.bucket, Key=self._key(name))

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the store, complete or not at all."""
        with told(self.place), source.open("rb") as stream:
            self.client.upload_fileobj(stream, self.bucket, self._key(name))

    def get(self, name: str, target: Path) -> None:
        """Copy an object to a file. Errors: Gone."""
        if not self._finds(self.client.download_file, self.bucket, self._key(name), str(target)):
            raise Gone(f"{self.place}/{name} is gone")

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}".lstrip("/")

    def _finds(self, call: Any, *arguments: str, **options: str) -> bool:
        """Whether a call finds its object. Errors: RemoteError."""
        with told(self.place):
            try:
                call(*arguments, **options)
            except self.client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in GONE:
                    raise
                return False
        return True


Store = Folder | Bucket


def open_store(place: str) -> Store:
    """s3://bucket/prefix, or a folder. Errors: InputError for another scheme."""
    if place.startswith("s3://"):
        return Bucket(place.rstrip("/"))
    if "://" in place:
        raise InputError(f"store {place}: s3://bucket/prefix or a folder, nothing else")
    return Folder(Path(place).resolve())


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
    names = pointer.objects
    with ThreadPoolExecutor(TRANSFERS) as pool:
        there = pool.map(lambda name: store.has(f"{OBJECTS}/{name}"), names)
        return [name for name, found in zip(names, there, strict=True) if not found]


def _packs(files: list[Path]) -> Iterator[list[Path]]:
    """Large files alone, small ones in their order together."""
    sizes = {file: file.stat().st_size for file in files}
    small = [file for file in files if sizes[file] < PACK]
    ends = accumulate(sizes[file] for file in small)
    yield from ([file] for file in files if sizes[file] >= PACK)
    for _, pack in groupby(zip(small, ends, strict=True), lambda one: one[1] // PACK):
        yield [file for file, _ in pack]


def _save_pack(pack: list[Path], names: dict[Path, str], store: Store, scratch: Path) -> list[File]:
    digests = [file_digest(file) for file in pack]
    sizes = [file.stat().st_size for file in pack]
    with _joined(pack, scratch / uuid4().hex) as whole:
        name = digests[0] if len(pack) == 1 else file_digest(whole)
        if not store.has(f"{OBJECTS}/{name}"):
            store.put(whole, f"{OBJECTS}/{name}")
    rows = zip(pack, digests, sizes, accumulate(sizes[:-1], initial=0), strict=True)
    return [File(names[file], digest, size, name, offset) for file, digest, size, offset in rows]


@contextlib.contextmanager
def _joined(pack: list[Path], place: Path) -> Iterator[Path]:
    """One file with the contents of all, in `place` meanwhile; a file alone is that one."""
    if len(pack) == 1:
        yield pack[0]
        return
    with complete(place) as aside:
        with aside.open("wb") as out:
            out.writelines(file.read_bytes() for file in pack)
        yield aside
    place.unlink()


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
