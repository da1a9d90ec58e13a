"""Registering: one upload and one version of the model, whatever was interrupted before.

Everything is found again by the bundle's digest, so that a repeated call goes on where the last one stopped.
"""

import json
import logging
import shutil
import tempfile
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model
from rich.console import Console

from earmark import InputError
from earmark.model.manifest import MANIFEST, read_manifest
from earmark.params import TrackingParams
from earmark.registry import versions
from earmark.registry.model import SIGNATURE
from earmark.registry.publish import Row, dataset, log_datasets, log_params, send_rows, stage_tags
from earmark.registry.server import Home, Store, connected, now, only_run, who
from earmark.registry.tracking import flatten
from earmark.registry.versions import BUNDLE, CHALLENGER, CHAMPION, EVALUATION, NAME, REGISTRATION, ROBUSTNESS, SCHEMA, TRIALS
from earmark.storage.files import complete, file_digest, write_json

log = logging.getLogger(__name__)
RUN_TAG = "earmark.bundle"
METRICS = "metrics.json"
# what a verdict loads, and the decoder's process beside it
REQUIREMENTS = ("av", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "rich", "safetensors", "soxr", "torch", "torchaudio")
PACKAGE = Path(__file__).resolve().parents[1]


def register(tracking: TrackingParams, *, model: Path, evaluation: Path, robustness: Path, output: Path) -> dict[str, float]:
    """Register the bundle with its evaluation as challenger; write registration.json and the champion's tables into `output`.

    Errors: InputError when a file of the bundle is not the manifest's, or the store cannot be reached: repeat it then, nothing doubles.
    """
    if not tracking.enabled:
        log.info("tracking.enabled is false: nothing is registered")
        with complete(output) as aside:
            write_json(aside / REGISTRATION, {"schema": SCHEMA, "registered": False, "champion": None})
        return {"version": 0.0}
    manifest, tables = read_manifest(model), (evaluation / TRIALS, robustness / ROBUSTNESS)
    _verify(model, manifest["files"])
    if missing := [path for path in tables if not path.exists()]:
        raise InputError(f"{missing[0]} does not exist: evaluate the model first")
    home = Home.of(output.resolve().parents[1])
    with connected(tracking, home) as store, complete(output) as aside:
        aside.mkdir()
        tags = stage_tags("register", home.parent_run(store).info.run_id, who())
        run = only_run(store, RUN_TAG, manifest["digest"], tags, "register")  # with which records of promotion are kept too
        digest = file_digest(tables[0])
        for table in tables:  # what a later gate compares with
            store.client.log_artifact(run.info.run_id, str(table), f"evaluations/{digest}")
        uploaded = _uploaded(store, run, model, manifest)
        _describe(store, run, uploaded, manifest, evaluation / METRICS)
        version = _version(store, run, uploaded, version_tags(manifest, digest))
        champion = _champion(store, aside / "champion")
        if not champion or champion["version"] != int(version.version):
            versions.set_alias(store.client, CHALLENGER, version.version)
        found = {"registered": True, "version": int(version.version), "bundle": manifest["digest"], "evaluation": digest}
        write_json(aside / REGISTRATION, {"schema": SCHEMA, "name": NAME, "run": run.info.run_id, "champion": champion, **found})
        home.conclude(store, run, "FINISHED")
    return {"version": float(version.version), "champion": float(champion["version"] if champion else 0)}


def _verify(folder: Path, files: dict[str, str]) -> None:
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            raise InputError(f"{path} is not the file that {MANIFEST} names: run the stage that packages the model again")


def _describe(store: Store, run: Run, uploaded: LoggedModel, manifest: dict[str, Any], metrics: Path) -> None:
    """Params, corpora and metrics of the model, with its run and with itself: the registry's page compares versions by them."""
    log_params(store, run, flatten(manifest["params"]))
    source = manifest["code"]["dvc"]
    corpora = [dataset(one["name"], one["digest"], sum(one["trials"].values()), source) for one in manifest["corpora"]]
    log_datasets(store, run, corpora)
    found = json.loads(metrics.read_text()) if metrics.exists() else {}
    rows = [Row(name, float(value), now()) for name, value in found.items() if isinstance(value, (int, float))]
    send_rows(store, run, rows, uploaded.model_id)


