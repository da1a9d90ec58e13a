"""Registering: whatever is interrupted, a repeated call ends with one version, whole."""

import json
import subprocess
import sys

import pytest
from mlflow.artifacts import download_artifacts
from mlflow.entities import ViewType

from earmark import InputError
from earmark.model.manifest import read_manifest
from earmark.params import TrackingParams
from earmark.registry.register import register
from earmark.registry.server import UnreachableError, connected, runs
from earmark.registry.versions import at, versions_of
from earmark.storage.files import file_digest
from registry.examples import make_bundle, make_trials, write_evaluation, write_robustness
from registry.servers import wait_for


class Bench:
    """A model with its tables."""

    def __init__(self, folder, seed, quality=2.0):
        self.model, self.output = make_bundle(folder / "model", seed), folder / "registration"
        self.evaluation = write_evaluation(folder / "evaluation", make_trials(60, quality, seed))
        self.robustness = write_robustness(folder / "robustness")

    @property
    def digest(self):
        return read_manifest(self.model)["digest"]

    def register(self, tracking):
        metrics = register(tracking, model=self.model, evaluation=self.evaluation, robustness=self.robustness, output=self.output)
        self.found = json.loads((self.output / "registration.json").read_text())
        return metrics


def check_whole(store, bench):
    """One version, one upload, one run, alias and tables in place."""
    (version,) = store.client.search_model_versions(f"name = 'earmark' AND tags.bundle_digest = '{bench.digest}'")
    assert at(store.client, "challenger").version == version.version
    assert version.tags["evaluation_digest"] == file_digest(bench.evaluation / "trials.parquet")
    (model,) = store.client.search_logged_models([store.experiment], f"tags.bundle_digest = '{bench.digest}'")
    assert str(model.status) == "READY"
    (run,) = runs(store, "earmark.bundle", bench.digest)
    assert run.info.run_id == bench.found["run"]
    place = f"evaluations/{bench.found['evaluation']}"
    assert {item.path.rpartition("/")[2] for item in store.client.list_artifacts(run.info.run_id, place)} == {
        "trials.parquet",
        "robustness.parquet",
    }
    return version, model


def test_a_version_says_what_it_is_made_of_and_holds_both_networks(store, tracking, tmp_path, backend, monkeypatch):
    monkeypatch.setenv("EARMARK_RUN", "flow-1")
    bench = Bench(tmp_path, 1)
    metrics = bench.register(tracking)
    check_whole(store, bench)
    (version,) = versions_of(store.client, bench.digest)
    assert metrics == {"version": float(version.version), "champion": 0.0}
    assert version.tags == {
        "bundle_digest": bench.digest,
        "evaluation_digest": bench.found["evaluation"],
        "corpora": "judge, tiny",
        "licences": "CC-BY-4.0",
        "code_version": "0.1.0",
        "commit": "c0ffee",
        "dvc": '{"tiny": {"dvc://repository@c0ffee/data": "ab"}}',
    }
    weights = [
        key for key in backend[1].stored() if key.endswith("detector/model.safetensors") and key.startswith(f"{store.experiment}/models/")
    ]
    assert len(weights) == 1
    assert not any(key.endswith((".pkl", ".pickle")) for key in backend[1].stored())
    (parent,) = runs(store, "earmark.pipeline", "flow-1")
    assert runs(store, "earmark.bundle", bench.digest)[0].data.tags["mlflow.parentRunId"] == parent.info.run_id
    download_artifacts(f"models:/earmark/{version.version}", dst_path=str(tmp_path / "whole"), tracking_uri=tracking.uri)
    for part in ("detector", "tracer"):
        (weights,) = (tmp_path / "whole").rglob(f"{part}/model.safetensors")
        assert file_digest(weights) == file_digest(bench.model / part / "model.safetensors")


def test_versions_are_compared_by_metrics_params_and_corpora(store, tracking, tmp_path):
    bench = Bench(tmp_path, 6)
    for eer in (0.25, 0.125):
        (bench.evaluation / "metrics.json").write_text(json.dumps({"tiny/eer": eer, "tiny/cllr": 0.5}))
        bench.register(tracking)
    version, model = check_whole(store, bench)
    run = store.client.get_run(version.run_id)
    assert run.data.metrics == {"tiny/eer": 0.125, "tiny/cllr": 0.5}
    assert run.data.params == {"seed": "6"} == model.params
    assert {metric.key: metric.value for metric in store.client.get_logged_model(model.model_id).metrics} == run.data.metrics
    found = {item.dataset.name: item.dataset for item in run.inputs.dataset_inputs}
    assert set(found) == {"tiny", "judge"}
    assert json.loads(found["tiny"].source) == {"dvc://repository@c0ffee/data": "ab"}


