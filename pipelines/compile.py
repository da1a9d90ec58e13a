"""Compile the pipelines: python -m pipelines.compile --params params.yaml --deployment pipelines/deployment.yaml -o build."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import components
import typer
from kfp.compiler import Compiler

from earmark import InputError, params
from earmark.cli.options import Assignments, Presets, load_settings
from earmark.storage.files import complete
from pipelines.deployment import Deployment, describe, read_deployment
from pipelines.scoring import scoring
from pipelines.training import training

log = logging.getLogger(__name__)
URI = "MLFLOW_TRACKING_URI"
PIPELINES = {"training": training, "scoring": scoring}
STEPS = {path.stem for path in Path(components.__path__[0]).glob("*.py")} - {"__init__", "image"}


def compile_all(
    params_file: Annotated[Path, typer.Option("--params", help="settings that become the pipeline parameters' defaults")] = Path(
        "params.yaml"
    ),
    preset: Presets = None,
    set_: Assignments = None,
    deployment: Annotated[Path, typer.Option(help="image, store, secrets and resources of the cluster")] = Path(
        "pipelines/deployment.yaml"
    ),
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write the pipelines to")] = Path("build"),
    keys: Annotated[bool, typer.Option("--describe", help="print the deployment file's keys as a Markdown table and end")] = False,
) -> None:
    """Write training.yaml and scoring.yaml; the same settings give the same bytes."""
    if keys:
        rows = [("key", "default", "meaning"), ("---", "---", "---"), *((f"`{key}`", *rest) for key, *rest in describe())]
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
        return
    settings, cluster = load_settings(params_file, preset, set_), read_deployment(deployment, STEPS)
    _warn(settings, cluster)
    output.mkdir(parents=True, exist_ok=True)
    for name, make in PIPELINES.items():
        with complete(output / f"{name}.yaml") as aside:
            whole = aside.with_suffix(".yaml")  # the compiler looks at the ending
            Compiler().compile(make(settings, cluster), str(whole))
            whole.replace(aside)
        print(output / f"{name}.yaml")


def _warn(settings: params.Params, cluster: Deployment) -> None:
    """What compiles and runs, and yet is not what anybody wants."""
    if settings.tracking.enabled and URI not in cluster.environment and settings.tracking.uri.startswith("sqlite"):
        log.warning("no MLflow server is named: models would be registered in a file that goes with its pod; set environment.%s", URI)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        typer.run(compile_all)
    except InputError as error:
        sys.exit(f"error: {error}")
