"""Registering: one upload, one version of the model and of each of its parts, whatever was interrupted before.

Everything is found again by the bundle's digest, so that a repeated call goes on where the last one stopped.
"""

import json
import logging
import shutil
import tempfile
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry import bundle
from earmark.registry.bundle import REGISTRATION, ROBUSTNESS, SCHEMA, TRIALS, Bundle
from earmark.registry.journal import now
from earmark.registry.lock import lock
from earmark.registry.pipeline import pipeline_key, who
from earmark.registry.sender import PARENT, parent_run
from earmark.registry.server import Store, connected, only_run
from earmark.registry.versions import BUNDLE, CHALLENGER, CHAMPION, EVALUATION, NAME, at, ensure_model, part_name, set_alias, versions_of
from earmark.storage.files import complete, file_digest, write_json

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)
RUN_TAG = "earmark.bundle"
# what a verdict loads, and the decoder's process beside it
REQUIREMENTS = ("av", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "rich", "safetensors", "soxr", "torch", "torchaudio")
PACKAGE = Path(__file__).resolve().parents[1]


def register(tracking: TrackingParams, *, model: Path, evaluation: Path, robustness: Path, output: Path) -> dict[str, float]:
    """Register the bundle with its evaluation as challenger; write registration.json and the champion's tables into `output`.

    Errors: InputError when a file of the bundle is not the manifest's, or the store cannot be reached: repeat it then, nothing doubles.
    """
    tables = {TRIALS: evaluation / TRIALS, ROBUSTNESS: robustness / ROBUSTNESS}
    if not tracking.enabled:
        return _nothing(output)
    packaged = bundle.read(model)
    packaged.verify()
    if missing := [str(path) for path in tables.values() if not path.exists()]:
        raise InputError(f"{missing[0]} does not exist: evaluate the model first")
    with connected(tracking) as store, lock(store.client, "registration", wait_seconds=600, lease_seconds=600), complete(output) as aside:
        (aside / "champion").mkdir(parents=True)
        run = _run(store, packaged)
        digest = _keep_tables(store, run, tables)
        version = _version(store, run, packaged, digest)
        champion = _champion(store, aside / "champion")
        _challenge(store, packaged, version, champion)
        found = {"registered": True, "version": int(version.version), "bundle": packaged.digest, "evaluation": digest}
        write_json(aside / REGISTRATION, {"schema": SCHEMA, "name": NAME, "run": run.info.run_id, "champion": champion, **found})
        for finished in (run.info.run_id, run.data.tags[PARENT]):
            store.client.set_terminated(finished)
    return {"version": float(version.version), "champion": float(champion["version"] if champion else 0)}


def _nothing(output: Path) -> dict[str, float]:
    with complete(output) as aside:
        aside.mkdir()
        write_json(aside / REGISTRATION, {"schema": SCHEMA, "registered": False, "champion": None})
    log.info("tracking.enabled is false: nothing is registered")
    return {"version": 0.0}


def _run(store: Store, packaged: Bundle) -> "Run":
    """The run of this bundle's registration, below the pipeline's; records of promotion are kept with it too."""
    parent = parent_run(store, pipeline_key(), now())
    tags = {PARENT: parent.info.run_id, "mlflow.user": who(), "mlflow.source.name": "earmark register", "earmark.stage": "register"}
    return only_run(store, RUN_TAG, packaged.digest, now(), tags, "register")


def _keep_tables(store: Store, run: "Run", tables: dict[str, Path]) -> str:
    """Store what a later gate compares with, and return the digest of the trials, which names the place."""
    digest = file_digest(tables[TRIALS])
    for name, path in tables.items():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(path, Path(folder) / name)
            store.client.log_artifact(run.info.run_id, str(Path(folder) / name), _place(digest))
    return digest


def _place(evaluation: str) -> str:
    return f"evaluations/{evaluation}"


def _version(store: Store, run: "Run", packaged: Bundle, evaluation: str) -> "ModelVersion":
    """The one version of the bundle, with its parts', made at need."""
    found = versions_of(store.client, NAME, packaged.digest)
    if not found or len(found) > 1 or any(not versions_of(store.client, part_name(part), packaged.digest) for part in packaged.parts()):
        uploaded = _uploaded(store, run, packaged)
        tags = version_tags(packaged, evaluation)
        for part in packaged.parts():
            source = f"{uploaded.artifact_location}/artifacts/{packaged.folder.resolve().name}/{part}"
            _only_version(store, run, part_name(part), f"{part} of {NAME}", source, uploaded.model_id, tags)
        _only_version(store, run, NAME, "detector and tracer of spoofed speech", uploaded.artifact_location, uploaded.model_id, tags)
        found = versions_of(store.client, NAME, packaged.digest)
    for name in (*map(part_name, packaged.parts()), NAME):
        for version in versions_of(store.client, name, packaged.digest):
            store.client.set_model_version_tag(name, version.version, EVALUATION, evaluation)
    return found[0]


