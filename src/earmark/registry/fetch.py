"""A model of the registry, or of a run, as a folder on this machine."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from earmark import InputError
from earmark.model.manifest import MANIFEST, read_manifest
from earmark.params import TrackingParams
from earmark.registry.server import connected
from earmark.registry.versions import BUNDLE
from earmark.storage.files import complete

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
PLACE = Path(".earmark/models")
REGISTRY, RUN = "models:/", "runs:/"


def is_address(model: str) -> bool:
    """Whether it is something of MLflow's rather than a folder."""
    return model.startswith((REGISTRY, RUN))


def folder_of(model: str, tracking: TrackingParams) -> Path:
    """A model's folder; one of MLflow's is fetched first. Errors: as `fetch`."""
    return fetch(tracking, model) if is_address(model) else Path(model)


def fetch(tracking: TrackingParams, model: str, place: Path = PLACE) -> Path:
    """Folder of the bundle at models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/earmark; a digest that was fetched before is not again.

    Errors: InputError when there is no such model, or it holds no bundle.
    """
    with connected(tracking) as store:
        known = _digest(store.client, model)
        if known and (place / known / MANIFEST).exists():
            return place / known
        import mlflow.artifacts

        with tempfile.TemporaryDirectory() as scratch:
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
    """The bundle's digest as the registry states it; None of a run. Errors: InputError when there is no such version."""
    if not model.startswith(REGISTRY):
        return None
    from mlflow.exceptions import MlflowException

    name, _, alias = model.removeprefix(REGISTRY).partition("@")
    if not alias and "/" not in name:
        return None  # models:/m-…, a logged model
    try:
        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(*name.split("/", 1))
    except MlflowException as error:
        raise InputError(f"{model}: {error}; write models:/NAME@ALIAS or models:/NAME/VERSION, as `earmark promote` names them") from error
    return version.tags.get(BUNDLE)
