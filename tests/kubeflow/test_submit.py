"""earmark submit sends what was compiled, with what was changed, and says how the run goes and ends."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pipelines_server import Kubeflow, task
from typer.testing import CliRunner

from earmark import InputError, params
from earmark.__main__ import app
from earmark.params import Params

ROOT = Path(__file__).resolve().parents[2]
WAVESPEC = "detector.members.wavespec"
TOKEN = "secret-of-the-test"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    deployment = folder / "deployment.yaml"
    content = {"image": "earmark:1", "store": "s3://bucket/store", "environment": {"MLFLOW_TRACKING_URI": "http://me:word@mlflow:5000"}}
    deployment.write_text(yaml.safe_dump(content | {"volume": {"claim": "work"}}))
    command = [sys.executable, "-m", "pipelines.compile", "-o", str(folder), "--deployment", str(deployment)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture
def kubeflow(monkeypatch, tmp_path) -> Iterator[Kubeflow]:
    for name in ("KF_PIPELINES_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = Kubeflow()
    yield server
    server.stop()


def submit(server: Kubeflow | str, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and all that was printed. Errors: InputError."""
    address = server if isinstance(server, str) else server.address
    done = CliRunner().invoke(app, ["submit", "--endpoint", address, "--interval", "0.01", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def refused(server: Kubeflow | str, *arguments: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        submit(server, *arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_compiled_pipeline_is_sent_as_it_is(kubeflow, built):
    assert submit(kubeflow, built / "training.yaml", "--run-name", "mine", "--service-account", "earmark")[0] == 0
    (run,) = kubeflow.runs.values()
    spec, platform = yaml.safe_load_all((built / "training.yaml").read_text())
    assert run["pipeline_spec"] == {"pipeline_spec": spec, "platform_spec": platform}
    assert (run["display_name"], run["service_account"], run["runtime_config"]) == ("mine", "earmark", {"parameters": {}})
    assert [one["display_name"] for one in kubeflow.experiments.values()] == ["earmark"]


def test_an_experiment_is_made_once(kubeflow, built):
    for _ in range(2):
        submit(kubeflow, built / "training.yaml", "--experiment", "first", "--no-follow")
    assert len(kubeflow.experiments) == 1
    assert {run["experiment_id"] for run in kubeflow.runs.values()} == {"experiment-0"}


def test_an_uploaded_file_is_a_version_named_by_its_digest_and_uploaded_once(kubeflow, built):
    for _ in range(2):
        code, said = submit(kubeflow, built / "training.yaml", "--upload", "--set", "seed=7")
        assert code == 0
        assert "pipeline earmark-training, version pipeline_version-0" in said
        assert "store: s3://bucket/store" in said, "the pipeline of the version is known when the run is followed"
    assert [one["display_name"] for one in kubeflow.pipelines.values()] == ["earmark-training"]
    (version,) = kubeflow.versions.values()
    assert version["display_name"] == hashlib.sha256((built / "training.yaml").read_bytes()).hexdigest()
    reference = {"pipeline_id": "pipeline-0", "pipeline_version_id": "pipeline_version-0"}
    assert all(run["pipeline_version_reference"] == reference and "pipeline_spec" not in run for run in kubeflow.runs.values())
    assert {run["runtime_config"]["parameters"]["seed"] for run in kubeflow.runs.values()} == {7}


def test_a_file_that_changed_is_another_version_of_the_pipeline(kubeflow, built, tmp_path):
    changed = tmp_path / "training.yaml"
    changed.write_text(f"# changed\n{(built / 'training.yaml').read_text()}")
    for path in (built / "training.yaml", changed):
        submit(kubeflow, path, "--upload", "--no-follow")
    assert (len(kubeflow.pipelines), len(kubeflow.versions)) == (1, 2)
    assert kubeflow.runs["run-1"]["pipeline_version_reference"]["pipeline_version_id"] == "pipeline_version-1"


@pytest.mark.parametrize("upload", [[], ["--upload"]])
def test_a_schedule_replaces_the_one_of_its_name(kubeflow, built, upload):
    for cron in ("0 3 * * 1", "30 4 * * *"):
        code, said = submit(kubeflow, built / "training.yaml", "--every", cron, "--run-name", "weekly", "--set", "seed=7", *upload)
        assert code == 0
        assert f": weekly, at {cron} (UTC)" in said
    submit(kubeflow, built / "training.yaml", "--every", "0 0 1 * *")
    weekly, other = kubeflow.schedules.values()
    assert weekly["trigger"] == {"cron_schedule": {"cron": "0 30 4 * * *"}}, "Kubeflow's first field is the second"
    assert (weekly["display_name"], weekly["mode"], weekly["no_catchup"]) == ("weekly", "ENABLE", True)
    assert weekly["runtime_config"]["parameters"] == {"seed": 7}
    assert ("pipeline_version_reference" in weekly) == bool(upload)
    assert other["display_name"] == "earmark-training"
    assert not kubeflow.runs


def test_a_schedule_that_is_refused_leaves_the_one_before(kubeflow, built):
    submit(kubeflow, built / "training.yaml", "--every", "0 3 * * 1")
    kubeflow.faults["POST /recurringruns"] = [400]
    assert "refuses it (400" in refused(kubeflow, built / "training.yaml", "--every", "0 3 * * 99")
    assert [one["trigger"]["cron_schedule"]["cron"] for one in kubeflow.schedules.values()] == ["0 0 3 * * 1"]


def test_a_wrong_schedule_is_said_before_anything_is_sent(kubeflow, built):
    for wrong in ("weekly", "0 0 3 * * 1", "0 3 * * $"):
        assert f"--every {wrong}: write five fields" in refused(kubeflow, built / "training.yaml", "--every", wrong)
    assert "--upload and --every are for a compiled pipeline" in refused(kubeflow, "--follow", "run-0", "--every", "0 3 * * 1")
    assert not kubeflow.seen


def test_every_change_of_a_step_is_a_line_and_the_end_says_where_the_results_are(kubeflow, built):
    own = [task("root", "RUNNING"), task("download-driver", "SUCCEEDED", 1), task("for-loop-3", "RUNNING", 4)]
    shards = [task("precompute-cqt", "RUNNING", 5), task("precompute-cqt", "SUCCEEDED", 6)]
    kubeflow.looks = [
        ("PENDING", []),
        ("RUNNING", [*own, task("download", "RUNNING", 2)]),
        ("RUNNING", [*own, task("download", "RUNNING", 2)]),
        ("RUNNING", [*own, task("download", "SUCCEEDED", 2), *shards]),
        ("SUCCEEDED", [*own, task("download", "SUCCEEDED", 2), *shards, task("gate", "SUCCEEDED", 8), task("report", "SUCCEEDED", 9)]),
    ]
    code, said = submit(kubeflow, built / "training.yaml", "--run-name", "mine")
    page = f"{kubeflow.address}/#/runs/details/run-0"
    assert code == 0
    assert said.splitlines() == [
        "run run-0: mine",
        f"page: {page}",
        "download: RUNNING",
        "download: SUCCEEDED after 12 s",
        "precompute-cqt: RUNNING",
        "precompute-cqt #2: SUCCEEDED after 12 s",
        "gate: SUCCEEDED after 12 s",
        "report: SUCCEEDED after 12 s",
        "run run-0: SUCCEEDED",
        "the gate did not pass: the log of its step names the rules that failed",
        f"page: {page}",
        "store: s3://bucket/store",
        "MLflow: http://mlflow:5000, experiment earmark",
    ]


def test_a_model_that_was_promoted_is_said(kubeflow, built):
    kubeflow.looks = [("SUCCEEDED", [task("gate", "SUCCEEDED"), task("promote", "SUCCEEDED")])]
    assert "the model is champion now" in submit(kubeflow, built / "training.yaml")[1]


@pytest.mark.parametrize(
    "tasks",
    [
        [task("train-detector", "FAILED", error="no GPU is seen"), task("download", "SUCCEEDED", 1)],
        [task("train-detector", "FAILED", children=("pod-7",)), task("executor", "FAILED", 1, "no GPU is seen") | {"pod_name": "pod-7"}],
        [task("train-detector-driver", "FAILED", error="no GPU is seen") | {"pod_name": "pod-7"}],
    ],
)
def test_a_failed_run_names_the_step_and_its_error(kubeflow, built, tasks):
    kubeflow.looks = [("FAILED", [task("root", "FAILED", 9), *tasks])]
    code, said = submit(kubeflow, built / "training.yaml")
    assert code == 1
    assert "run run-0: FAILED: 1 of its tasks failed" in said
    assert "failed: train-detector: no GPU is seen" in said
    assert ("kubectl logs pod-7 -c main" in said) == any("pod_name" in one for one in tasks)


def test_a_cancelled_run_is_said(kubeflow, built):
    kubeflow.looks = [("CANCELING", []), ("CANCELED", [task("download", "CANCELED")])]
    code, said = submit(kubeflow, built / "training.yaml")
    assert code == 1
    assert "somebody cancelled it" in said


def test_a_run_is_followed_again_by_its_id(kubeflow, built):
    code, said = submit(kubeflow, built / "training.yaml", "--no-follow")
    assert code == 0
    assert f"to follow it: earmark submit --follow run-0 --endpoint {kubeflow.address}" in said
    kubeflow.looks = [("FAILED", [task("gate", "FAILED", error="it broke")])]
    code, said = submit(kubeflow, "--follow", "run-0")
    assert code == 1
    assert "failed: gate: it broke" in said
    assert len(kubeflow.runs) == 1
    assert "either a compiled pipeline to start, or --follow" in refused(kubeflow, built / "training.yaml", "--follow", "run-0")


def test_a_run_whose_pipeline_the_server_keeps_apart_is_followed_too(kubeflow):
    kubeflow.runs["old"] = {"run_id": "old"}
    kubeflow.looks = [("SUCCEEDED", [task("root-driver", "SUCCEEDED"), task("download", "SUCCEEDED", 1), task("executor", "SUCCEEDED", 2)])]
    code, said = submit(kubeflow, "--follow", "old")
    assert code == 0
    assert said.splitlines()[:2] == ["download: SUCCEEDED after 12 s", "run old: SUCCEEDED"]


def test_interrupted_it_leaves_the_run_going_and_says_how_to_follow_it(kubeflow, built):
    kubeflow.looks = [("RUNNING", [task("download", "RUNNING")])]
    command = [
        sys.executable,
        "-m",
        "earmark",
        "submit",
        str(built / "training.yaml"),
        "--endpoint",
        kubeflow.address,
        "--interval",
        "0.05",
    ]
    # Ctrl-C has its usual meaning even where the tests themselves run in the background
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None
    )
    deadline = time.monotonic() + 60
    while not any(path.endswith("/runs/run-0") for _, path, *_ in kubeflow.seen) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith(f"earmark submit --follow run-0 --endpoint {kubeflow.address}")
    assert {method for method, path, *_ in kubeflow.seen if "run-0" in path} == {"GET"}


def test_settings_are_changed_key_by_key(kubeflow, built):
    changes = [
        "--set",
        f"{WAVESPEC}.training.epochs=3",
        "--set",
        f"{WAVESPEC}.training.lr=0.01",
        "--set",
        "seed=7",
        "--argument",
        "store=s3://other/place",
    ]
    submit(kubeflow, built / "training.yaml", *changes, "--set", "audio.level_dbfs=-26")
    sent = kubeflow.runs["run-0"]["runtime_config"]["parameters"]
    compiled = params.load(ROOT / "params.yaml")
    assert set(sent) == {"detector", "seed", "store", *({"audio"} if compiled.audio.level_dbfs != -26 else set())}
    assert (sent["seed"], sent["store"]) == (7, "s3://other/place")
    own, before = Params.model_validate({"detector": json.loads(sent["detector"])}).detector.members, compiled.detector.members
    training = own["wavespec"].training
    assert (training.epochs, training.lr, training.batch_size) == (3, 0.01, before["wavespec"].training.batch_size)
    assert own["wavespec"].network == before["wavespec"].network
    assert {name: one for name, one in own.items() if name != "wavespec"} == {n: one for n, one in before.items() if n != "wavespec"}


def test_a_batch_of_recordings_is_what_the_scoring_pipeline_downloads(kubeflow, built):
    submit(kubeflow, built / "scoring.yaml", "--recordings", "s3://calls/today", "--set", "download.retries=9")
    sent = json.loads(kubeflow.runs["run-0"]["runtime_config"]["parameters"]["download"])
    assert (sent["sources"], sent["retries"]) == ({"recordings": "s3://calls/today"}, 9)
    assert "--recordings is for the pipeline earmark-scoring" in refused(kubeflow, built / "training.yaml", "--recordings", "x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", f"{WAVESPEC}.training.epochs=0"], f"{WAVESPEC}.training.epochs: Input should be greater than or equal to 1, not 0"),
        (["--set", f"{WAVESPEC}.training.epoch=1"], f"{WAVESPEC}.training.epoch: unknown key"),
        (["--set", "trainin.epochs=1"], "--set trainin.epochs=1: earmark-training has no parameter trainin; it has audio, compute"),
        (["--set", "detector"], "--set detector: write key.path=value"),
        (["--argument", "model=x"], "earmark-training has no parameter model"),
        (["--argument", "seed=many"], "seed is a NUMBER_INTEGER"),
        (["--argument", "cqt={bins: 3"], "cqt is no JSON"),
        (["--argument", 'cqt={"bin": 3}'], "cqt.bin: unknown key"),
        (["--set", "tracer.members={}"], "tracer.members decides which steps there are"),
        (["--set", f"{WAVESPEC}=null"], "detector.members decides which steps there are"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_sent(kubeflow, built, arguments, said):
    assert said in refused(kubeflow, built / "training.yaml", *arguments)
    assert not kubeflow.seen


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ("just words", "is no compiled pipeline"),
        ("root: [", "is no compiled pipeline"),
        ("pipelineInfo: {name: x}\nroot: {dag: {tasks: {}}}\ncomponents: {}", "is no compiled pipeline (it has no step)"),
        ("pipelineInfo: {name: x}\nroots: {}", "is no compiled pipeline"),
        ("stages: {a: {cmd: b}}", "is no compiled pipeline"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused(kubeflow, tmp_path, content, said):
    path = tmp_path / "own.yaml"
    if content:
        path.write_text(content)
    found = refused(kubeflow, path)
    assert said in found
    assert "own.yaml" in found
    assert found.endswith("compile one: python -m pipelines.compile")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "wants a valid token (401: Internal: it broke in two lines): set KF_PIPELINES_TOKEN"),
        (403, "forbids it (403: Internal: it broke in two lines)"),
        (404, "has no such thing (404"),
        (500, "fails (500: Internal: it broke in two lines): try again later"),
        (400, "refuses it (400: Internal: it broke in two lines)"),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/experiments", "/runs"])
def test_what_a_server_refuses_is_one_clear_line(kubeflow, built, status, said, path):
    kubeflow.faults[path] = [status]
    assert said in refused(kubeflow, built / "training.yaml")
    assert not kubeflow.runs


def test_a_server_that_fails_for_a_while_is_asked_again(kubeflow, built):
    kubeflow.faults["/runs/run-0"] = [503, 500, 429]
    assert submit(kubeflow, built / "training.yaml")[0] == 0


def test_a_run_that_is_not_there_is_said(kubeflow):
    assert "has no such thing (404: /apis/v2beta1/runs/none not found)" in refused(kubeflow, "--follow", "none")


def test_a_wrong_address_is_said_at_once(kubeflow, built):
    begun = time.monotonic()
    assert "http://127.0.0.1:9 cannot be reached" in refused("http://127.0.0.1:9", built / "training.yaml")
    assert "starts with http:// or https://" in refused("kubeflow.example.org", built / "training.yaml")
    kubeflow.page = "<html>log in</html>"
    assert "answers, but not as Kubeflow Pipelines does" in refused(kubeflow, built / "training.yaml")
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("source", ["variable", "file"])
def test_the_token_of_the_environment_is_sent_and_never_shown(kubeflow, built, source, monkeypatch, tmp_path, caplog):
    kubeflow.token = TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    given = {"variable": ("KF_PIPELINES_TOKEN", TOKEN), "file": ("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))}
    monkeypatch.setenv(*given[source])
    code, said = submit(kubeflow, built / "training.yaml")
    assert code == 0
    assert all(headers["authorization"] == f"Bearer {TOKEN}" for *_, headers in kubeflow.seen)
    kubeflow.token = "another"
    assert TOKEN not in said + caplog.text + refused(kubeflow, built / "training.yaml")


def test_a_server_of_many_namespaces_is_told_which(kubeflow, built):
    kubeflow.many = True
    assert "say which with --namespace" in refused(kubeflow, built / "training.yaml")
    assert submit(kubeflow, built / "training.yaml", "--namespace", "team")[0] == 0
    assert kubeflow.experiments["experiment-0"]["namespace"] == "team"
    assert submit(kubeflow, built / "training.yaml", "--namespace", "team", "--upload", "--every", "0 3 * * 1")[0] == 0
    assert kubeflow.pipelines["pipeline-0"]["namespace"] == "team"
    assert not (Path.home() / ".config/kfp").exists(), "nothing is written into the user's home"
