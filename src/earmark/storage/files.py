"""Produced files are complete or absent: written aside, then renamed."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from earmark import InputError

LONGEST = 255  # bytes of a name that file systems hold


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder to; on success it replaces `path`, on failure it is removed.

    A file replaces no folder, and a folder no file. Errors: InputError naming `path` when it is of the other kind, the place is not
    writable or the disk is full.
    """
    aside = path.with_name(f".{path.name}.part")  # one name, so that what a killed run left is overwritten
    if len(os.fsencode(aside.name)) > LONGEST:
        aside = path.with_name(f".{_short_digest(path.name)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(aside)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield aside
        _refuse_other_kind(aside, path)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(aside, path)
    except (OSError, SafetensorError) as error:
        culprit = getattr(error, "filename", None)
        if culprit and not Path(culprit).is_relative_to(aside) and culprit != str(path):
            raise  # another file's trouble, with its own name
        raise _unwritable(path, error) from error
    finally:
        remove(aside)


def refuse_folder(path: Path) -> None:
    """Errors: InputError when a folder lies where a file is to be written."""
    if path.is_dir():
        raise InputError(f"cannot write {path}: a folder is there; name another file")


def _refuse_other_kind(made: Path, path: Path) -> None:
    if not made.is_dir():
        refuse_folder(path)
    elif os.path.lexists(path) and not path.is_dir():
        raise InputError(f"cannot write the folder {path}: a file is there; name another place, or remove it")


def flat_name(name: str, suffix: str) -> str:
    """A file's name for any name, path or id; where it had to change or was too long it has a digest, so that two never meet."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name.lstrip("/."))
    if plain == name and len(plain) + len(suffix) <= LONGEST - len("..part"):
        return plain + suffix
    return f"{plain[-150:]}-{_short_digest(name)}{suffix}"


def _short_digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def refuse_filled(folder: Path) -> None:
    """Errors: InputError when a folder that is to be written holds anything: nobody's files are replaced."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there and not empty: name a new folder, or remove it")


def _unwritable(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}; free space or choose another place")


def read_metadata(path: Path) -> dict[str, str]:
    """What `write_table` was given as metadata. Errors: InputError when the file is damaged."""
    try:
        raw = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a readable table ({error}): remove it and run its stage again") from error
    return {key.decode(): value.decode() for key, value in raw.items() if key != b"pandas"}


def file_digest(path: Path, kind: str = "sha256") -> str:
    """A file's digest, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write sorted, indented JSON; NaN is refused so that every reader can parse the file."""
    with complete(path) as aside:
        aside.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_table(path: Path, table: pd.DataFrame, **metadata: str) -> None:
    """Write a Parquet table; `metadata` (orientation, digests) goes into its schema. Same table, same bytes."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **{k: v.encode() for k, v in metadata.items()}})
    with complete(path) as aside:
        pq.write_table(arrow, aside, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table. Errors: InputError when it is missing or damaged."""
    if not path.exists():
        raise InputError(f"{path} does not exist: run the stage that makes it first")
    try:
        return pq.read_table(path).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a readable table ({error}): remove it and run its stage again") from error
