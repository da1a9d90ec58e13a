"""Two nodes of a TrainJob in two containers of the image, through the Kubeflow Trainer's own client."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kubeflow.trainer import ContainerBackendConfig, CustomTrainer, TrainerClient
from kubeflow.trainer.backends.container.types import TrainingRuntimeSource
from kubeflow.trainer.options import Name

from containers.engine import IMAGE
from earmark import params as settings
from earmark import stages
from earmark.networks.detector import load_detector

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]


def all_reduce():
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    total = torch.tensor(distributed.get_rank() + 1)
    distributed.all_reduce(total)
    print(f"rank {distributed.get_rank()} of {distributed.get_world_size()}: sum {total.item()}")
    distributed.destroy_process_group()


def train_detector():
    import os
    from pathlib import Path

    from earmark import params, stages

    os.chdir("/workspace")
    metrics = stages.run("train_detector", params.load(Path("params.yaml")))
    print(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: {sorted(metrics.items())}")


def lose_a_worker():
    import os

    from torch import distributed

    distributed.init_process_group("gloo")
    if distributed.get_rank() == 1:
        os._exit(3)
    distributed.barrier()


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """Where the client keeps the folder that a job's nodes share as /workspace; they are another user."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".kubeflow/trainer/containers"


@pytest.fixture
def trainer(engine, home, tmp_path: Path) -> Iterator[TrainerClient]:
    """A client with one runtime: torch in our image."""
    node = {"name": "node", "template": {"spec": {"template": {"spec": {"containers": [{"name": "node", "image": IMAGE}]}}}}}
    runtime = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}},
        "spec": {"mlPolicy": {"numNodes": 2, "torch": {}}, "template": {"spec": {"replicatedJobs": [node]}}},
    }
    folder = tmp_path / "runtimes"
    folder.mkdir()
    (folder / "torch.yaml").write_text(yaml.safe_dump(runtime))
    source = TrainingRuntimeSource(sources=[f"file://{folder}"])
    client = TrainerClient(
        ContainerBackendConfig(container_runtime="docker", container_host=engine.host, pull_policy="Never", runtime_source=source)
    )
    yield client
    for job in client.list_jobs():
        client.delete_job(job.name)


def run(client: TrainerClient, name: str, function: Callable[[], None]) -> str:
    """Start a job of two nodes, wait for its end, and return what both said. Errors: RuntimeError when it fails."""
    job = CustomTrainer(func=function, num_nodes=2, env={"OMP_NUM_THREADS": "1"})
    client.train(runtime="torch-distributed", trainer=job, options=[Name(name)])
    client.wait_for_job_status(name, timeout=300)
    return "\n".join(client.get_job_logs(name))


def test_two_nodes_add_up_what_each_has(trainer):
    said = run(trainer, "add", all_reduce)
    assert "rank 0 of 2: sum 3" in said
    assert "rank 1 of 2: sum 3" in said


def test_two_nodes_train_one_detector(trainer, home, prepared, change):
    shared = home / "detect"
    shutil.copytree(prepared, shared)
    (shared / "params.yaml").write_text(settings.dump(change(training={"epochs": 2})))
    for path in [shared, *shared.rglob("*")]:
        path.chmod(0o777)
    said = run(trainer, "detect", train_detector)
    figures = dict(re.findall(r"rank (\d) of 2: (.+)", said))
    assert set(figures) == {"0", "1"}
    assert figures["0"] == figures["1"]
    network, _ = load_detector(shared / stages.ARTIFACTS["detectors"] / "wavespec.safetensors")
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    history = (shared / stages.ARTIFACTS["detectors"] / "wavespec.csv").read_text().splitlines()
    assert len(history) == 3


def test_a_job_that_loses_a_worker_fails_and_names_the_node(trainer):
    with pytest.raises(RuntimeError, match=r"TrainJob lost is Failed[\s\S]*node-1: status=exited, exit_code=1"):
        run(trainer, "lost", lose_a_worker)
