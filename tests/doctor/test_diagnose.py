import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from earmark import InputError, stages
from earmark.__main__ import main
from earmark.doctor.diagnose import ORDER, SCHEMA, Diagnosis, diagnose, diagnose_run, read_folder, write_report
from earmark.params import DecodingParams, DoctorParams, Params, TrialsParams
from earmark.storage.files import read_table, write_table

OFF = DoctorParams(**dict.fromkeys(ORDER, "off"))


@pytest.fixture(scope="module")
def found(planted) -> Diagnosis:
    return diagnose(read_folder(planted, TrialsParams()), DoctorParams(), TrialsParams(), DecodingParams())


@pytest.fixture(scope="module")
def healthy(clean) -> Diagnosis:
    return diagnose(read_folder(clean, TrialsParams()), DoctorParams(), TrialsParams(), DecodingParams())


def of(diagnosis: Diagnosis, check: str):
    return next(finding for finding in diagnosis.findings if finding.check == check)


CULPRITS = {
    "unreadable": {"no-audio", "cut-off"},
    "silent": {"zeros", "whisper"},
    "clipped": {"clipped"},
    "label_conflicts": {"labels", "labels-spoof", "level", "level-other", "twice"},
    "duplicates": {"same", "same-wav"},
    "near_duplicates": {"coded", "coded-mp3", "coded-opus", "loud", "quiet", "cut", "cut-100ms"},
    "file_leak": {"leak", "leak-there"},
    "near_duplicate_leak": {"coded-leak", "coded-leak-mp3"},
}


@pytest.mark.parametrize(("check", "names"), CULPRITS.items())
def test_each_planted_fault_is_found_and_nothing_else(found, check, names):
    assert set(of(found, check).culprits["utterance_id"]) == names


def test_each_recording_is_one_cluster(found):
    clusters = of(found, "near_duplicates").culprits.groupby("cluster")["utterance_id"].agg(frozenset)
    assert set(clusters) == {
        frozenset({"coded", "coded-mp3", "coded-opus"}), frozenset({"loud", "quiet"}), frozenset({"cut", "cut-100ms"})
    }  # fmt: skip
    assert of(found, "near_duplicates").count == 3
    cut = of(found, "near_duplicates").culprits.set_index("utterance_id").loc["cut-100ms"]
    assert abs(cut["lag_seconds"]) == pytest.approx(0.1, abs=0.001)


def test_leaks_of_speaker_and_group_say_the_splits(found):
    speaker, group = of(found, "speaker_leak").culprits, of(found, "group_leak").culprits
    assert speaker[["speaker", "train", "dev", "eval"]].to_numpy().tolist() == [["two-splits", 1, 1, 0]]
    assert group[["group", "train", "eval"]].to_numpy().tolist() == [["text", 1, 1]]


def test_the_cue_that_separates_is_found_where_it_does(found):
    culprits = of(found, "cheap_cues").culprits
    assert set(culprits["trials"]) == {"eval"}
    assert {"leading_silence", "together"} <= set(culprits["cue"])
    assert culprits.set_index("cue").loc["leading_silence", "auc"] == pytest.approx(1, abs=0.05)
    assert "cut or pad the beginnings" in of(found, "cheap_cues").advice


def test_statuses_follow_severity(found):
    grave = {finding.check: finding.status for finding in found.findings}
    assert {check for check, status in grave.items() if status == "warn"} == {"clipped", "duplicates", "near_duplicates", "cheap_cues"}
    assert {check for check, status in grave.items() if status == "fail"} == set(ORDER) - {
        *("clipped", "duplicates", "near_duplicates", "cheap_cues")
    }
    assert found.status == "fail"


def test_nothing_is_found_in_a_clean_corpus(healthy):
    found = {finding.check: (finding.status, finding.count) for finding in healthy.findings}
    assert found == dict.fromkeys(ORDER, ("pass", 0)) | {"group_leak": ("not judged", 0)}, "the corpus names no groups"
    assert healthy.status == "pass"
    assert len(healthy.cues) > 20


def test_leaks_of_speakers_that_nobody_named_are_not_judged(clean, healthy):
    table = read_folder(clean, TrialsParams())
    settings = DoctorParams(cheap_cues="off")
    finding = of(diagnose(table.assign(speaker=None), settings, TrialsParams(), DecodingParams()), "speaker_leak")
    assert (finding.status, finding.count) == ("not judged", 0)
    assert "no speaker is named" in finding.summary
    assert "protocol.tsv" in finding.advice
    half = table.assign(corpus=["one" if row % 2 else "two" for row in range(len(table))])
    half["speaker"] = half["speaker"].where(half["corpus"] == "one")
    finding = of(diagnose(half, settings, TrialsParams(), DecodingParams()), "speaker_leak")
    assert (finding.status, finding.summary) == ("pass", "two: no speaker is named, so what leaks is not known")
    assert of(healthy, "speaker_leak").summary == ""


def test_checks_that_are_off_say_so(planted):
    diagnosis = diagnose(read_folder(planted, TrialsParams()), OFF, TrialsParams(), DecodingParams())
    assert {finding.status for finding in diagnosis.findings} == {"off"}
    assert diagnosis.status == "pass"
    assert diagnosis.cues.empty


