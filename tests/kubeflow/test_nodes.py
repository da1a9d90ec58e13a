"""A TrainJob is such as Kubernetes takes, is watched to its end whatever it is, and is never left behind."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
from kubeflow.trainer import KubernetesBackendConfig, TrainerClient
from kubeflow_trainer_api import models
from kubernetes.client import Configuration
from kubernetes.config import kube_config
from kubernetes_api import Kubernetes, event

from earmark import InputError
from earmark.kubeflow import nodes
from earmark.kubeflow.nodes import Job, connect, train_on_nodes

FIGURES = {"dev/eer": 0.25}
JOB = Job(
    nodes=2,
    image="earmark:1",
    claim="work",
    mount="/earmark",
    resources={"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"},
    shm="2Gi",
    node_selector={"pool": "gpu"},
    tolerations=({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},),
    pull_secrets=("pull",),
    environment={"EARMARK_WORK": "/earmark"},
    secrets={"keys": {"id": "AWS_ACCESS_KEY_ID"}},
)
PROGRAM = """
import logging, sys
from pathlib import Path
from kubeflow.trainer import KubernetesBackendConfig, TrainerClient
from kubernetes.client import Configuration
from earmark.kubeflow import nodes
from earmark.kubeflow.nodes import Job, train_on_nodes
nodes.POLL_SECONDS = 0.05
job = Job.model_validate_json(sys.argv[2])
client = TrainerClient(KubernetesBackendConfig(namespace="team", client_configuration=Configuration(host=sys.argv[1])))
train_on_nodes(client, job, "train_detector", Path(sys.argv[3]), {})
"""


@pytest.fixture
def kubernetes(monkeypatch, tmp_path) -> Iterator[Kubernetes]:
    for name, seconds in {"POLL_SECONDS": 0.01, "PATIENCE_SECONDS": 2, "LATE_SECONDS": 0.2}.items():
        monkeypatch.setattr(nodes, name, seconds)
    server = Kubernetes()
    server.on_end = lambda: (tmp_path / "metrics.json").write_text(json.dumps(FIGURES))
    yield server
    server.stop()


def train(kubernetes: Kubernetes, folder: Path, **changes) -> dict[str, float]:
    job = JOB.model_copy(update=changes)
    configuration = Configuration(host=kubernetes.address)
    client = TrainerClient(KubernetesBackendConfig(namespace="team", client_configuration=configuration))
    return train_on_nodes(client, job, "train_detector", folder, {})


def failure(kubernetes: Kubernetes, folder: Path, **changes) -> str:
    with pytest.raises(InputError) as caught:
        train(kubernetes, folder, **changes)
    assert not kubernetes.jobs, "the job is left behind"
    return str(caught.value)


def test_the_figures_of_the_first_node_come_back_and_the_job_is_gone(kubernetes, tmp_path, caplog):
    caplog.set_level("INFO")
    assert train(kubernetes, tmp_path) == FIGURES
    assert "node-0: epoch 1" in caplog.text
    assert len(kubernetes.sent) == 1
    assert not kubernetes.jobs


def test_every_field_that_is_sent_is_one_that_the_trainer_knows(kubernetes, tmp_path):
    train(kubernetes, tmp_path)
    (sent,) = kubernetes.sent
    assert models.TrainerV1alpha1TrainJob.from_dict(sent).to_dict() == sent
    assert sent["spec"]["runtimeRef"] == {"kind": "TrainingRuntime", "name": "torch-distributed"}
    trainer = sent["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["image"]) == (2, "earmark:1")
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"}


def test_the_pods_that_come_of_it_are_such_as_kubernetes_takes(kubernetes, tmp_path):
    train(kubernetes, tmp_path)
    spec = kubernetes.sent[0]["spec"]
    (patch,) = spec["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (runtime,) = kubernetes.runtime["spec"]["template"]["spec"]["replicatedJobs"]
    below = runtime["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    own = {"image": spec["trainer"]["image"], "command": spec["trainer"]["command"], "resources": spec["trainer"]["resourcesPerNode"]}
    whole = below | pod | {"containers": [below["containers"][0] | container | own | {"env": spec["trainer"]["env"] + container["env"]}]}
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": whole}, "1.33", strict=True)
    assert {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]} == {"work": "work", "shm": None}
    assert {one["mountPath"] for one in container["volumeMounts"]} == {"/earmark", "/dev/shm"}
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "keys", "key": "id"}
    assert (pod["nodeSelector"], pod["imagePullSecrets"]) == ({"pool": "gpu"}, [{"name": "pull"}])


def test_a_job_that_was_suspended_and_runs_is_seen_to_run(kubernetes, tmp_path):
    kubernetes.looks = [("Suspended", "Pending"), ("Suspended", "Running"), ("Complete", "Succeeded")]
    assert train(kubernetes, tmp_path, start_minutes=0.05) == FIGURES


def test_a_job_that_a_killed_launcher_left_is_replaced(kubernetes, tmp_path):
    kubernetes.looks = [("Failed", "Failed")]
    failure(kubernetes, tmp_path)
    name = kubernetes.sent[0]["metadata"]["name"]
    kubernetes.jobs[name] = {**kubernetes.sent[0], "left": True}
    kubernetes.looks = [(None, "Running"), ("Complete", "Succeeded")]
    kubernetes.phase = "Running"
    assert train(kubernetes, tmp_path) == FIGURES
    assert kubernetes.sent[1]["metadata"]["name"] == name


def test_a_node_that_fails_is_shown_with_its_last_words(kubernetes, tmp_path):
    kubernetes.looks = [(None, "Running"), ("Failed", "Failed")]
    kubernetes.logs["node-1"] = "epoch 1\n\ntorch.OutOfMemoryError: CUDA out of memory\n"
    kubernetes.events = lambda name: [event("Job", f"{name}-node-0", "Job has reached the specified backoff limit")]
    said = failure(kubernetes, tmp_path)
    assert "failed: Job has reached the specified backoff limit" in said
    assert "node-1: epoch 1 / torch.OutOfMemoryError: CUDA out of memory" in said


@pytest.mark.parametrize(
    ("message", "first"),
    [
        ('Failed to pull image "earmark:1": not found', "2026-11-21T10:00:00Z"),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", None),
    ],
)
def test_a_job_that_never_starts_says_what_keeps_its_pods(kubernetes, tmp_path, message, first, caplog):
    kubernetes.looks = [(None, "Pending")]
    kubernetes.events = lambda name: [event("Pod", f"{name}-node-0-0", message, first), event("Pod", "another", "not ours")]
    said = failure(kubernetes, tmp_path, start_minutes=0.01)
    assert said.endswith(f"did not get on in time (0.01 minutes have passed): {message}")
    assert f": {message}" in caplog.text, "it is said while there is still something to wait for"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("POST trainjobs", "User team cannot post trainjobs"),
        ("GET trainingruntimes", "User team cannot get trainingruntimes"),
    ],
)
def test_a_right_that_is_missing_is_said_in_the_clusters_own_words(kubernetes, tmp_path, fault, said):
    kubernetes.faults[fault] = [403]
    assert said in failure(kubernetes, tmp_path)


def test_a_runtime_that_is_not_there_is_named(kubernetes, tmp_path):
    assert "other" in failure(kubernetes, tmp_path, runtime="other")


def test_a_cluster_that_is_away_for_a_while_ends_nothing(kubernetes, tmp_path):
    kubernetes.faults["GET trainjobs"] = [503, 500]
    kubernetes.looks = [(None, "Running"), (None, "Running"), ("Complete", "Succeeded")]
    assert train(kubernetes, tmp_path) == FIGURES


def test_a_log_that_breaks_off_ends_nothing(kubernetes, tmp_path, caplog):
    kubernetes.logs["node-0"] = None
    assert train(kubernetes, tmp_path) == FIGURES
    assert "its log is shown no further" in caplog.text


def test_a_job_that_somebody_deletes_is_said_to_be_missing(kubernetes, tmp_path):
    kubernetes.looks = [(None, "Running")]
    kubernetes.events = lambda name: kubernetes.jobs.clear() or []
    assert "Failed to get TrainJob" in failure(kubernetes, tmp_path)


def test_a_job_without_figures_asks_for_the_volume(kubernetes, tmp_path):
    kubernetes.on_end = lambda: None
    (tmp_path / "metrics.json").write_text("{}")  # of a try before
    assert "ended without figures: do its nodes mount work?" in failure(kubernetes, tmp_path)


def test_a_cancelled_step_takes_its_job_with_it(kubernetes, tmp_path):
    kubernetes.looks = [(None, "Running")]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kubernetes.address, JOB.model_dump_json(), str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any("/log" in path for _, path in kubernetes.asked) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kubernetes.jobs
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "terminated: the TrainJob is deleted; the step goes on from its checkpoint when it runs again" in said
    assert not kubernetes.jobs


def test_without_a_cluster_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(InputError, match="several nodes need a Kubernetes cluster, and none is configured here"):
        connect()
