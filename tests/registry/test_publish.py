"""Complete outputs end in MLflow, once and whole, whatever was interrupted."""

import json

import pytest

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.publish import (
    LOCK,
    OUTPUT,
    PLACE,
    Record,
    Row,
    Task,
    metric_name,
    output_digest,
    publish,
    read,
    records,
    run_of,
    send_rows,
    sync,
)
from earmark.registry.server import PARENT, PIPELINE, Home, UnreachableError, address, connected, runs, shown
from earmark.storage.locks import locked

DATASET = {"name": "tiny", "digest": "ab" * 10, "trials": "28", "source": '{"https://example.org/tiny.zip": "ab"}'}


def task(stage="train_detector", pipeline="p"):
    return Task(stage, Home(pipeline), 1_700_000_000_000, "c0ffee", "me@here", {"seed": "5", "corpora.0.root": "data"}, "trials", {})


def rows(epochs, first=1, time=1_700_000_001_000):
    return [
        Row(f"detector/{name}", value / epoch, time + epoch, epoch)
        for epoch in range(first, epochs + 1)
        for name, value in (("loss", 1.0), ("dev/eer", 0.5))
    ]


def write(folder, stage="train_detector", epochs=3, pipeline="p", text="a,b\n"):
    """The record that a stage leaves whose output is complete."""
    output = folder / "out"
    output.mkdir(parents=True, exist_ok=True)
    (output / "wavespec.csv").write_text(text)
    (output / "weights.safetensors").write_text("x")
    last = {"dev/eer": 0.5 / epochs, "odd (name)": 1.0, "lost": float("nan")}
    record = Record(task(stage, pipeline), output_digest(output), 1_700_000_009_000, last, rows(epochs), [DATASET])
    return record.write(folder / PLACE, output)


def check_run(store, pipeline="p", epochs=3):
    """One parent, one child, every metric once."""
    (parent,) = runs(store, PIPELINE, pipeline)
    (run,) = runs(store, PARENT, parent.info.run_id)
    for name, first in (("detector/loss", 1.0), ("detector/dev/eer", 0.5)):
        history = store.client.get_metric_history(run.info.run_id, name)
        assert [(metric.step, metric.value) for metric in sorted(history, key=lambda metric: metric.step)] == [
            (epoch, pytest.approx(first / epoch)) for epoch in range(1, epochs + 1)
        ]
    assert len(store.client.get_metric_history(run.info.run_id, "dev/eer")) == 1
    assert len(store.client.get_metric_history(parent.info.run_id, "train_detector/dev/eer")) == 1
    assert run.data.metrics["odd _u0028_name_u0029_"] == 1
    assert run.data.params == {"seed": "5", "corpora.0.root": "data"}
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    (dataset,) = (item.dataset for item in run.inputs.dataset_inputs)
    assert (dataset.name, dataset.digest, dataset.source) == ("tiny", DATASET["digest"], DATASET["source"])
    assert [item.path for item in store.client.list_artifacts(run.info.run_id)] == ["wavespec.csv"]
    assert (run.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_009_000)
    return run


def test_a_record_is_read_as_it_was_written_and_holds_reports_alone(tmp_path):
    folder = write(tmp_path)
    found = read(folder)
    assert (found.task, found.rows, found.output) == (task(), rows(3), output_digest(tmp_path / "out"))
    assert [path.name for path in (folder / "reports").iterdir()] == ["wavespec.csv"]
    assert records(tmp_path / PLACE) == [folder]
    (folder / "record.json").write_text("{")
    with pytest.raises(InputError, match=r"record.json is not readable .*run its stage again"):
        read(folder)


def test_a_complete_output_becomes_a_run_below_its_pipelines(store, tracking, tmp_path):
    folder = write(tmp_path)
    assert sync(tmp_path / PLACE, tracking) == {folder.name: "sent"}
    check_run(store)
    assert records(tmp_path / PLACE) == []
    assert sync(tmp_path / PLACE, tracking) == {}


@pytest.mark.parametrize(
    ("request_", "answered"),
    [("runs/create", True), ("runs/log-batch", True), ("mlflow-artifacts", False), ("runs/set-tag", True), ("runs/update", True)],
    ids=["run made, answer lost", "metrics stored, answer lost", "no artifact arrived", "marked", "all arrived, answer lost"],
)
def test_a_server_that_goes_at_any_instant_loses_and_doubles_nothing(store, tracking, relay, tmp_path, request_, answered):
    write(tmp_path)
    relay.cut(request_, answered=answered)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        sync(tmp_path / PLACE, tracking)
    assert relay.dead
    assert len(records(tmp_path / PLACE)) == 1
    relay.mend()
    assert list(sync(tmp_path / PLACE, tracking).values()) == ["sent"]
    check_run(store)


