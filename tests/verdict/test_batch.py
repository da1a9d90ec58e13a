"""Recordings of a folder judged by several workers: the same lines as one worker's, and as the command's."""

import json
import os
import shutil
from pathlib import Path

import pytest

from earmark import InputError, stages
from earmark.verdict.answer import Verdict
from earmark.verdict.batch import check_recordings, count, read_verdicts

VERDICTS = stages.ARTIFACTS["verdicts"]


@pytest.fixture
def batch(done, corpus, tmp_path, monkeypatch) -> Path:
    """A workspace with a model and six recordings, one of them broken; two recordings a file of verdicts."""
    monkeypatch.setattr("earmark.verdict.batch.CHUNK", 2)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/model").symlink_to(done / stages.ARTIFACTS["model"])
    for number, path in enumerate(sorted(corpus.rglob("eval-*.flac"))[:5]):
        place = tmp_path / "data" / f"case{number % 2}" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (tmp_path / "data/case0/broken.wav").write_bytes(b"no audio")
    (tmp_path / "data/notes.txt").write_text("not a recording")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_workers_together_write_what_one_writes_and_a_broken_file_has_its_line(batch, tiny):
    counts = stages.run("check_recordings", tiny, batch)
    assert counts["recordings"] == 6
    assert (counts["failed"], counts["left_out"]) == (1, 1)
    assert sum(counts[name] for name in ("bonafide", "spoof", "inconclusive")) == 5
    whole = contents(batch / VERDICTS)
    assert sorted(whole) == ["00000.jsonl", "00001.jsonl", "00002.jsonl", "00003.jsonl"]
    shutil.rmtree(batch / VERDICTS)
    for shard in ("2/2", "1/2"):
        stages.run("check_recordings", tiny, batch, shard=shard)
    assert contents(batch / VERDICTS) == whole
    found = read_verdicts(batch / VERDICTS)
    assert count(found) == counts
    assert [one.file for one in found] == sorted(one.file for one in found)
    (broken,) = [json.loads(line) for line in whole["00000.jsonl"].splitlines() if b"broken" in line]
    assert broken["file"] == "case0/broken.wav"
    assert broken["error"]


def test_a_verdict_that_lies_there_is_kept_unless_the_recording_changed(batch, tiny):
    stages.run("check_recordings", tiny, batch)
    whole = contents(batch / VERDICTS)
    path = batch / VERDICTS / "00001.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["llr"] += 1  # to be recognised
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stages.run("check_recordings", tiny, batch)
    assert json.loads(path.read_text().splitlines()[0])["llr"] == lines[0]["llr"]
    with (batch / "data" / lines[0]["file"]).open("ab") as file:
        file.write(os.urandom(8))
    stages.run("check_recordings", tiny, batch)
    assert json.loads(path.read_text().splitlines()[0])["llr"] != lines[0]["llr"]
    assert contents(batch / VERDICTS)["00002.jsonl"] == whole["00002.jsonl"]


def test_a_folder_without_recordings_is_said(batch, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no recording there"):
        check_recordings(tiny.compute, data=tmp_path / "empty", model=batch / "artifacts/model", output=tmp_path / "out")


def test_a_line_ends_at_its_newline_whatever_a_recording_says_of_itself(batch, tiny):
    stages.run("check_recordings", tiny, batch)
    path = batch / VERDICTS / "00001.jsonl"
    first = Verdict.model_validate_json(path.read_bytes().split(b"\n")[0])
    odd = first.model_copy(update={"tracks": [first.tracks[0].model_copy(update={"coding": "a\x85b\u2028c", "language": "d\u2029\r"})]})
    path.write_text(f"{odd.model_dump_json()}\n")
    assert odd in read_verdicts(batch / VERDICTS)
    stages.run("check_recordings", tiny, batch)
    assert read_verdicts(batch / VERDICTS)[2] == odd  # was kept
