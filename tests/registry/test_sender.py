"""Journals end in MLflow, once and whole, whatever was interrupted."""

import multiprocessing

import pytest

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.journal import Journal, Written, journals
from earmark.registry.sender import JOURNAL, PARENT, Sending, metric_name, parent_run, sync
from earmark.registry.server import UnreachableError, address, connected, runs, shown

ABOUT = {"commit": "c0ffee", "who": "me@here", "params": {"seed": "5", "corpora.0.root": "data"}, "tracking": {}}


def write(place, stage="train_detector", epochs=3, pipeline="p", status="FINISHED"):
    """A journal as a stage leaves it."""
    report = place.parent / "out/history.csv"
    report.parent.mkdir(exist_ok=True)
    report.write_text("a,b\n")
    journal = Journal(place, stage, ABOUT | {"pipeline": pipeline})
    for epoch in range(1, epochs + 1):
        journal.event({"loss": 1 / epoch, "dev/eer": 0.5 / epoch}, epoch, "detector")
    journal.event({"dev/eer": 0.5 / epochs, "odd (name)": 1})
    journal.end(status, [{"name": "tiny", "digest": "ab" * 10, "trials": "28"}], [report.parent])
    return journal


def begin(place, epochs):
    """A journal of a stage that still runs."""
    journal = Journal(place, "train_detector", ABOUT | {"pipeline": "p"})
    for epoch in range(1, epochs + 1):
        journal.event({"loss": 1 / epoch}, epoch, "detector")
    return journal


def check_run(store, pipeline="p", epochs=3):
    """One parent, one child, every figure once."""
    (parent,) = runs(store, "earmark.pipeline", pipeline)
    (run,) = runs(store, PARENT, parent.info.run_id)
    for name, first in (("detector/loss", 1.0), ("detector/dev/eer", 0.5)):
        history = store.client.get_metric_history(run.info.run_id, name)
        assert [(metric.step, metric.value) for metric in sorted(history, key=lambda metric: metric.step)] == [
            (epoch, pytest.approx(first / epoch)) for epoch in range(1, epochs + 1)
        ]
    assert len(store.client.get_metric_history(run.info.run_id, "dev/eer")) == 1
    assert len(store.client.get_metric_history(parent.info.run_id, "train_detector/dev/eer")) == 1
    assert run.data.params == {"seed": "5", "corpora.0.root": "data"}
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert [(item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs] == [("tiny", "ab" * 10)]
    assert [item.path for item in store.client.list_artifacts(run.info.run_id)] == ["history.csv"]
    assert (run.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert run.info.start_time <= run.info.end_time
    return run


def test_a_journal_becomes_a_run_below_its_pipelines(store, tracking, tmp_path):
    journal = write(tmp_path / "journal")
    found = sync(tmp_path / "journal", tracking)
    assert (found.sent, found.busy, found.failed) == ([journal.folder.name], [], {})
    run = check_run(store)
    assert run.data.metrics["odd _u0028_name_u0029_"] == 1
    assert journals(tmp_path / "journal") == []
    assert sync(tmp_path / "journal", tracking).sent == []


@pytest.mark.parametrize(
    ("request_", "answered"),
    [("runs/create", True), ("runs/log-batch", True), ("mlflow-artifacts", False), ("runs/update", True)],
    ids=["run made, answer lost", "figures stored, answer lost", "no artifact arrived", "all arrived, answer lost"],
)
def test_a_server_that_goes_at_any_instant_loses_and_doubles_nothing(store, tracking, relay, tmp_path, request_, answered):
    write(tmp_path / "journal")
    relay.cut(request_, answered=answered)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        sync(tmp_path / "journal", tracking)
    assert relay.dead
    assert len(journals(tmp_path / "journal")) == 1
    relay.mend()
    assert len(sync(tmp_path / "journal", tracking).sent) == 1
    check_run(store)


def test_a_journal_that_was_sent_but_not_removed_is_sent_again_to_the_same_run(store, tracking, tmp_path, monkeypatch):
    write(tmp_path / "journal")
    with monkeypatch.context() as patched:
        patched.setattr("earmark.registry.journal.Written.remove", lambda self: None)  # killed right before
        sync(tmp_path / "journal", tracking)
    sync(tmp_path / "journal", tracking)
    check_run(store)


def test_figures_are_sent_while_the_stage_runs(store, tmp_path):
    journal = begin(tmp_path / "journal", 1)
    sending = Sending(Written(journal.folder))
    sending.progress(store)
    journal.event({"loss": 0.5}, 2, "detector")
    sending.progress(store)
    (run,) = runs(store, JOURNAL, sending.about["id"])
    assert {metric.step for metric in store.client.get_metric_history(run.info.run_id, "detector/loss")} == {1, 2}
    assert run.info.status == "RUNNING"


def test_a_killed_stage_is_recorded_as_killed(store, tracking, tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=begin, args=(tmp_path / "journal", 2))
    worker.start()
    worker.join()
    sync(tmp_path / "journal", tracking)
    (parent,) = runs(store, "earmark.pipeline", "p")
    (run,) = runs(store, PARENT, parent.info.run_id)
    assert run.info.status == "KILLED"
    assert len(store.client.get_metric_history(run.info.run_id, "detector/loss")) == 2


def test_a_running_stage_is_left_to_its_own_sender(tracking, tmp_path):
    journal = begin(tmp_path, 0)
    assert sync(tmp_path, tracking).busy == [journal.folder.name]


def test_one_journal_that_is_refused_does_not_keep_back_the_others(store, tracking, tmp_path):
    write(tmp_path / "journal", pipeline="x" * 9000)  # longer than MLflow takes
    write(tmp_path / "journal")
    found = sync(tmp_path / "journal", tracking)
    assert (len(found.sent), len(found.failed)) == (1, 1)
    assert "MLflow at" in next(iter(found.failed.values()))
    check_run(store)
    assert len(journals(tmp_path / "journal")) == 1


def test_stages_of_one_pipeline_share_a_parent_and_its_status_is_the_last_ones(store, tracking, tmp_path):
    write(tmp_path / "journal", status="FAILED")
    sync(tmp_path / "journal", tracking)
    (parent,) = runs(store, "earmark.pipeline", "p")
    assert parent.info.status == "FAILED"
    write(tmp_path / "journal", "evaluate")
    sync(tmp_path / "journal", tracking)
    (parent,) = runs(store, "earmark.pipeline", "p")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["earmark.stage"] for run in runs(store, PARENT, parent.info.run_id)} == {"train_detector", "evaluate"}
    assert parent_run(store, "p", 0).info.run_id == parent.info.run_id


def find_parent(tracking):
    with connected(tracking) as found:
        parent_run(found, "p", 0)


def test_stages_that_begin_at_once_find_one_parent(store, tracking):
    forked = multiprocessing.get_context("fork")
    workers = [forked.Process(target=find_parent, args=(tracking,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(runs(store, "earmark.pipeline", "p")) == 1


def test_the_embedded_store_holds_the_same(local, tmp_path):
    write(tmp_path / "journal")
    sync(tmp_path / "journal", local)
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
