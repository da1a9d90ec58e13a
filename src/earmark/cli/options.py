"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

PARAMS = Path("params.yaml")
ParamsFile = Annotated[Path, typer.Option("--params", help="settings of the run")]
ENROLLED = Path("artifacts/enrolled.safetensors")


def unless_absent(file: Path) -> Path | None:
    """The settings to read; none where the usual file is not there and nobody named another."""
    return None if file == PARAMS and not file.exists() else file
