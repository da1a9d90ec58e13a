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
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry import bundle
from earmark.registry.bundle import REGISTRATION, ROBUSTNESS, SCHEMA, TRIALS, Bundle
from earmark.registry.pipeline import PARENT, Home, now, only_run, who
from earmark.registry.publish import connected_home, dataset_input, log_params, send_rows
from earmark.registry.record import Row
from earmark.registry.server import Store
from earmark.registry.tracking import dataset, flatten
from earmark.registry.versions import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    EVALUATION,
    NAME,
    SUPERSEDED,
    at,
    ensure_model,
    set_alias,
    set_tag,
    versions_of,
)
from earmark.storage.files import complete, file_digest, write_json

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)
RUN_TAG = "earmark.bundle"
DESCRIPTION = "detector and tracer of spoofed speech"
METRICS = "metrics.json"
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
    home = Home.of(output.resolve().parents[1])
    with connected_home(tracking, home) as store, complete(output) as aside:
        (aside / "champion").mkdir(parents=True)
        run = _run(store, home, packaged)
        digest = _keep_tables(store, run, tables)
        uploaded = _uploaded(store, run, packaged)
        _describe(store, run, uploaded, packaged, evaluation / METRICS)
        version = _version(store, run, uploaded, version_tags(packaged, digest))
        champion = _champion(store, aside / "champion")
        if not champion or champion["version"] != int(version.version):
            set_alias(store.client, CHALLENGER, version)
        found = {"registered": True, "version": int(version.version), "bundle": packaged.digest, "evaluation": digest}
        write_json(aside / REGISTRATION, {"schema": SCHEMA, "name": NAME, "run": run.info.run_id, "champion": champion, **found})
        home.conclude(store, run, "FINISHED")
    return {"version": float(version.version), "champion": float(champion["version"] if champion else 0)}


def _nothing(output: Path) -> dict[str, float]:
    with complete(output) as aside:
        aside.mkdir()
        write_json(aside / REGISTRATION, {"schema": SCHEMA, "registered": False, "champion": None})
    log.info("tracking.enabled is false: nothing is registered")
    return {"version": 0.0}


def _run(store: Store, home: Home, packaged: Bundle) -> "Run":
    """The run of this bundle's registration, below the pipeline's; records of promotion are kept with it too."""
    parent = home.parent_run(store).info.run_id
    tags = {PARENT: parent, "mlflow.user": who(), "mlflow.source.name": "earmark register", "earmark.stage": "register"}
    return only_run(store, RUN_TAG, packaged.digest, tags, "register")


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


def _describe(store: Store, run: "Run", uploaded: "LoggedModel", packaged: Bundle, metrics: Path) -> None:
    """Params, corpora and metrics of the model, with its run and with itself: the registry's page compares versions by them."""
    log_params(store, run, flatten(packaged.manifest["params"]))
    code = packaged.manifest["code"]
    corpora = [dataset(one["name"], str(one["digest"]), _total(one["trials"]), code.get("dvc")) for one in packaged.manifest["corpora"]]
    store.client.log_inputs(run.info.run_id, [dataset_input(**one) for one in corpora])
    found = json.loads(metrics.read_text()) if metrics.exists() else {}
    rows = [Row(name, float(value), now()) for name, value in found.items() if isinstance(value, (int, float))]
    send_rows(store, run, rows, uploaded.model_id)


def _total(trials: int | dict[str, int]) -> int:
    return sum(trials.values()) if isinstance(trials, dict) else trials


def _version(store: Store, run: "Run", uploaded: "LoggedModel", tags: dict[str, str]) -> "ModelVersion":
    """The one version of the bundle, made at need, whole from its first instant; the oldest where a repeated request made more."""
    ensure_model(store.client, DESCRIPTION)
    if not versions_of(store.client, tags[BUNDLE]):
        source = uploaded.artifact_location
        store.client.create_model_version(NAME, source, run.info.run_id, tags, model_id=uploaded.model_id, await_creation_for=0)
    version, *extra = versions_of(store.client, tags[BUNDLE])
    for other in extra:
        set_tag(store.client, other, SUPERSEDED, version.version)
    set_tag(store.client, version, EVALUATION, tags[EVALUATION])
    return version


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
        params = {name: text[:500] for name, text in flatten(packaged.manifest["params"]).items()}
        store.client.create_logged_model(store.experiment, NAME, run.info.run_id, {BUNDLE: packaged.digest}, params)
        found = _logged_models(store, tag)
    model = found[0]
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
    version = at(store.client, CHAMPION)
    if version is None:
        return None
    evaluation, run = version.tags[EVALUATION], str(version.run_id)
    with tempfile.TemporaryDirectory() as aside:
        for file in Path(store.client.download_artifacts(run, _place(evaluation), aside)).iterdir():
            shutil.move(file, folder / file.name)
    if file_digest(folder / TRIALS) != evaluation:
        raise InputError(f"the trials stored with champion version {version.version} are not those of its tag {EVALUATION}")
    return {"version": int(version.version), "bundle": version.tags[BUNDLE], "evaluation": evaluation}
