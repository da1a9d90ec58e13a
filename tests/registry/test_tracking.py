import logging
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from earmark import InputError, stages
from earmark import params as settings
from earmark.model.provenance import digest
from earmark.params import Params, TrainingParams
from earmark.registry.publish import PLACE, read, records
from earmark.registry.server import PARENT, PIPELINE, runs
from earmark.registry.tracking import datasets, flatten, tracked
from earmark.stages import STAGES, Stage
from earmark.storage.files import read_table
from registry.servers import wait_for


def test_settings_are_flattened_by_their_paths():
    found = flatten({"seed": 5, "training": TrainingParams(), "corpora": ({"root": "a"}, {"root": "b"}), "asv": {}})
    assert (found["seed"], found["training.lr"], found["corpora.1.root"], found["asv"]) == ("5", "0.0001", "b", "{}")


def test_a_corpus_has_the_same_digest_wherever_it_lies(protocol):
    moved = protocol.sample(frac=1, random_state=1).assign(path="elsewhere")
    assert digest(moved) == digest(protocol)
    changed = protocol.copy()
    changed.loc[0, "key"] = "other"
    assert digest(changed) != digest(protocol)
    assert len(digest(protocol)) == 64


def test_datasets_are_the_corpora_of_the_protocol(prepared):
    place = prepared / stages.ARTIFACTS["protocol"]
    (found,) = datasets(place)
    assert (found["name"], found["trials"]) == ("tiny", str(len(read_table(place))))


@pytest.fixture
def workspace(done, tmp_path) -> Path:
    """A workspace that lacks the ensemble's answers."""
    (tmp_path / "run/artifacts").mkdir(parents=True)
    for key in ("protocol", "embeddings"):
        (tmp_path / "run" / stages.ARTIFACTS[key]).symlink_to(done / stages.ARTIFACTS[key])
    return tmp_path / "run"


def test_a_server_that_is_away_costs_a_warning_and_nothing_else(change, workspace, caplog, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = change(tracking={"enabled": True, "uri": "http://127.0.0.1:9"})
    metrics = stages.run("doctor", params, workspace)
    said = [record for record in caplog.records if record.name.startswith("earmark.registry")]
    warnings = [record.getMessage() for record in said if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in warnings[0]
    assert "`earmark sync` sends it" in warnings[0]
    (kept,) = records(workspace / PLACE)
    assert read(kept).metrics == metrics
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_processes_that_train_together_are_tracked_once(change, workspace, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    stages.run("doctor", change(tracking={"enabled": True, "uri": "http://127.0.0.1:9"}), workspace)
    assert not (workspace / PLACE).exists()


def small(stage: Stage, tracking, workspace: Path, call):
    """Track a call as that stage."""
    output = workspace / "output"
    params = Params(tracking=tracking)
    sections = {section: getattr(params, section) for section in stage.sections}
    return tracked(lambda: call(output), stage.name, sections, params.tracking, workspace, {"output": output}, {})


def say_and_write(output: Path) -> dict[str, float]:
    logger = logging.getLogger("earmark.training.loop")
    for epoch in (1, 2):
        logger.info("epoch", extra={"metrics": {"loss": 2.0 / epoch}, "step": epoch, "series": "detector"})
    logger.info("no metrics")
    output.mkdir()
    (output / "wavespec.csv").write_text("epoch,loss\n")
    return {"eer": 0.25}


def test_metrics_that_are_logged_go_to_the_server_even_where_the_log_is_not_shown(store, tracking, tmp_path, monkeypatch):
    monkeypatch.setenv("EARMARK_RUN", "logged")
    small(STAGES["fit_ensemble"], tracking, tmp_path, say_and_write)
    logging.getLogger("earmark").info("later", extra={"metrics": {"loss": 9.0}})
    assert records(tmp_path / PLACE) == []
    (parent,) = runs(store, PIPELINE, "logged")
    (run,) = runs(store, PARENT, parent.info.run_id)
    assert sorted((one.step, one.value) for one in store.client.get_metric_history(run.info.run_id, "detector/loss")) == [
        (1, 2.0),
        (2, 1.0),
    ]
    assert (run.data.metrics["eer"], run.info.status) == (0.25, "FINISHED")
    assert [item.path for item in store.client.list_artifacts(run.info.run_id)] == ["wavespec.csv"]


def test_a_stage_that_fails_is_shown_as_failed_and_its_next_try_is_the_same_run(store, tracking, tmp_path, monkeypatch):
    monkeypatch.setenv("EARMARK_RUN", "failing")

    def fail(output):
        raise InputError("no such corpus")

    with pytest.raises(InputError, match="no such corpus"):
        small(STAGES["fit_ensemble"], tracking, tmp_path, fail)
    (parent,) = runs(store, PIPELINE, "failing")
    (run,) = runs(store, PARENT, parent.info.run_id)
    assert run.info.status == "FAILED"
    small(STAGES["fit_ensemble"], tracking, tmp_path, say_and_write)
    (again,) = runs(store, PARENT, parent.info.run_id)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")


def test_a_run_that_the_environment_names_is_the_only_tree(store, tracking, tmp_path, monkeypatch):
    given = store.client.create_run(store.experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment)
    small(STAGES["fit_ensemble"], tracking, tmp_path, say_and_write)
    found = {run.info.run_id: run for run in store.client.search_runs([store.experiment])}
    assert found.pop(given.info.run_id).data.metrics == {"fit_ensemble/eer": 0.25}
    (run,) = found.values()
    assert run.data.tags[PARENT] == given.info.run_id


def test_a_training_that_is_killed_while_it_is_tracked_goes_on_in_one_run(store, tracking, change, prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("EARMARK_RUN", "killed")
    workspace = tmp_path / "run"
    (workspace / "artifacts").mkdir(parents=True)
    for key in ("protocol", "features"):
        (workspace / stages.ARTIFACTS[key]).symlink_to(prepared / stages.ARTIFACTS[key])
    params = change(tracking=tracking.model_dump() | {"enabled": True}, training={"epochs": 12})
    (workspace / "params.yaml").write_text(settings.dump(params))
    process = subprocess.Popen([sys.executable, "-m", "earmark", "train_detector"], cwd=workspace)
    wait_for(lambda: losses(store), "the first epoch on the server", process)
    process.kill()
    process.wait()
    before = losses(store)
    assert records(workspace / PLACE) == []
    subprocess.run([sys.executable, "-m", "earmark", "train_detector"], cwd=workspace, check=True)
    assert records(workspace / PLACE) == []
    (parent,) = runs(store, PIPELINE, "killed")
    (run,) = runs(store, PARENT, parent.info.run_id)
    assert (run.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    steps = losses(store)
    assert before == steps[: len(before)]
    assert steps == list(range(1, 1 + len(pd.read_csv(workspace / stages.ARTIFACTS["detectors"] / "wavespec.csv"))))
    assert "wavespec.csv" in [item.path for item in store.client.list_artifacts(run.info.run_id)]
    assert len(store.client.search_runs([store.experiment])) == 2


def losses(store) -> list[int]:
    """Epochs whose loss the server has."""
    found = [run for run in store.client.search_runs([store.experiment]) if PARENT in run.data.tags]
    names = [name for run in found for name in run.data.metrics if name == "wavespec/training/loss"]
    return sorted(one.step for run in found for name in names for one in store.client.get_metric_history(run.info.run_id, name))
