"""The manifest of a packaged model: what each of its files is, and what must come out. Reading it loads no network."""

import hashlib
import json
from pathlib import Path
from typing import Any

from earmark import InputError

SCHEMA = 3  # 1: settings of the first layout; 2: a detector of one network
MANIFEST = "manifest.json"
KEYS = ("schema", "files", "orientation", "calibration", "sources", "corpora", "params", "code", "self_test")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, with `digest`, the SHA-256 of its bytes. Errors: InputError when there is none that this version reads."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
    except FileNotFoundError:
        raise InputError(
            f"{folder} is no model of earmark: it has no {MANIFEST}; `dvc repro` makes artifacts/model, `check --model` takes another"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable ({error}): fetch the model again, or package it again") from error
    if manifest.get("schema", 0) > SCHEMA:
        raise InputError(f"{path} has schema {manifest['schema']}, this version reads up to {SCHEMA}: upgrade earmark")
    if manifest.get("schema", SCHEMA) < SCHEMA:
        raise InputError(f"{path} has schema {manifest['schema']}, of an earlier version of earmark: package the model again")
    if lacking := [key for key in KEYS if key not in manifest]:
        raise InputError(f"{path} lacks {', '.join(lacking)}: package the model again")
    return manifest | {"digest": hashlib.sha256(content).hexdigest()}