def test_few_unreadable_files_are_a_warning_as_the_stages_tolerate_them(planted):
    trials = TrialsParams(max_unreadable=0.02)
    diagnosis = diagnose(read_folder(planted, trials), DoctorParams(), trials, DecodingParams())
    assert [of(diagnosis, check).status for check in ("unreadable", "silent")] == ["warn", "warn"]
    assert [of(diagnosis, check).count for check in ("unreadable", "silent")] == [2, 2]


def test_a_file_that_is_missing_is_unreadable(clean):
    table = read_folder(clean, TrialsParams())
    table.loc[0, "path"] = str(clean / "gone.flac")
    finding = of(diagnose(table, DoctorParams(cheap_cues="off"), TrialsParams(), DecodingParams()), "unreadable")
    assert finding.culprits["fault"].tolist() == [f"{clean / 'gone.flac'}: no such file"]


def test_a_report_is_complete_and_machine_readable(found, tmp_path):
    write_report(found, tmp_path / "report")
    content = json.loads((tmp_path / "report/report.json").read_text())
    assert (content["schema"], content["status"], content["utterances"]) == (SCHEMA, "fail", len(found.table))
    assert [check["check"] for check in content["checks"]] == list(ORDER)
    assert sum(row["bonafide"] + row["spoof"] for row in content["trials"]) == len(found.table)
    for check in content["checks"]:
        path = tmp_path / "report" / f"{check['check']}.csv"
        assert path.exists() == bool(check["culprits_total"])
        assert not path.exists() or len(pd.read_csv(path)) == check["culprits_total"]
    table = read_table(tmp_path / "report/utterances.parquet")
    assert table["utterance_id"].tolist() == found.table["utterance_id"].tolist()
    assert table["error"].notna().sum() == 3


def test_the_same_corpus_gives_the_same_bytes(clean, healthy, tmp_path):
    again = diagnose(read_folder(clean, TrialsParams()), DoctorParams(), TrialsParams(), DecodingParams())
    for name, diagnosis in (("one", healthy), ("two", again)):
        write_report(diagnosis, tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_a_failed_check_stops_the_pipeline_and_leaves_a_report_to_read(planted, clean, tmp_path):
    places = {name: tmp_path / stages.ARTIFACTS[name] for name in ("protocol", "diagnosis")}
    beside = places["diagnosis"].with_name("diagnosis.failed")
    places["diagnosis"].mkdir(parents=True)  # an earlier run's
    write_table(places["protocol"], read_folder(planted, TrialsParams()))
    with pytest.raises(InputError) as caught:
        stages.run("doctor", Params(), tmp_path)
    said = str(caught.value)
    assert "speaker_leak: 1 speaker: " in said
    assert "two-splits" in said
    assert f"{beside}/report.html" in said
    assert "duplicates: 1 recording:" not in said
    assert (beside / "report.html").exists()
    with pytest.raises(InputError, match="artifacts/diagnosis does not exist: run `earmark doctor` first"):
        stages.run("precompute_cqt", Params(), tmp_path)
    write_table(places["protocol"], read_folder(clean, TrialsParams()))
    assert stages.run("doctor", Params(), tmp_path)["speaker_leak"] == 0
    assert (places["diagnosis"] / "report.html").exists()
    assert not beside.exists()


def test_a_warning_lets_the_pipeline_go_on(planted, tmp_path):
    settings = DoctorParams(**{check: "warn" for check in ORDER if check != "cheap_cues"}, cheap_cues="off")
    protocol = tmp_path / "protocol.parquet"
    write_table(protocol, read_folder(planted, TrialsParams()))
    found = diagnose_run(settings, TrialsParams(), DecodingParams(), protocol=protocol, output=tmp_path / "diagnosis")
    assert found["speaker_leak"] > 0
    assert json.loads((tmp_path / "diagnosis/report.json").read_text())["status"] == "warn"


def earmark(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "earmark", "doctor", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_command_prints_a_table_and_exits_1_when_a_check_fails(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["earmark", "doctor", str(planted), "--out", str(tmp_path / "report")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    printed = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.count("│") > 4}
    assert "speaker_leak: two-splits\n" in printed
    assert set(ORDER) <= set(rows)
    assert "fail" in rows["file_leak"]
    assert "1 recording " in rows["file_leak"]
    assert (tmp_path / "report/report.html").exists()


def test_the_command_prints_json_alone_and_exits_0_on_a_clean_corpus(clean, tmp_path):
    done = earmark(str(clean), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "pass"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere is no folder"),
        (["--json"], "belong to a corpus"),
        ([], "params.yaml: no such file"),
        (["."], "neither protocol.tsv"),
        ([".", "--out", "mine"], "holds something else than a report"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, said):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["earmark", "doctor", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert said in error[0]
    assert (tmp_path / "mine").exists()


def test_unknown_keys_are_refused(clean, tmp_path):
    text = (clean / "protocol.tsv").read_text().replace("\tspoof\t", "\tfake\t", 1)
    (tmp_path / "protocol.tsv").write_text(text)
    with pytest.raises(InputError, match="key is fake"):
        read_folder(tmp_path, TrialsParams())
