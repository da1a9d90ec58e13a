"""Versions of the model and of its parts, found by the digest of the bundle that they are of."""

from typing import TYPE_CHECKING

from earmark.registry.server import is_conflict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

NAME = "earmark"
CHAMPION, CHALLENGER, PREVIOUS, COMMERCIAL = "champion", "challenger", "previous", "commercial"
BUNDLE, EVALUATION = "bundle_digest", "evaluation_digest"


def part_name(part: str) -> str:
    """Registered name of a part."""
    return f"{NAME}-{part}"


def ensure_model(client: "MlflowClient", name: str, description: str) -> None:
    """Make the registered model unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if not is_conflict(error):
            raise


def versions_of(client: "MlflowClient", name: str, digest: str) -> list["ModelVersion"]:
    """Versions made of this bundle, oldest first."""
    found = client.search_model_versions(f"name = '{name}' AND tags.{BUNDLE} = '{digest}'")
    return sorted(found, key=lambda version: int(version.version))


def names_of(client: "MlflowClient", digest: str) -> list[str]:
    """Names that have a version of this bundle: parts first, the model itself last, since its alias is what counts."""
    found = {version.name for version in client.search_model_versions(f"tags.{BUNDLE} = '{digest}'")}
    return [*sorted(found - {NAME}), NAME]


def at(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that an alias names; None where nothing has it."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def set_alias(client: "MlflowClient", name: str, alias: str, version: "ModelVersion | None") -> None:
    """Point an alias at a version, or take it away."""
    if version is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, str(version.version))
