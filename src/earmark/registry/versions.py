"""Versions of the registered model, found by the digest of the bundle that they are of, its aliases, and the files beside them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

NAME = "earmark"
CHAMPION, CHALLENGER, PREVIOUS, COMMERCIAL = "champion", "challenger", "previous", "commercial"
BUNDLE, EVALUATION, SUPERSEDED = "bundle_digest", "evaluation_digest", "superseded_by"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # what MLflow answers where an alias or a version is not
SCHEMA = 1  # of the records that the registry's stages write
TRIALS, ROBUSTNESS, REGISTRATION = "trials.parquet", "robustness.parquet", "registration.json"


def learned_from(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Corpora that a model was trained or calibrated on."""
    return [corpus for corpus in manifest["corpora"] if {"train", "dev"} & set(corpus["splits"])]


def versions_of(client: "MlflowClient", digest: str) -> list["ModelVersion"]:
    """Versions made of this bundle, oldest first; without those that a repeated request made."""
    found = client.search_model_versions(f"name = '{NAME}' AND tags.{BUNDLE} = '{digest}'")
    return sorted((version for version in found if SUPERSEDED not in version.tags), key=lambda version: int(version.version))


def numbered(client: "MlflowClient", version: str | int, name: str = NAME) -> "ModelVersion | None":
    """The version of this number; None where there is none."""
    return _found(client.get_model_version, name, str(version))


def at(client: "MlflowClient", alias: str, name: str = NAME) -> "ModelVersion | None":
    """The version that an alias names; None where nothing has it."""
    return _found(client.get_model_version_by_alias, name, alias)


def _found(get: Callable[[str, str], "ModelVersion"], name: str, which: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return get(name, which)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def set_alias(client: "MlflowClient", alias: str, version: str | int | None) -> None:
    """Point an alias at the version of this number, or take it away."""
    if version is None:
        client.delete_registered_model_alias(NAME, alias)
    else:
        _twice(client.set_registered_model_alias, NAME, alias, str(version))


def set_tag(client: "MlflowClient", version: "ModelVersion", tag: str, value: str) -> None:
    """Set a version's tag."""
    _twice(client.set_model_version_tag, NAME, str(version.version), tag, value)


def _twice(call: Callable[..., None], *arguments: str) -> None:
    """Try a second time what was refused: of two processes that make the same tag or alias at once, MLflow's database refuses one."""
    from mlflow.exceptions import MlflowException

    try:
        call(*arguments)
    except MlflowException:
        call(*arguments)