def _version(store: Store, run: Run, uploaded: LoggedModel, tags: dict[str, str]) -> ModelVersion:
    """The one version of the bundle, made at need, whole from its first instant; the oldest where a repeated request made more."""
    client = store.client
    if not client.search_registered_models(f"name = '{NAME}'"):  # only its maker may be allowed to ask for it a second time
        client.create_registered_model(NAME, description="detector and tracer of spoofed speech")
    if not versions.versions_of(client, tags[BUNDLE]):
        source = uploaded.artifact_location
        client.create_model_version(NAME, source, run.info.run_id, tags, model_id=uploaded.model_id, await_creation_for=0)
    version, *extra = versions.versions_of(client, tags[BUNDLE])
    for other in extra:
        versions.set_tag(client, other, versions.SUPERSEDED, version.version)
    versions.set_tag(client, version, EVALUATION, tags[EVALUATION])
    return version


def version_tags(manifest: dict[str, Any], evaluation: str) -> dict[str, str]:
    """What a version says of itself: digests, corpora and their licences, code and data."""
    code, data = manifest["code"], manifest["code"]["dvc"]
    return {
        BUNDLE: manifest["digest"],
        EVALUATION: evaluation,
        "corpora": ", ".join(sorted({corpus["name"] for corpus in manifest["corpora"]})),
        "licences": ", ".join(sorted({corpus["licence"] or "unknown" for corpus in versions.learned_from(manifest)})),
        "code_version": str(code["version"]),
        "commit": str(code["commit"]),
        "dvc": data if isinstance(data, str) else json.dumps(data, sort_keys=True),
    }


def _uploaded(store: Store, run: Run, folder: Path, manifest: dict[str, Any]) -> LoggedModel:
    """The bundle's upload; one that was cut short is taken up again."""
    client, tag = store.client, f"tags.{BUNDLE} = '{manifest['digest']}'"
    oldest_first = [{"field_name": "creation_timestamp", "ascending": True}]
    if not (found := client.search_logged_models([store.experiment], tag, order_by=oldest_first)):
        params = {name: text[:500] for name, text in flatten(manifest["params"]).items()}
        client.create_logged_model(store.experiment, NAME, run.info.run_id, {BUNDLE: manifest["digest"]}, params)
        found = client.search_logged_models([store.experiment], tag, order_by=oldest_first)
    model = found[0]
    if model.status != LoggedModelStatus.READY:
        _upload(store, run, folder, model)
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run.info.run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
    return model


def _upload(store: Store, run: Run, folder: Path, model: LoggedModel) -> None:
    """Write the pyfunc beside its bundle and this package's code, and send it."""
    # recorded, so not shown: it asks for a type of the table of recordings that it knows none of
    with tempfile.TemporaryDirectory() as scratch, Console(stderr=True).status("uploading the model"), warnings.catch_warnings(record=True):
        path = f"{scratch}/model"
        mlflow.pyfunc.save_model(
            path,
            python_model=str(PACKAGE / "registry/model.py"),
            artifacts={"bundle": folder.resolve().as_uri()},  # a path with % in it would be taken for an address
            signature=SIGNATURE,
            code_paths=[str(PACKAGE)],
            pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
            mlflow_model=Model(artifact_path=model.artifact_location, run_id=run.info.run_id, model_id=model.model_id),
        )
        store.client.log_model_artifacts(model.model_id, path)


def _champion(store: Store, folder: Path) -> dict[str, Any] | None:
    """Fetch the champion's tables; return which version it is, None where there is none."""
    version = versions.at(store.client, CHAMPION)
    if version is None:
        return None
    evaluation = version.tags[EVALUATION]
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(store.client.download_artifacts(str(version.run_id), f"evaluations/{evaluation}", scratch), folder)
    if file_digest(folder / TRIALS) != evaluation:
        raise InputError(f"the trials stored with champion version {version.version} are not those of its tag {EVALUATION}")
    return {"version": int(version.version), "bundle": version.tags[BUNDLE], "evaluation": evaluation}
