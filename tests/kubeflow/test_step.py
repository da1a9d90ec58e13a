"""A stage as a step: what it stores is what the stage writes, taken again while it is whole, made again when it is not."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Metrics

from earmark import stages
from earmark.download.fetch import fetch
from earmark.kubeflow import step, tools
from earmark.kubeflow.pointer import Pointer
from earmark.kubeflow.store import gone, load, open_store, save
from earmark.params import DownloadParams, Params
from earmark.registry.publish import PLACE, read, records
from object_store import BUCKET, S3_ENVIRONMENT


class Cluster:
    """A store, and artifacts of earlier steps made from a finished workspace."""

    def __init__(self, folder: Path, done: Path, settings: Params):
        self.folder, self.done, self.settings, self.calls = folder, done, settings, 0
        self.store = open_store(str(folder / "store"))

    def artifact(self, name: str) -> Dataset:
        found = Dataset(name=name, uri=str(self.folder / f"{name}.json"))
        place = self.folder / "given" / name
        if not place.exists():  # a copy: the data's own folder may be anywhere
            source = self.done / stages.ARTIFACTS[name]
            place.parent.mkdir(exist_ok=True)
            shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
        Path(found.path).write_text(json.dumps(save(place, self.store, self.folder / "packs").content))
        return found

    def arguments(self, name: str, **changes) -> dict:
        stage, self.calls = stages.STAGES[name], self.calls + 1
        sections = json.loads(self.settings.model_dump_json())
        given = {
            section: value if section == "seed" else json.dumps(value) for section, value in sections.items() if section in stage.sections
        }
        made = {"output": Artifact(name="output", uri=str(self.folder / f"output-{self.calls}/output")), "metrics": Metrics()}
        tracking = {"tracking": json.dumps({"enabled": False})}
        inputs = {key: self.artifact(key) for key in stage.inputs}
        return given | tracking | inputs | made | {"store": self.store.place, "run": ""} | changes


@pytest.fixture
def cluster(tmp_path, done, tiny, monkeypatch) -> Cluster:
    monkeypatch.setenv(step.WORK, str(tmp_path / "work"))
    return Cluster(tmp_path, done, tiny)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def left(folder: Path) -> list[Path]:
    """What steps left where they worked, beside their locks."""
    return [path for path in (folder / "work/earmark-steps").iterdir() if path.suffix != ".lock"]


def test_a_step_stores_what_the_stage_writes_and_leaves_its_folder_empty(cluster, done, tmp_path):
    arguments = cluster.arguments("fit_ensemble")
    metrics = step.run_step("fit_ensemble", arguments)
    assert arguments["metrics"].metadata == metrics
    pointer = Pointer.read(Path(arguments["output"].path))
    assert arguments["output"].metadata["digest"] == pointer.digest
    load(pointer, tmp_path / "back", cluster.store)
    assert contents(tmp_path / "back") == contents(done / stages.ARTIFACTS["answers"])
    assert left(tmp_path) == []


def test_a_step_that_is_stored_is_taken_and_one_of_other_settings_is_not(cluster, caplog, change):
    arguments = [cluster.arguments("fit_ensemble") for _ in range(2)]
    first, second = (step.run_step("fit_ensemble", one) for one in arguments)
    assert first == second
    assert arguments[0]["output"].metadata == arguments[1]["output"].metadata
    before = arguments[0]["output"].metadata["step"]
    other = cluster.arguments("fit_ensemble", ensemble=change(ensemble={"coverage": 0.8}).ensemble.model_dump_json())
    step.run_step("fit_ensemble", other)
    assert other["output"].metadata["step"] != before


def test_a_stored_step_whose_objects_are_gone_runs_again(cluster):
    first = cluster.arguments("fit_ensemble")
    step.run_step("fit_ensemble", first)
    pointer = Pointer.read(Path(first["output"].path))
    lost = next(iter(pointer.objects))
    (cluster.folder / "store/objects" / lost).unlink()
    assert gone(pointer, cluster.store) == [lost]
    again = cluster.arguments("fit_ensemble")
    step.run_step("fit_ensemble", again)
    assert Pointer.read(Path(again["output"].path)) == pointer
    assert gone(pointer, cluster.store) == []


def test_a_share_of_a_stage_is_a_step_of_its_own_and_the_shares_together_are_the_whole(cluster, done, tmp_path):
    parts = []
    for shard in ("1/2", "2/2"):
        arguments = cluster.arguments("score_detector", shard=shard)
        step.run_step("score_detector", arguments)
        parts.append(arguments["output"])
    whole = Artifact(name="whole", uri=str(tmp_path / "whole.json"))
    tools.unite(parts, whole)
    load(Pointer.read(Path(whole.path)), tmp_path / "back", cluster.store)
    assert contents(tmp_path / "back") == contents(done / stages.ARTIFACTS["scores"])


def test_where_the_data_came_from_goes_with_the_pointers_into_the_model(cluster, corpus, tmp_path):
    data = cluster.arguments("download", download=json.dumps({"sources": {"tiny": str(corpus)}}))
    step.run_step("download", data)
    given = {"data": data["output"], "copies": cluster.artifact("copies"), "corpora": '[{"adapter": "folder", "root": "data/tiny"}]'}
    prepared = cluster.arguments("prepare_protocol", **given)
    step.run_step("prepare_protocol", prepared)
    packaged = cluster.arguments("package_model", protocol=prepared["output"], corpora=given["corpora"])
    step.run_step("package_model", packaged)
    tools.fetch(packaged["output"], "manifest.json", str(tmp_path / "manifest.json"))
    record = fetch(str(corpus), tmp_path / "tiny", DownloadParams())
    origins = {"tiny": {str(corpus): record["addresses"][str(corpus)]["sha256"]}}
    assert json.loads((tmp_path / "manifest.json").read_text())["code"]["dvc"] == origins
    assert packaged["output"].metadata["origins"] == origins
    tools.unite([packaged["output"]], whole := Artifact(name="whole", uri=str(tmp_path / "whole.json")))
    assert Pointer.read(Path(whole.path)).origins == origins


def test_an_evaluation_shows_its_page_and_its_curve(cluster, done, tmp_path):
    arguments = cluster.arguments("evaluate")
    step.run_step("evaluate", arguments)
    page = HTML(name="report", uri=str(tmp_path / "artifacts/report.html"))
    tools.fetch(arguments["output"], "report.html", page.path)
    assert "<html" in Path(page.path).read_text()
    curve = ClassificationMetrics(name="curve")
    tools.log_curve(arguments["output"], curve)
    points = curve.metadata["confidenceMetrics"]
    assert len(points) > 3
    assert [point["falsePositiveRate"] for point in points] == sorted(point["falsePositiveRate"] for point in points)


def test_what_the_user_can_mend_is_one_line_and_leaves_no_output(cluster):
    arguments = cluster.arguments("fit_ensemble", ensemble="{")
    with pytest.raises(SystemExit, match="error: fit_ensemble: argument ensemble is no JSON"):
        step.run_step("fit_ensemble", arguments)
    arguments = cluster.arguments("fit_ensemble", ensemble='{"coverag": 1}')
    with pytest.raises(SystemExit, match=r"error: fit_ensemble: .*ensemble\.coverag"):
        step.run_step("fit_ensemble", arguments)
    assert not Path(arguments["output"].path).exists()


def test_what_mlflow_was_not_there_to_take_outlives_the_step(cluster, tmp_path):
    tracking = json.dumps({"enabled": True, "uri": "http://127.0.0.1:9", "timeout_seconds": 1, "wait_seconds": 0.1})
    step.run_step("fit_ensemble", cluster.arguments("fit_ensemble", tracking=tracking))
    assert left(tmp_path) == []
    (kept,) = records(tmp_path / "work" / PLACE)
    assert read(kept).task.stage == "fit_ensemble"
    assert read(kept).metrics


PROGRAM = """
import json, sys
from kfp.dsl import Artifact, Metrics
from earmark.kubeflow.step import run_step
given = json.loads(sys.argv[1])
made = {name: Artifact(name=name, uri=uri) for name, uri in given.pop("artifacts").items()}
run_step(sys.argv[2], given | made | {"metrics": Metrics()})
"""


def command_of(stage: str, arguments: dict) -> list[str]:
    """The step as a process of its own."""
    artifacts = {name: value.uri for name, value in arguments.items() if isinstance(value, Artifact) and name != "metrics"}
    given = {name: value for name, value in arguments.items() if isinstance(value, str | int)} | {"artifacts": artifacts}
    return [sys.executable, "-c", PROGRAM, json.dumps(given), stage]


def test_a_training_step_that_was_killed_goes_on_in_its_folder_to_the_same_bytes(cluster, done, tmp_path):
    arguments = cluster.arguments("train_detector")
    command = command_of("train_detector", arguments)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while (
        not (states := list((tmp_path / "work").rglob("wavespec.state.safetensors"))) and time.monotonic() < until and first.poll() is None
    ):
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert states
    assert not Path(arguments["output"].path).exists()
    second = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=True)
    assert "resume" in second.stderr or "goes on" in second.stderr
    load(Pointer.read(Path(arguments["output"].path)), tmp_path / "back", cluster.store)
    assert contents(tmp_path / "back") == contents(done / stages.ARTIFACTS["detectors"])


def test_a_run_that_wants_a_step_in_the_making_waits_and_takes_it(cluster, tmp_path):
    first, second = (cluster.arguments("fit_ensemble") for _ in range(2))
    with step._held(step.Step.of("fit_ensemble", first)):
        waiting = subprocess.Popen(command_of("fit_ensemble", second), stderr=subprocess.PIPE, text=True)
        assert waiting.stderr
        said = waiting.stderr.readline()
        assert "another run makes it" in said, said + waiting.communicate(timeout=60)[1]
        store = open_store(first["store"])
        made = step._make(step.Step.of("fit_ensemble", first), store, first)
        assert waiting.poll() is None
    assert "taken from the store" in waiting.communicate(timeout=120)[1]
    assert waiting.returncode == 0
    assert Pointer.read(Path(second["output"].path)) == made[0]


def test_a_missing_secret_is_said_and_nothing_is_written(cluster, s3, monkeypatch, tmp_path):
    arguments = cluster.arguments("fit_ensemble", store=f"s3://{BUCKET}/store")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # of this process, which keeps what it found for a test before
    for name in S3_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": s3.address,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"error: fit_ensemble: s3://{BUCKET}/store: .*credentials"):
        step.run_step("fit_ensemble", arguments)
    assert not Path(arguments["output"].path).exists()
    assert left(tmp_path) == []


def test_a_gpu_that_is_not_there_is_said(cluster, change):
    arguments = cluster.arguments("train_detector", compute=change(compute={"device": "cuda"}).compute.model_dump_json())
    with pytest.raises(SystemExit, match=r"error: train_detector: compute\.device is cuda, but torch sees no GPU"):
        step.run_step("train_detector", arguments)
    assert not Path(arguments["output"].path).exists()


def test_a_full_disk_is_said_and_the_step_goes_on_when_there_is_room(cluster, done, tmp_path):
    arguments = cluster.arguments("fit_ensemble")
    command = command_of("fit_ensemble", arguments)
    full = subprocess.run(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    )
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith("error: fit_ensemble: cannot write "), full.stderr
    assert not Path(arguments["output"].path).exists()
    subprocess.run(command, check=True)
    load(Pointer.read(Path(arguments["output"].path)), tmp_path / "back", cluster.store)
    assert contents(tmp_path / "back") == contents(done / stages.ARTIFACTS["answers"])


@pytest.fixture
def changed(monkeypatch, tmp_path) -> Callable[[str], set[str]]:
    """Names of the stages whose steps get another key when a line is added to a file of the package."""
    whole = tmp_path / "earmark"
    shutil.copytree(stages.PACKAGE, whole, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(stages, "PACKAGE", whole)
    before = {name: step.code_digest(stage) for name, stage in stages.STAGES.items()}

    def change(file: str) -> set[str]:
        place = whole / file
        kept = place.read_text()
        place.write_text(f"{kept}# another line\n")
        after = {name: step.code_digest(stage) for name, stage in stages.STAGES.items()}
        place.write_text(kept)
        return {name for name in before if before[name] != after[name]}

    return change


def test_a_comment_changes_the_steps_that_follow_from_its_file_alone(changed):
    assert changed("params/registry.py") == {"register", "gate"}
    assert changed("evaluation/page.html.j2") == {"evaluate"}
    assert changed("doctor/page.html.j2") == {"doctor"}
    assert changed("verdict/page.html.j2") == {"check_recordings"}
    assert changed("download/sources.yaml") == {"download", "package_model"}
    assert changed("training/losses.py") == {"train_detector", "train_tracer"}
    assert changed("storage/files.py") == set(stages.STAGES)
    assert changed("stages.py") == changed("__main__.py") == set()


def test_another_version_of_a_package_changes_every_step(monkeypatch, tmp_path):
    before = {name: step.code_digest(stage) for name, stage in stages.STAGES.items()}
    folder = tmp_path / "torch-99.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "torch 99.0" in step.installed()
    assert all(step.code_digest(stage) != before[name] for name, stage in stages.STAGES.items())
