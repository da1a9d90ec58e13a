"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from earmark import InputError
from earmark import params as settings

PARAMS = Path("params.yaml")
ParamsFile = Annotated[Path, typer.Option("--params", help="settings of the run")]
Presets = Annotated[
    list[str] | None,
    typer.Option("--preset", help="start from a preset instead of the params file, by name or path; more are laid over it"),
]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, laid over the rest; may be repeated")]
ENROLLED = Path("artifacts/enrolled.safetensors")


def unless_absent(file: Path) -> Path | None:
    """The settings to read; none where the usual file is not there and nobody named another."""
    return None if file == PARAMS and not file.exists() else file


def load_settings(params_file: Path, presets: list[str] | None, assignments: list[str] | None) -> settings.Params:
    """The settings of presets, which stand alone, or else of the params file; assignments are laid over them. Errors: InputError."""
    if presets:
        first, *more = map(_find_preset, presets)
        return settings.load(first, more, assignments)
    return settings.load(unless_absent(params_file), assignments=assignments)


def _find_preset(name: str) -> Path:
    """File of a preset, by name or path. Errors: InputError that lists the presets."""
    if Path(name).suffix:
        return Path(name)
    known = sorted(path.stem for path in Path("presets").glob("*.yaml"))
    if name not in known:
        there = f"presets/ holds {', '.join(known)}" if known else "there is no folder presets/ here: name a file"
        raise InputError(f"--preset {name}: {there}")
    return Path("presets") / f"{name}.yaml"
