import json
import signal
import subprocess
import sys

import pytest

from earmark import InputError
from earmark.registry.journal import Journal, Written, journals, locked

ABOUT = {"pipeline": "p", "commit": None, "who": "me", "params": {}, "tracking": {}}


def test_a_journal_is_read_as_it_was_written(tmp_path):
    journal = Journal(tmp_path / "journal", "train_detector", ABOUT)
    (written,) = journals(tmp_path / "journal")
    assert written.running
    assert written.ending is None
    journal.event({"loss": 1.5, "dev/eer": 0.25}, 1, "detector")
    first, offset = written.events()
    assert [(event["series"], event["step"], event["metrics"]) for event in first] == [("detector", 1, {"loss": 1.5, "dev/eer": 0.25})]
    journal.event({"loss": float("nan")}, 2, "detector")
    later, _ = written.events(offset)
    assert [event["step"] for event in later] == [2]
    journal.end("FINISHED", [{"name": "tiny", "digest": "ab", "trials": "4"}])
    assert not written.running
    assert (written.ending or {})["status"] == "FINISHED"
    assert written.about["stage"] == "train_detector"


def test_reports_are_copied_and_weights_are_not(tmp_path):
    output = tmp_path / "output"
    (output / "figures").mkdir(parents=True)
    for name in ("metrics.json", "figures/det.png", "history.csv", "weights.safetensors", "trials.parquet"):
        (output / name).write_text("x")
    journal = Journal(tmp_path / "journal", "evaluate", ABOUT)
    journal.end("FINISHED", artifacts=[output])
    kept = journal.folder / "artifacts"
    assert {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()} == {"metrics.json", "figures/det.png", "history.csv"}


def test_a_line_that_was_cut_short_is_left_out_until_it_is_whole(tmp_path):
    journal = Journal(tmp_path, "evaluate", ABOUT)
    journal.event({"a": 1})
    with (journal.folder / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "st')
    events, offset = Written(journal.folder).events()
    assert len(events) == 1
    with (journal.folder / "events.jsonl").open("a") as file:
        file.write('ep": 2, "series": "", "metrics": {}}\n')
    assert [event["step"] for event in Written(journal.folder).events(offset)[0]] == [2]


def test_a_killed_stage_is_told_from_a_running_one(tmp_path):
    program = "import os, signal, sys\nfrom pathlib import Path\nfrom earmark.registry.journal import Journal\n"
    program += (
        f"journal = Journal(Path(sys.argv[1]), 'evaluate', {ABOUT!r})\njournal.event({{'a': 1}})\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (written,) = journals(tmp_path)
    assert not written.running
    assert written.ending is None
    assert len(written.events()[0]) == 1


def test_what_was_sent_or_is_half_made_is_no_journal(tmp_path):
    journal = Journal(tmp_path, "evaluate", ABOUT)
    journal.end("FINISHED")
    Written(journal.folder).remove()
    (tmp_path / ".half.part").mkdir()
    (tmp_path / ".half.part/about.json").write_text("{}")
    assert journals(tmp_path) == []


def test_one_process_at_a_time_holds_a_lock(tmp_path):
    with locked(tmp_path / "sender") as free:
        assert free
        with locked(tmp_path / "sender") as again:
            assert not again
    with locked(tmp_path / "sender") as free:
        assert free


def test_journals_come_oldest_first(tmp_path, monkeypatch):
    for second in ("2", "1"):
        monkeypatch.setattr("earmark.registry.journal.time.strftime", lambda _, second=second: f"2025010{second}-000000")
        Journal(tmp_path, "evaluate", ABOUT | {"second": second})
    assert [json.loads((found.folder / "about.json").read_text())["second"] for found in journals(tmp_path)] == ["1", "2"]


def test_a_place_that_is_not_writable_is_said(tmp_path):
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        Journal(tmp_path / "journal", "evaluate", ABOUT)
