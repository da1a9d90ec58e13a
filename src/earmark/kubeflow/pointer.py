"""Which files a step hands on, and where in a store their bytes lie: a few kilobytes of JSON instead of the files."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from earmark import InputError

SCHEMA = 1


@dataclass(frozen=True)
class File:
    """A file below the pointer's place, and where its bytes are: `size` bytes from `offset` on in an object."""

    path: str  # "" when the pointer is of a single file
    sha256: str
    size: int
    object: str
    offset: int


@dataclass(frozen=True)
class Pointer:
    """A file or folder in a store."""

    store: str
    files: tuple[File, ...]
    origins: dict[str, dict[str, str]] = field(default_factory=dict)  # where the data behind it were fetched from: see `provenance.data`

    @property
    def digest(self) -> str:
        """SHA-256 of paths and contents, wherever they lie."""
        return hashlib.sha256("\n".join(sorted(f"{file.sha256} {file.path}" for file in self.files)).encode()).hexdigest()

    @property
    def objects(self) -> list[str]:
        """Objects that hold its files."""
        return sorted({file.object for file in self.files})

    @property
    def content(self) -> dict[str, Any]:
        """It as plain values."""
        content = {"schema": SCHEMA, "store": self.store, "digest": self.digest, "origins": self.origins}
        return content | {"files": [asdict(file) for file in self.files]}

    @classmethod
    def of(cls, content: Any, name: str) -> Self:
        """From plain values. Errors: InputError naming `name` when they are no pointer, or its digest is not that of its files."""
        try:
            found = cls(content["store"], tuple(File(**file) for file in content["files"]), content.get("origins", {}))
            if content["digest"] == found.digest:
                return found
        except (KeyError, TypeError) as error:
            raise InputError(f"{name} is no pointer to files in a store ({error}): run the step that writes it again") from error
        raise InputError(f"{name} was changed: its digest is not that of its files; run the step that writes it again")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it from JSON. Errors: InputError as `of`."""
        try:
            return cls.of(json.loads(path.read_text()), str(path))
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(f"{path} is no pointer to files in a store ({error}): run the step that writes it again") from error

    @classmethod
    def union(cls, pointers: Iterable[Self]) -> Self:
        """One pointer to the files of all. Errors: InputError when two have different files of one name, or lie in several stores."""
        found: dict[str, File] = {}
        stores, origins = set(), {}
        for pointer in pointers:
            stores.add(pointer.store)
            origins |= pointer.origins
            for file in pointer.files:
                if found.setdefault(file.path, file).sha256 != file.sha256:
                    raise InputError(f"two workers made different files {file.path!r}: they ran with other settings; run both again")
        if len(stores) > 1:
            raise InputError(f"parts lie in several stores ({', '.join(sorted(stores))}): give all steps the same store")
        return cls(stores.pop(), tuple(found[path] for path in sorted(found)), origins)


def by_object(files: Iterable[File]) -> Iterator[tuple[str, Iterator[File]]]:
    """Files by the object that holds them, in its order."""
    return groupby(sorted(files, key=lambda file: (file.object, file.offset)), lambda file: file.object)