def test_an_output_that_is_made_again_is_published_once_and_another_one_beside_it(store, tracking, tmp_path):
    write(tmp_path)
    sync(tmp_path / PLACE, tracking)
    write(tmp_path)
    sync(tmp_path / PLACE, tracking)
    first = check_run(store)
    assert run_of(store, task()) is None  # nothing is shown of a third try until its output is known
    write(tmp_path, text="c,d\n")
    sync(tmp_path / PLACE, tracking)
    (parent,) = runs(store, PIPELINE, "p")
    both = runs(store, PARENT, parent.info.run_id)
    assert len({run.data.tags[OUTPUT] for run in both}) == 2
    assert first.info.run_id in [run.info.run_id for run in both]


def test_a_stage_that_goes_on_after_it_was_killed_completes_the_run_it_had(store, tracking, tmp_path):
    run = run_of(store, task())
    assert run is not None
    send_rows(store, run, rows(2))
    send_rows(store, run, rows(2, time=1_700_000_005_000))  # an epoch that was trained again
    folder = write(tmp_path)
    with connected(tracking) as found:
        assert publish(found, folder) == run.info.run_id
    check_run(store)


def test_a_run_below_a_parent_that_lost_moves_to_the_one_that_stayed(store, tmp_path):
    run = run_of(store, task())
    assert run is not None
    older = store.client.create_run(store.experiment, start_time=1, tags={PIPELINE: "p"})
    publish(store, write(tmp_path))
    check_run(store)
    assert store.client.get_run(run.info.run_id).data.tags[PARENT] == older.info.run_id


def test_one_record_that_is_refused_does_not_keep_back_the_others(store, tracking, tmp_path):
    refused = write(tmp_path, pipeline="x" * 9000)  # longer than MLflow takes
    write(tmp_path)
    found = sync(tmp_path / PLACE, tracking)
    assert "MLflow at" in found.pop(refused.name)
    assert list(found.values()) == ["sent"]
    check_run(store)
    assert len(records(tmp_path / PLACE)) == 1


def test_a_record_that_another_process_sends_is_left_to_it(tracking, tmp_path):
    folder = write(tmp_path)
    with locked(folder / LOCK):
        assert sync(tmp_path / PLACE, tracking) == {folder.name: "being sent by another process"}
    assert records(tmp_path / PLACE) == [folder]


def test_stages_of_one_pipeline_share_a_parent(store, tracking, tmp_path):
    write(tmp_path)
    write(tmp_path, "evaluate")
    sync(tmp_path / PLACE, tracking)
    (parent,) = runs(store, PIPELINE, "p")
    assert {run.data.tags["earmark.stage"] for run in runs(store, PARENT, parent.info.run_id)} == {"train_detector", "evaluate"}


def test_a_record_finds_the_run_that_it_was_made_below_although_the_environment_is_another(store, tracking, tmp_path):
    experiment = store.client.create_experiment(f"{tracking.experiment} of the runner")
    given = store.client.create_run(experiment)
    folder = write(tmp_path)
    content = json.loads((folder / "record.json").read_text())
    content["task"]["home"] |= {"parent": given.info.run_id, "experiment": experiment}
    (folder / "record.json").write_text(json.dumps(content))
    sync(tmp_path / PLACE, tracking)
    (run,) = store.client.search_runs([experiment], f"tags.`{PARENT}` = '{given.info.run_id}'")
    assert run.info.status == "FINISHED"
    assert store.client.get_run(given.info.run_id).info.status == "RUNNING"
    assert runs(store, PIPELINE, "p") == []


def test_the_embedded_store_holds_the_same(local, tmp_path):
    write(tmp_path)
    sync(tmp_path / PLACE, local)
    with connected(local) as store:
        run = check_run(store)
        assert run.info.artifact_uri == f"file://{tmp_path}/mlartifacts/{run.info.run_id}/artifacts"


def test_a_deleted_experiment_is_said(local, tmp_path):
    with connected(local) as store:
        store.client.delete_experiment(store.experiment)
    with pytest.raises(InputError, match="experiment 'local' was deleted in MLflow: restore it"), connected(local):
        pass


def test_the_environments_address_wins_and_passwords_are_not_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000/mlflow")
    assert shown(address(TrackingParams())) == "http://host:5000/mlflow"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert address(TrackingParams()) == "sqlite:///mlflow.db"


def test_two_names_never_become_one():
    assert metric_name("a(b/eer") != metric_name("a)b/eer")
    assert metric_name("tiny/eer") == "tiny/eer"
