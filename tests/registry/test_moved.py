"""The embedded store works where its project was moved or copied to, and leaves alone where it was."""

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from earmark import InputError
from earmark.model.manifest import read_manifest
from earmark.params import TrackingParams
from earmark.registry.fetch import fetch
from earmark.registry.moved import PLACES, bring_along
from earmark.registry.register import register
from earmark.registry.server import connected
from registry.examples import make_bundle, make_trials, write_evaluation, write_robustness

EXPERIMENT = "earmark"
ADDRESS = "models:/earmark@challenger"


def tracking(project: Path) -> TrackingParams:
    """What the settings of params.yaml come to in this folder; absolute, since a process of MLflow's opens an address once."""
    return TrackingParams(uri=f"sqlite:///{project}/mlflow.db", artifacts=str(project / "mlartifacts"), experiment=EXPERIMENT)


def propose(project: Path, seed: int) -> str:
    """Register a model of this seed; its digest."""
    evaluation = write_evaluation(project / "evaluation", make_trials(60, 2.0, seed))
    robustness = write_robustness(project / "robustness")
    shutil.rmtree(project / "model", ignore_errors=True)
    register(
        tracking(project),
        model=make_bundle(project / "model", seed),
        evaluation=evaluation,
        robustness=robustness,
        output=project / "registration",
    )
    return read_manifest(project / "model")["digest"]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def places(project: Path) -> list[str]:
    with sqlite3.connect(project / "mlflow.db") as connection:
        return [str(value) for table, column in PLACES for (value,) in connection.execute(f"SELECT {column} FROM {table}") if value]


@pytest.fixture
def project(migrated, tmp_path, monkeypatch) -> Path:
    """A project with a registered model; its name has signs that addresses write otherwise."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "proj A ü"
    folder.mkdir()
    shutil.copy(migrated, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    propose(folder, 1)
    return folder


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_elsewhere_reads_and_writes_its_own_artifacts_alone(project, tmp_path, monkeypatch, how):
    digest, there = read_manifest(project / "model")["digest"], tmp_path / "below" / "proj_B"
    there.parent.mkdir()
    if how == "moved":
        project.rename(there)
    else:
        shutil.copytree(project, there)
    before = contents(project) if project.exists() else None
    monkeypatch.chdir(there)
    shutil.rmtree(there / ".earmark", ignore_errors=True)
    shutil.rmtree(there / "registration")
    assert read_manifest(fetch(tracking(there), ADDRESS))["digest"] == digest
    assert propose(there, 2) != digest
    assert read_manifest(fetch(tracking(there), ADDRESS))["digest"] == read_manifest(there / "model")["digest"]
    assert read_manifest(fetch(tracking(there), "models:/earmark/1"))["digest"] == digest
    assert project.exists() == (how == "copied")
    if before is not None:
        assert contents(project) == before
    client = MlflowClient(tracking(there).uri)
    for version in client.search_model_versions(""):
        assert list(Path(client.download_artifacts(version.run_id, "evaluations", str(tmp_path))).rglob("trials.parquet"))
        place = tmp_path / f"{version.name}-{version.version}"
        place.mkdir()
        assert list(Path(download_artifacts(version.source, dst_path=str(place))).rglob("*"))
    own = [place for place in places(there) if place.startswith("file:")]
    assert len(own) > 8
    assert all(place.startswith((there / "mlartifacts").as_uri()) for place in own if "mlruns" not in place)


def test_artifacts_that_were_left_behind_are_named_and_nothing_is_written(project, tmp_path, monkeypatch):
    there = tmp_path / "alone"
    there.mkdir()
    shutil.copy(project / "mlflow.db", there)
    monkeypatch.chdir(there)
    before = {name: content for name, content in contents(tmp_path).items() if not name.endswith(".lock")}
    with pytest.raises(InputError, match=r"whose artifacts lie in .*proj A.*: bring that folder to .*alone/mlartifacts, or set"):
        fetch(tracking(there), ADDRESS)
    assert {name: content for name, content in contents(tmp_path).items() if not name.endswith(".lock")} == before
    shutil.move(project / "mlartifacts", there)
    assert fetch(tracking(there), ADDRESS).exists()


def test_places_that_are_elsewhere_on_purpose_stay(project, tmp_path, monkeypatch):
    before = places(project)
    bring_along(project / "mlflow.db", EXPERIMENT, project / "others")
    bring_along(project / "mlflow.db", EXPERIMENT, tmp_path / "outside")
    bring_along(project / "mlflow.db", "another experiment", tmp_path / "outside")
    bring_along(tmp_path / "no.db", EXPERIMENT, tmp_path)
    assert places(project) == before
    assert not (tmp_path / "no.db").exists()


def test_a_move_is_followed_as_a_whole_or_not_at_all(project, tmp_path):
    there = tmp_path / "there"
    project.rename(there)
    before = places(there)
    with sqlite3.connect(there / "mlflow.db") as connection:
        connection.execute("CREATE TRIGGER full BEFORE UPDATE ON model_versions BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END")
    with pytest.raises(InputError, match=r"mlflow.db: disk I/O error"):
        bring_along(there / "mlflow.db", EXPERIMENT, there / "mlartifacts")
    assert places(there) == before


def test_many_who_open_a_moved_store_at_once_all_find_it(project, tmp_path, monkeypatch):
    there = tmp_path / "there"
    project.rename(there)
    monkeypatch.chdir(there)
    with connected(tracking(there)) as store:
        found = store.client.get_experiment_by_name(EXPERIMENT)
    assert found.artifact_location == (there / "mlartifacts").as_uri()
    workers = [threading.Thread(target=bring_along, args=(there / "mlflow.db", EXPERIMENT, there / "mlartifacts")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert places(there).count((there / "mlartifacts").as_uri()) == 1
