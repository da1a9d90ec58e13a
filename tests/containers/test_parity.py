"""One seeded run has the same bytes in plain Python, `dvc repro`, Kubeflow's local runner and real containers, there with real servers.

In the containers a worker of precompute and the training are killed once in the middle: the second run ends as if nothing had been.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from kfp import components, local
from mlflow.tracking import MlflowClient

from containers.engine import IMAGE, Engine
from containers.runner import mended
from earmark import params, stages
from earmark.kubeflow.pointer import Pointer
from earmark.kubeflow.store import STEPS, load, open_store
from earmark.registry.versions import CHAMPION
from object_store import BUCKET, S3, S3_ENVIRONMENT
from registry import servers

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]
ROOT = Path(__file__).resolve().parents[2]
SAME = ("copies", "protocol", "features", "detectors", "members", "scores", "embeddings", "answers", "evaluation")
PASSING = {"first": {"eer": 1.0, "cllr": 99.0}, "calibration": {"cllr": 99.0, "loss": 99.0}, "robustness_eer": None}
PLAIN = """
from pathlib import Path
from earmark import params, stages
for name, stage in stages.STAGES.items():
    if name != "check_recordings":
        stages.run(name, params.load(Path("params.yaml")))
"""


class Backend:
    """PostgreSQL, S3 and MLflow, and the corpus in S3."""

    def __init__(self, stack: ExitStack, corpus: Path):
        self.database, self.s3 = servers.Postgres(), S3()
        stack.callback(self.database.stop)
        stack.callback(self.s3.stop)
        self.mlflow = servers.Mlflow(self.database.uri, self.s3.address)
        stack.callback(self.mlflow.kill)
        for path in corpus.rglob("*"):
            if path.is_file():
                self.s3.client.upload_file(str(path), BUCKET, f"corpora/tiny/{path.relative_to(corpus).as_posix()}")

    @property
    def environment(self) -> dict[str, str]:
        return S3_ENVIRONMENT | {"AWS_ENDPOINT_URL": self.s3.address, "MLFLOW_S3_ENDPOINT_URL": self.s3.address}


@pytest.fixture(scope="module")
def backend(corpus) -> Iterator[Backend]:
    if lacking := servers.missing():
        pytest.skip(f"needs {lacking}")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        made = Backend(stack, corpus)
        for name, value in made.environment.items():
            patch.setenv(name, value)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("EARMARK_COMMIT", "parity")
        yield made


@pytest.fixture(scope="module")
def settings(tiny) -> dict:
    """Tiny params on a corpus that is downloaded from S3."""
    corpus = {"corpora": [{"adapter": "folder", "root": "data/tiny"}], "download": {"sources": {"tiny": f"s3://{BUCKET}/corpora/tiny/"}}}
    known = json.loads(tiny.model_dump_json())
    return {**known, **corpus, "gate": known["gate"] | PASSING}


def write_params(folder: Path, settings: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(params.dump(params.parse(settings, "parity")))
    return folder / "params.yaml"


def contents(root: Path) -> dict[str, bytes]:
    if root.is_file():
        return {"": root.read_bytes()}
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def bytes_of(workspace: Path) -> dict[str, dict[str, bytes]]:
    """What is compared of a run; of the evaluation its figures and tables, since its page and pictures name the model."""
    found = {name: contents(workspace / stages.ARTIFACTS[name]) for name in SAME}
    found["evaluation"] = {name: content for name, content in found["evaluation"].items() if name.endswith((".json", ".csv"))}
    return found


@pytest.fixture(scope="module")
def plain(backend, settings, tmp_path_factory) -> Path:
    """A workspace in which all stages have run in one Python process."""
    folder = tmp_path_factory.mktemp("plain")
    write_params(folder, settings)
    subprocess.run([sys.executable, "-c", PLAIN], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def expected(plain) -> dict[str, dict[str, bytes]]:
    found = bytes_of(plain)
    assert all(found.values())
    return found


def differences(found: dict[str, dict[str, bytes]], expected: dict[str, dict[str, bytes]]) -> list[str]:
    return [
        f"{artifact}/{name}"
        for artifact in SAME
        for name in sorted({*found[artifact], *expected[artifact]})
        if found[artifact].get(name) != expected[artifact].get(name)
    ]


def test_dvc_makes_the_same_bytes(plain, expected, settings, tmp_path):
    write_params(tmp_path, settings)
    for file in ("dvc.yaml", "requirements-image.lock"):
        shutil.copy(ROOT / file, tmp_path)
    shutil.copytree(plain / "data", tmp_path / "data")
    (tmp_path / "src").symlink_to(ROOT / "src")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    for command in (("dvc", "init", "--no-scm", "--quiet"), ("dvc", "repro")):
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert differences(bytes_of(tmp_path), expected) == []


class Flow:
    """The compiled training pipeline on a store of its own."""

    def __init__(self, folder: Path, settings: dict, deployment: dict):
        self.folder, self.store = folder, deployment["store"]
        folder.mkdir(exist_ok=True)
        (folder / "deployment.yaml").write_text(yaml.safe_dump({"shards": 2, **deployment}))
        command = [sys.executable, "-m", "pipelines.compile", "--params", str(write_params(folder, settings)), "-o", str(folder)]
        subprocess.run([*command, "--deployment", str(folder / "deployment.yaml")], cwd=ROOT, check=True)

    def run(self) -> None:
        components.load_component_from_file(str(self.folder / "training.yaml"))()

    def bytes(self) -> dict[str, dict[str, bytes]]:
        """What the steps of each stage stored together, fetched into a workspace."""
        makers = {stage.output: stage.name for stage in stages.STAGES.values()}
        for name in SAME:
            whole = Pointer.union(Pointer.of(record["pointer"], name) for record in self.records(makers[name]))
            load(whole, self.folder / "back" / stages.ARTIFACTS[name], open_store(self.store))
        return bytes_of(self.folder / "back")

    def records(self, stage: str) -> list[dict]:
        if not self.store.startswith("s3://"):
            return [json.loads(path.read_text()) for path in sorted(Path(self.store, STEPS, stage).glob("*.json"))]
        client = open_store(self.store).client  # pyright: ignore[reportAttributeAccessIssue]
        prefix = f"{self.store.removeprefix(f's3://{BUCKET}/')}/{STEPS}/{stage}/"
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [json.loads(client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()) for item in found]


def test_kubeflows_local_runner_makes_the_same_bytes(backend, settings, expected, tmp_path):
    flow = Flow(tmp_path, settings, {"image": "unused", "store": str(tmp_path / "store")})
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "out"), raise_on_error=True)
    flow.run()
    assert differences(flow.bytes(), expected) == []


class Killer(threading.Thread):
    """Kills the first container that runs a component, once a file says that it is in the middle of its work."""

    def __init__(self, engine: Engine, component: str, work: Path, sign: str):
        super().__init__(daemon=True)
        self.client, self.component, self.work, self.sign, self.killed = engine.client(), component, work, sign, False
        self.ended = threading.Event()

    def run(self) -> None:
        while not (self.killed or self.ended.is_set()):
            if list(self.work.glob(f"earmark-steps/{self.component}-*/{self.sign}")):
                for container in self.client.containers.list():
                    if any(self.component in word for word in container.attrs["Config"]["Cmd"] or container.attrs["Args"]):
                        container.kill()
                        self.killed = True
                        return
            time.sleep(0.02)


def test_containers_make_the_same_bytes_and_a_champion_although_two_were_killed(engine, backend, settings, expected, open_folder):
    out, work = open_folder / "out", open_folder / "work"
    for folder in (out, work):
        folder.mkdir()
        folder.chmod(0o777)
    tracking = {"enabled": True, "uri": backend.mlflow.uri, "experiment": "containers"}
    kernels = {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}  # which ones decides the last bits
    environment = backend.environment | kernels | {"OMP_NUM_THREADS": "1", "EARMARK_WORK": str(work), "EARMARK_COMMIT": "parity"}
    deployment = {"image": IMAGE, "store": f"s3://{BUCKET}/store", "environment": environment}
    flow = Flow(open_folder / "flow", settings | {"tracking": tracking}, deployment)
    runner = local.DockerRunner(network_mode="host")
    local.init(runner=runner, pipeline_root=str(open_folder), raise_on_error=True)
    with mended():
        for component, sign in (
            ("precompute_cqt", "artifacts/features/*.parquet"),
            ("train_detector", "artifacts/detectors/wavespec.state.safetensors"),
        ):
            killer = Killer(engine, component, work, sign)
            killer.start()
            with pytest.raises(RuntimeError, match=component.replace("_", "-")):
                flow.run()
            killer.ended.set()
            assert killer.killed
        flow.run()
    assert differences(flow.bytes(), expected) == []
    client = MlflowClient(backend.mlflow.uri)
    version = client.get_model_version_by_alias("earmark", CHAMPION)
    (experiment,) = [found for found in client.search_experiments() if found.name == "containers"]
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_name for run in runs}
    assert "evaluate" in names
    assert sum(name.startswith("train_detector") for name in names) == len(settings["detector"]["members"])
    assert version.tags["commit"] == "parity"
