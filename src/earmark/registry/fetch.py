"""A model of the registry, or of a run, as a folder on this machine."""

import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from earmark import InputError
from earmark.model.manifest import MANIFEST, read_manifest
from earmark.params import TrackingParams
from earmark.registry.server import connected
from earmark.registry.versions import BUNDLE, at, numbered
from earmark.storage.files import complete

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
PLACE = Path(".earmark/models")


def folder_of(model: str, tracking: TrackingParams) -> Path:
    """A model's folder; one of MLflow's is fetched first. Errors: as `fetch`."""
    return fetch(tracking, model) if model.startswith(("models:/", "runs:/")) else Path(model)


def fetch(tracking: TrackingParams, model: str, place: Path = PLACE) -> Path:
    """Folder of the bundle at models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/earmark; a digest that was fetched before is not again.

    Errors: InputError when there is no such model, or it holds no bundle.
    """
    with connected(tracking) as store, tempfile.TemporaryDirectory() as scratch:
        known = _digest(store.client, model)
        if known and (place / known / MANIFEST).exists():
            return place / known
        import mlflow.artifacts

        log.info("fetching %s", model)
        whole = mlflow.artifacts.download_artifacts(model, dst_path=scratch, tracking_uri=store.client.tracking_uri)
        found = list(Path(whole).rglob(MANIFEST))
        if len(found) != 1:
            raise InputError(f"{model} holds {len(found)} files {MANIFEST}: it is no model of earmark")
        target = place / read_manifest(found[0].parent)["digest"]
        with complete(target) as aside:
            shutil.copytree(found[0].parent, aside)
    return target


def _digest(client: "MlflowClient", model: str) -> str | None:
    """The bundle's digest as the registry states it; None of a run or a logged model. Errors: InputError when there is no such version."""
    named = re.fullmatch(r"models:/([^@/]+)([@/])(.+)", model)
    if not named:
        return None
    name, sign, which = named.groups()
    version = at(client, which, name) if sign == "@" else numbered(client, which, name)
    if version is None:
        raise InputError(f"{model}: nothing is there; write models:/NAME@ALIAS or models:/NAME/VERSION, as `earmark promote` names them")
    return version.tags.get(BUNDLE)