def _only_version(store: Store, run: "Run", name: str, description: str, source: str, model_id: str, tags: dict[str, str]) -> None:
    """One version, whole from its first instant; where an answer was lost and the request repeated, later ones are deleted."""
    ensure_model(store.client, name, description)
    if not versions_of(store.client, name, tags[BUNDLE]):
        store.client.create_model_version(name, source, run.info.run_id, tags, model_id=model_id, await_creation_for=0)
    for extra in versions_of(store.client, name, tags[BUNDLE])[1:]:
        store.client.delete_model_version(name, extra.version)


def version_tags(packaged: Bundle, evaluation: str) -> dict[str, str]:
    """What a version says of itself: digests, corpora and their licences, code and data."""
    corpora, code = packaged.manifest["corpora"], packaged.manifest["code"]
    licences = sorted({corpus.get("licence") or "unknown" for corpus in packaged.lineage})
    return {
        BUNDLE: packaged.digest,
        EVALUATION: evaluation,
        "corpora": ", ".join(sorted({corpus["name"] for corpus in corpora})),
        "licences": ", ".join(licences),
        "code_version": str(code.get("version")),
        "commit": str(code.get("commit")),
        "dvc": code["dvc"] if isinstance(code.get("dvc"), str) else json.dumps(code.get("dvc"), sort_keys=True),
    }


def _uploaded(store: Store, run: "Run", packaged: Bundle) -> "LoggedModel":
    """The bundle's upload; one that was cut short is taken up again."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    tag = f"tags.{BUNDLE} = '{packaged.digest}'"
    if not (found := _logged_models(store, tag)):
        store.client.create_logged_model(store.experiment, NAME, run.info.run_id, {BUNDLE: packaged.digest})
        found = _logged_models(store, tag)
    model = found[0]
    for extra in found[1:]:
        store.client.delete_logged_model(extra.model_id)
    if model.status != LoggedModelStatus.READY:
        _upload(store, run, packaged, model)
        model = store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = store.client.get_run(run.info.run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        store.client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
    return model


def _logged_models(store: Store, condition: str) -> list["LoggedModel"]:
    """Ready ones first, then the oldest."""
    from mlflow.entities import LoggedModelStatus

    found = store.client.search_logged_models([store.experiment], condition)
    return sorted(found, key=lambda model: (model.status != LoggedModelStatus.READY, model.creation_timestamp))


def _upload(store: Store, run: "Run", packaged: Bundle, model: "LoggedModel") -> None:
    """Write the pyfunc beside its bundle and this package's code, and send it."""
    import mlflow.pyfunc
    from mlflow.models import Model
    from rich.console import Console

    from earmark.registry.model import SIGNATURE

    # recorded, so not shown: it asks for a type of the table of recordings that it knows none of
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("uploading the model"), warnings.catch_warnings(record=True):
        path = Path(folder) / "model"
        mlflow.pyfunc.save_model(
            str(path),
            python_model=str(PACKAGE / "registry/model.py"),
            artifacts={"bundle": packaged.folder.resolve().as_uri()},  # a path with % in it would be taken for an address
            signature=SIGNATURE,
            code_paths=[str(PACKAGE)],
            pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
            mlflow_model=Model(artifact_path=model.artifact_location, run_id=run.info.run_id, model_id=model.model_id),
        )
        store.client.log_model_artifacts(model.model_id, str(path))


def _champion(store: Store, folder: Path) -> dict[str, Any] | None:
    """Fetch the champion's tables; return which version it is, None where there is none."""
    version = at(store.client, NAME, CHAMPION)
    if version is None:
        return None
    evaluation, run = version.tags[EVALUATION], str(version.run_id)
    with tempfile.TemporaryDirectory() as aside:
        for file in Path(store.client.download_artifacts(run, _place(evaluation), aside)).iterdir():
            shutil.move(file, folder / file.name)
    if file_digest(folder / TRIALS) != evaluation:
        raise InputError(f"the trials stored with champion version {version.version} are not those of its tag {EVALUATION}")
    return {"version": int(version.version), "bundle": version.tags[BUNDLE], "evaluation": evaluation}


def _challenge(store: Store, packaged: Bundle, version: "ModelVersion", champion: dict[str, Any] | None) -> None:
    """Point `challenger` at the new version and its parts, unless it is the champion."""
    if champion and champion["version"] == int(version.version):
        log.info("version %s is the champion already", version.version)
        return
    for name in (*map(part_name, packaged.parts()), NAME):
        set_alias(store.client, name, CHALLENGER, versions_of(store.client, name, packaged.digest)[0])
