import logging

from earmark import stages
from earmark.model.provenance import digest
from earmark.params import TrainingParams
from earmark.registry.journal import PLACE, Journal, journals
from earmark.registry.tracking import _listening, datasets, flatten
from earmark.storage.files import read_table


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


def test_the_log_is_listened_to_even_where_it_is_not_shown(tmp_path):
    journal = Journal(tmp_path, "evaluate", {})
    logger = logging.getLogger("earmark.training.loop")
    with _listening(journal):
        logger.info("epoch", extra={"metrics": {"loss": 2.0}, "step": 3, "series": "detector"})
        logger.info("no figures")
    logger.info("later", extra={"metrics": {"loss": 9.0}})
    (written,) = journals(tmp_path)
    assert [(event["metrics"], event["step"]) for event in written.events()[0]] == [({"loss": 2.0}, 3)]


def test_a_server_that_is_away_costs_a_warning_and_nothing_else(change, prepared, tmp_path, caplog, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("EARMARK_RUN", "away")
    params = change(tracking={"enabled": True, "uri": "http://127.0.0.1:9"}, tracer={"members": {}})
    (tmp_path / "artifacts").mkdir()
    for key in ("protocol", "features", "hidden"):
        (tmp_path / stages.ARTIFACTS[key]).symlink_to(prepared / stages.ARTIFACTS["features" if key == "hidden" else key])
    assert stages.run("train_tracer", params, tmp_path) == {}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in warnings[0]
    assert "`earmark sync` sends it" in warnings[0]
    (kept,) = journals(tmp_path / PLACE)
    assert (kept.ending or {})["status"] == "FINISHED"
    assert kept.events()[0][-1]["metrics"] == {"members": 0.0}


def test_processes_that_train_together_are_tracked_once(change, prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    params = change(tracking={"enabled": True, "uri": "http://127.0.0.1:9"}, tracer={"members": {}})
    (tmp_path / "artifacts").mkdir()
    for key in ("protocol", "features", "hidden"):
        (tmp_path / stages.ARTIFACTS[key]).symlink_to(prepared / stages.ARTIFACTS["features" if key == "hidden" else key])
    stages.run("train_tracer", params, tmp_path)
    assert not (tmp_path / PLACE).exists()