def test_a_version_that_was_made_twice_counts_once(store, tracking, tmp_path):
    bench = Bench(tmp_path, 7)
    first = bench.register(tracking)
    version, model = check_whole(store, bench)
    again = {"run_id": version.run_id, "tags": dict(version.tags), "model_id": model.model_id, "await_creation_for": 0}
    twin = store.client.create_model_version("earmark", version.source, **again)
    assert bench.register(tracking) == first
    assert store.client.get_model_version("earmark", twin.version).tags["superseded_by"] == version.version
    assert [found.version for found in versions_of(store.client, bench.digest)] == [version.version]


def test_the_same_model_is_registered_once_and_a_new_evaluation_replaces_the_old(store, tracking, tmp_path):
    bench = Bench(tmp_path, 2)
    first = bench.register(tracking)
    assert bench.register(tracking) == first
    check_whole(store, bench)
    write_evaluation(bench.evaluation, make_trials(60, 2.5, 2))
    assert bench.register(tracking)["version"] == first["version"]
    (version,) = versions_of(store.client, bench.digest)
    assert version.tags["evaluation_digest"] == bench.found["evaluation"] == file_digest(bench.evaluation / "trials.parquet")


@pytest.mark.parametrize(
    ("request_", "answered"),
    [("models/m-", False), ("model-versions/create", True), ("registered-models/alias", False)],
    ids=["in the upload", "version made, answer lost", "between version and alias"],
)
def test_a_server_that_goes_at_any_instant_leaves_nothing_half_made(store, tracking, relay, tmp_path, request_, answered):
    bench = Bench(tmp_path, 10 + len(request_))
    relay.cut(request_, answered=answered)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        bench.register(tracking)
    assert relay.dead
    assert not bench.output.exists()
    relay.mend()
    bench.register(tracking)
    check_whole(store, bench)
    deleted = store.client.search_runs([store.experiment], run_view_type=ViewType.DELETED_ONLY)
    assert len(deleted) == 0


PROGRAM = """
import json, sys
from pathlib import Path
from earmark.params import TrackingParams
from earmark.registry.register import register
settings, places = map(json.loads, sys.argv[1:])
register(TrackingParams(**settings), **{name: Path(place) for name, place in places.items()})
"""


@pytest.mark.parametrize("request_", ["models/m-", "model-versions/create"], ids=["in the upload", "at the version"])
def test_a_registration_that_is_killed_is_completed_by_the_next(store, tracking, relay, tmp_path, request_):
    bench = Bench(tmp_path, 40 + len(request_))
    places = {name: str(getattr(bench, name)) for name in ("model", "evaluation", "robustness", "output")}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tracking.model_dump_json(), json.dumps(places)])
    wait_for(lambda: any(request_ in asked for asked in relay.asked), request_, process)
    process.kill()
    process.wait()
    assert not bench.output.exists()
    bench.register(tracking)
    check_whole(store, bench)
    found = store.client.search_runs([store.experiment])
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(found) == 2  # the pipeline's and its own


def test_a_bundle_whose_file_was_changed_is_refused_before_anything_is_sent(tmp_path):
    bench = Bench(tmp_path, 3)
    (bench.model / "tracer/model.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match=r"tracer/model.safetensors is not the file that manifest.json names"):
        bench.register(TrackingParams(uri="http://127.0.0.1:9"))


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("{"), lambda path: path.write_text("{}")])
def test_a_folder_that_is_no_bundle_is_refused(tmp_path, change):
    bench = Bench(tmp_path, 3)
    change(bench.model / "manifest.json")
    with pytest.raises(InputError, match=r"(it has no manifest.json|manifest.json is not readable|manifest.json lacks schema)"):
        bench.register(TrackingParams(uri="http://127.0.0.1:9"))


def test_without_tables_of_an_evaluation_nothing_is_registered(tmp_path):
    bench = Bench(tmp_path, 3)
    (bench.evaluation / "trials.parquet").unlink()
    with pytest.raises(InputError, match=r"trials.parquet does not exist: evaluate the model first"):
        bench.register(TrackingParams(uri="http://127.0.0.1:9"))


def test_without_a_server_registering_fails_clearly(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UnreachableError, match=r"MLflow at http://127.0.0.1:9 cannot be reached"):
        Bench(tmp_path, 3).register(TrackingParams(uri="http://127.0.0.1:9"))


def test_with_tracking_off_that_is_written(tmp_path):
    bench = Bench(tmp_path, 3)
    assert bench.register(TrackingParams(enabled=False)) == {"version": 0.0}
    assert bench.found == {"schema": 1, "registered": False, "champion": None}


def test_the_embedded_store_registers_too(local, tmp_path):
    bench = Bench(tmp_path, 4)
    bench.register(local)
    with connected(local) as store:
        check_whole(store, bench)
