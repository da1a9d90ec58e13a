"""Training on several nodes: a Kubeflow TrainJob that runs the same stage under torchrun, watched to its end and cleaned up."""

import hashlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from earmark import InputError
from earmark.kubeflow.trainjob import CONTAINER, FAILED, arrives, begun, delete, ended, events, said, show_log, wait, why
from earmark.registry.pipeline import GIVEN_RUN, RUN
from earmark.registry.server import EXPERIMENT, WORKSPACE

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient

log = logging.getLogger(__name__)
RUNTIME = "torch-distributed"
FIGURES = "metrics.json"
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "EARMARK_COMMIT", RUN, GIVEN_RUN, EXPERIMENT, WORKSPACE)


class Job(BaseModel):
    """What a TrainJob's nodes are given: the deployment's settings of a training step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int
    image: str
    claim: str
    mount: str
    runtime: str = RUNTIME
    resources: dict[str, str] = {}
    shm: str | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()
    pull_secrets: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    secrets: dict[str, dict[str, str]] = {}
    start_minutes: float = 60
    run_minutes: float = 7 * 24 * 60


def run_stage(folder: str, stage: str, options: dict) -> None:
    """What every process of a job runs; only its source reaches the nodes. The first process leaves the stage's figures."""
    import os
    from pathlib import Path

    from earmark import params, stages
    from earmark.storage.files import write_json

    os.chdir(folder)
    metrics = stages.run(stage, params.load(Path("params.yaml")), **options)
    if os.environ.get("RANK", "0") == "0":
        write_json(Path("metrics.json"), metrics)


def train_on_nodes(
    client: "TrainerClient",
    job: Job,
    stage: str,
    folder: Path,
    options: dict[str, str],
    within: str | None = None,
    patches: tuple[Any, ...] = (),
) -> dict[str, float]:
    """Run a stage whose workspace is `folder` (which nodes see as `within`) on a job's nodes; return its figures.

    The job is named after the folder, so that a launcher that was killed finds the one it had started. However this ends, no job stays.
    Errors: InputError when the job cannot be started, does not start in time, or fails: with the last of what its nodes said.
    """
    from kubeflow.trainer import CustomTrainer
    from kubeflow.trainer.options import Name

    name = f"earmark-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    environment = job.environment | {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    trainer = CustomTrainer(
        func=run_stage,
        func_args={"folder": within or str(folder), "stage": stage, "options": options},
        image=job.image,
        num_nodes=job.nodes,
        resources_per_node=dict(job.resources) or None,
        env=environment or None,
    )
    (folder / FIGURES).unlink(missing_ok=True)
    with _cleaned_up(client, name):
        try:
            client.train(runtime=job.runtime, trainer=trainer, options=[Name(name), *patches])
            log.info("TrainJob %s: %d nodes of %s", name, job.nodes, job.image)
            wait(client, name, begun, job.start_minutes)
            show_log(client, name)
            end = wait(client, name, ended, job.run_minutes)
        except TimeoutError as error:
            raise InputError(f"TrainJob {name} did not get on in time ({error}): {events(client, name) or 'see to its pods'}") from error
        except (RuntimeError, ValueError) as error:
            raise InputError(f"TrainJob {name} failed: {why(error)}{said(client, name, job.nodes)}") from error
        if end.status == FAILED:
            raise InputError(f"TrainJob {name} failed: {events(client, name) or 'a node ended'}{said(client, name, job.nodes)}")
        if not arrives(folder / FIGURES):
            raise InputError(f"TrainJob {name} ended without figures: do its nodes mount {job.claim}?{said(client, name, job.nodes)}")
    return json.loads((folder / FIGURES).read_text())


def connect() -> "TrainerClient":
    """The client of the cluster that this process runs in. Errors: InputError outside of one."""
    from kubeflow.trainer import TrainerClient
    from kubernetes.config import ConfigException

    # it warns that a step may not read its version, in a namespace where the step has no rights and wants none
    logging.getLogger("kubeflow.trainer.backends.kubernetes.backend").setLevel(logging.ERROR)
    try:
        return TrainerClient()
    except ConfigException as error:
        raise InputError(f"several nodes need a Kubernetes cluster, and none is configured here: {error}") from error


def pod_patches(job: Job) -> tuple[Any, ...]:
    """What a job's pods need beyond the runtime: volume, secrets, placement."""
    from kubeflow.trainer.options import (
        ContainerPatch,
        JobSetSpecPatch,
        JobSetTemplatePatch,
        JobSpecPatch,
        JobTemplatePatch,
        PodSpecPatch,
        PodTemplatePatch,
        ReplicatedJobPatch,
        RuntimePatch,
        TrainingRuntimeSpecPatch,
    )  # fmt: skip

    volumes: list[dict[str, Any]] = [{"name": "work", "persistentVolumeClaim": {"claimName": job.claim}}]
    mounts = [{"name": "work", "mountPath": job.mount}]
    if job.shm:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": job.shm}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    secrets = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for secret, keys in job.secrets.items()
        for key, variable in keys.items()
    ]
    pod = PodSpecPatch(
        volumes=volumes,
        containers=[ContainerPatch(CONTAINER, env=secrets or None, volume_mounts=mounts)],
        image_pull_secrets=[{"name": name} for name in job.pull_secrets] or None,
        node_selector=job.node_selector or None,
        tolerations=[dict(one) for one in job.tolerations] or None,
    )
    template = JobTemplatePatch(spec=JobSpecPatch(template=PodTemplatePatch(spec=pod)))
    jobs = JobSetTemplatePatch(spec=JobSetSpecPatch(replicated_jobs=[ReplicatedJobPatch(name=CONTAINER, template=template)]))
    return (RuntimePatch(TrainingRuntimeSpecPatch(template=jobs)),)


@contextmanager
def _cleaned_up(client: "TrainerClient", name: str) -> Iterator[None]:
    """No job of this name before or after; a termination counts as an end like any other."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _stop)
    delete(client, name)
    try:
        yield
    finally:
        delete(client, name)
        signal.signal(signal.SIGTERM, before)


def _stop(*_: Any) -> None:
    raise SystemExit("terminated: the TrainJob is deleted; the step goes on from its checkpoint when it runs again")
