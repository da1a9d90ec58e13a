"""Train, evaluate, register, promote twice, on PostgreSQL and S3, with MLflow killed in the middle."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from earmark import InputError, stages
from earmark.registry.promote import promote
from earmark.registry.publish import PLACE, read, records, sync
from earmark.registry.server import PARENT, connected, runs
from earmark.registry.versions import at
from registry.examples import make_bundle, make_trials, write_evaluation, write_robustness

pytestmark = pytest.mark.timeout(600)


def propose(params, workspace, seed, quality):
    """Package, evaluate, register and judge a model of a given quality; return its version."""
    model, detector = (workspace / stages.ARTIFACTS[key] for key in ("model", "detectors"))
    make_bundle(model, seed, weights=detector / "wavespec.safetensors")
    write_evaluation(workspace / stages.ARTIFACTS["evaluation"], make_trials(900, quality, seed))
    write_robustness(workspace / stages.ARTIFACTS["robustness"])
    version = int(stages.run("register", params, workspace)["version"])
    stages.run("gate", params, workspace)
    return version


def test_everything_is_found_again_although_the_server_was_killed(prepared, change, backend, tmp_path, monkeypatch, caplog):
    _, s3, mlflow = backend
    monkeypatch.setenv("EARMARK_RUN", "end-to-end")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = change(
        tracking={"enabled": True, "uri": mlflow.uri, "experiment": "end to end"}, tracer={"members": {}}, gate={"resamples": 100}
    )
    workspace, decision = Path(shutil.copytree(prepared, tmp_path / "run")), tmp_path / "run/artifacts/decision/decision.json"

    stages.run("train_detector", params, workspace)
    assert records(workspace / PLACE) == []  # sent when it ended
    mlflow.kill()
    untraced = ("precompute_front_end", "train_tracer", "embed_utterances")  # idle: no members
    for name in ("score_detector", *untraced, "fit_ensemble", "package_model", "robustness", "evaluate"):
        stages.run(name, params, workspace)
    kept = records(workspace / PLACE)
    assert [read(folder).task.stage for folder in kept] == ["evaluate", "fit_ensemble", "robustness"]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING and "earmark sync" in record.getMessage()]) == 3
    with pytest.raises(InputError, match="cannot be reached"):
        propose(params, workspace, 1, 2.0)
    mlflow.start()
    assert list(sync(workspace / PLACE, params.tracking).values()) == ["sent"] * 3

    first = propose(params, workspace, 1, 2.0)
    promote(params.tracking, decision)
    worse = propose(params, workspace, 2, 1.2)
    with pytest.raises(InputError, match=r"refuses the challenger: win \(mean over corpora, eer\) failed by"):
        promote(params.tracking, decision)
    better = propose(params, workspace, 3, 3.5)
    promote(params.tracking, decision)

    with connected(params.tracking) as store:
        assert [int(at(store.client, alias).version) for alias in ("champion", "previous")] == [better, first]
        assert at(store.client, "challenger") is None
        versions = {int(found.version): found for found in store.client.search_model_versions("name = 'earmark'")}
        assert {first, worse, better} <= set(versions)
        check_runs(store, workspace)
        kept = store.client.download_artifacts(versions[better].run_id, "records", str(tmp_path))
        (record,) = (json.loads(path.read_text()) for path in Path(kept).iterdir())
        assert record["decision"] == json.loads(decision.read_text())
        assert (record["from"]["version"], record["to"]["version"], record["decision"]["verdict"]) == (first, better, "pass")
        assert not store.client.list_artifacts(versions[worse].run_id, "records")
    assert any(key.endswith("detector/model.safetensors") for key in s3.stored())


def check_runs(store, workspace):
    """One parent; below it a run for each tracked stage and registration, each with what it says of itself."""
    (parent,) = runs(store, "earmark.pipeline", "end-to-end")
    children = runs(store, PARENT, parent.info.run_id)
    by_stage = {run.data.tags["earmark.stage"]: run for run in children}
    names = sorted(run.data.tags["earmark.stage"] for run in children)
    assert names == sorted(["train_detector", "fit_ensemble", "robustness", "evaluate", *3 * ["register"]])
    assert {run.info.status for run in children} == {"FINISHED"}
    training, evaluation = by_stage["train_detector"], by_stage["evaluate"]
    epochs = store.client.get_metric_history(training.info.run_id, "wavespec/training/dev/eer")
    assert sorted(metric.step for metric in epochs) == [1, 2, 3]
    assert training.data.params["detector.members.wavespec.training.epochs"] == "3"
    assert [item.dataset.name for item in training.inputs.dataset_inputs] == ["tiny"]
    assert {"metrics.json", "figures"} <= {item.path for item in store.client.list_artifacts(evaluation.info.run_id)}
    assert parent.data.metrics["evaluate/tiny/eer"] == evaluation.data.metrics["tiny/eer"]
