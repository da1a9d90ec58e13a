"""What every section of settings is made of."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, provenance: Literal["paper", "port", "ours"], description: str, **bounds: Any) -> Any:
    """A field with its default, provenance and allowed range."""
    return Field(default, description=description, json_schema_extra={"provenance": provenance}, **bounds)


class Section(BaseModel):
    """Frozen group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
