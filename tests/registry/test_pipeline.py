"""Which run a stage's run is below: given by the environment, else one for each pipeline, however many ask for it at once."""

import multiprocessing
import subprocess
from dataclasses import replace

import pytest

from earmark.model.provenance import commit
from earmark.registry.server import PARENT, PIPELINE, Home, connected, pipeline_key, runs, who


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("EARMARK_RUN", "DVC_EXP_NAME", "EARMARK_COMMIT", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


def git(folder, *command):
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *command], check=True)


def test_stages_of_one_folder_and_commit_belong_together(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        git(folder, "init", "--quiet")
        git(folder, "commit", "--quiet", "--allow-empty", "-m", "first")
    first = pipeline_key(one)
    assert pipeline_key(one) == first
    assert pipeline_key(other) != first
    git(one, "commit", "--quiet", "--allow-empty", "-m", "second")
    assert pipeline_key(one) != first


def test_an_experiment_of_dvc_is_a_pipeline_of_its_own(tmp_path, monkeypatch):
    plain = pipeline_key(tmp_path)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-lion")
    assert pipeline_key(tmp_path) != plain


def test_the_environment_names_the_run_of_stages_on_many_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("EARMARK_RUN", "flow's run/7")
    assert pipeline_key(tmp_path) == "flow_s_run_7"


def test_a_run_that_the_environment_names_is_the_parent_and_no_other_is_made(store, tracking, tmp_path, monkeypatch):
    experiment = store.client.create_experiment(f"{tracking.experiment} of the runner")
    given = store.client.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    home = Home.of(tmp_path)
    with connected(tracking, home) as found:
        assert found.experiment == experiment
        assert home.parent_run(found).info.run_id == given.info.run_id
        assert runs(found, PIPELINE, home.pipeline) == []
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.delenv("MLFLOW_RUN_ID")
    with connected(tracking) as found:
        assert found.experiment == experiment


def find_parent(tracking):
    with connected(tracking) as found:
        Home("p").parent_run(found)


def test_stages_that_begin_at_once_come_to_one_parent(store, tracking):
    forked = multiprocessing.get_context("fork")
    workers = [forked.Process(target=find_parent, args=(tracking,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    (parent,) = runs(store, PIPELINE, "p")
    assert Home("p").parent_run(store).info.run_id == parent.info.run_id
    assert parent.info.status == "RUNNING"


def test_of_two_parents_made_at_once_the_younger_is_marked_and_ended(store):
    first, second = (store.client.create_run(store.experiment, start_time=time, tags={PIPELINE: "q"}) for time in (1, 2))
    assert Home("q").parent_run(store).info.run_id == first.info.run_id
    younger = store.client.get_run(second.info.run_id)
    assert younger.data.tags[PIPELINE] == f"superseded by {first.info.run_id}"
    assert younger.info.status == "KILLED"


def test_a_given_run_is_its_owners_to_end(store):
    given = store.client.create_run(store.experiment)
    home = replace(Home("p"), parent=given.info.run_id)
    child = store.client.create_run(store.experiment, tags={PARENT: given.info.run_id})
    home.conclude(store, child, "FINISHED")
    assert store.client.get_run(given.info.run_id).info.status == "RUNNING"
    assert store.client.get_run(child.info.run_id).info.status == "FINISHED"


def test_a_commit_says_when_files_differ_from_it(tmp_path):
    assert commit(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    (tmp_path / "metrics").mkdir()
    for name in ("file", "dvc.lock", "metrics/metrics.json"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    clean = commit(tmp_path) or ""
    assert len(clean) == 40
    for name in ("dvc.lock", "metrics/metrics.json"):  # what a run writes itself
        (tmp_path / name).write_text("2")
    assert commit(tmp_path) == clean
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == f"{clean}-dirty"


def test_a_user_has_a_name():
    assert "@" in who()
