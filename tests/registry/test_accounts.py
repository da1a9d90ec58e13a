"""MLflow with its own accounts, on PostgreSQL and S3: ordinary users work on one model, and none shuts out another."""

from contextlib import contextmanager

import pytest

from earmark import InputError
from earmark.params import GateParams, TrackingParams
from earmark.registry.gate import gate
from earmark.registry.promote import promote, rollback
from earmark.registry.publish import PLACE, Record, Row, Task, output_digest, sync
from earmark.registry.register import register
from earmark.registry.server import PARENT, PIPELINE, Home, connected, runs
from earmark.registry.versions import at
from registry import servers
from registry.examples import make_bundle, make_trials, write_evaluation, write_robustness


@contextmanager
def user(monkeypatch, name):
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_USERNAME", name)
        patched.setenv("MLFLOW_TRACKING_PASSWORD", servers.PASSWORD)
        yield


@pytest.fixture
def tracking(server, monkeypatch):
    """Settings of a server with the users anna and ben."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("EARMARK_RUN", "shared")
    for name in ("anna", "ben", "cora"):
        server.administer("2.0/mlflow/users/create", username=name, password=servers.PASSWORD)
    return TrackingParams(uri=server.uri, experiment="shared", timeout_seconds=30)


@pytest.fixture
def server(backend):
    """MLflow with accounts."""
    postgres, s3, _ = backend
    found = servers.Mlflow(postgres.create("accounts"), s3.address, accounts=True)
    yield found
    found.kill()


def propose(tracking, folder, seed, quality):
    """Register a model and let the gate decide; its decision, and its version."""
    model = make_bundle(folder / "model", seed, "MIT")
    evaluation = write_evaluation(folder / "evaluation", make_trials(900, quality, seed))
    tables = {"evaluation": evaluation, "robustness": write_robustness(folder / "robustness")}
    found = register(tracking, model=model, output=folder / "registration", **tables)
    places = {"registration": folder / "registration", "output": folder / "decision"}
    gate(5, GateParams(resamples=100), model=model, **tables, **places)
    return folder / "decision/decision.json", int(found["version"])


def publish(tracking, folder):
    """An output of a stage, published."""
    (folder / "out").mkdir(parents=True)
    (folder / "out/history.csv").write_text("a\n")
    task = Task("train_detector", Home("shared"), 1, None, folder.name, {"seed": folder.name}, "", {})
    Record(task, output_digest(folder / "out"), 2, {"eer": 0.5}, [Row("loss", 1.0, 1, 1)], []).write(folder / PLACE, folder / "out")
    assert list(sync(folder / PLACE, tracking).values()) == ["sent"]


def test_two_users_publish_register_promote_and_go_back_in_turn(tracking, server, tmp_path, monkeypatch):
    with user(monkeypatch, "anna"):
        publish(tracking, tmp_path / "anna")
        decision, first = propose(tracking, tmp_path / "a", 1, 2.0)
        promote(tracking, decision, "anna")
        with connected(tracking) as store:
            experiment = store.experiment
    for kind, name in (("experiment", experiment), ("registered_model", "earmark")):
        grant = {"username": "ben", "resource_type": kind, "resource_id": name, "permission": "EDIT"}
        server.administer("3.0/mlflow/users/permissions/grant", **grant)
    with user(monkeypatch, "ben"):  # may change, may not delete
        publish(tracking, tmp_path / "ben")
        decision, second = propose(tracking, tmp_path / "b", 2, 3.5)
        assert promote(tracking, decision, "ben")["from"]["version"] == first
        assert rollback(tracking, "ben")["to"]["version"] == first
    with user(monkeypatch, "anna"):
        decision, third = propose(tracking, tmp_path / "c", 3, 3.6)
        promote(tracking, decision, "anna")
        with connected(tracking) as store:
            assert [int(at(store.client, alias).version) for alias in ("champion", "previous")] == [third, first]
            assert int(store.client.get_model_version("earmark", str(second)).version) == second
            (parent,) = runs(store, PIPELINE, "shared")
            children = runs(store, PARENT, parent.info.run_id)
            assert sorted(run.data.tags["earmark.stage"] for run in children) == [*3 * ["register"], *2 * ["train_detector"]]
            assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    with user(monkeypatch, "cora"), pytest.raises(InputError, match=r"MLflow at .*Permission denied"):
        rollback(tracking, "cora")
    with user(monkeypatch, "ben"):  # nobody's refused try keeps the next from it
        assert rollback(tracking, "ben")["to"]["version"] == first
