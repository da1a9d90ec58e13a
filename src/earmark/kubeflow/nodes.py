"""Training on several nodes: a Kubeflow TrainJob that runs the same stage under torchrun, watched to its end and cleaned up."""

import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from earmark import InputError
from earmark.registry.server import EXPERIMENT, GIVEN_RUN, RUN, WORKSPACE

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient
    from kubeflow.trainer.types.types import TrainJob

log = logging.getLogger(__name__)
RUNTIME = "torch-distributed"
FIGURES = "metrics.json"
CONTAINER = "node"
COMPLETE, FAILED = "Complete", "Failed"
POLL_SECONDS = 2  # between two looks at a job
PATIENCE_SECONDS = 300  # a cluster that does not answer for so long is away; a job of days outlives a shorter pause
LATE_SECONDS = 60  # until a file that another node wrote is seen on a network's file system
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


def train_on_nodes(client: "TrainerClient", job: Job, stage: str, folder: Path, options: dict[str, str]) -> dict[str, float]:
    """Run a stage in a workspace, a folder that all nodes see under this path, on a job's nodes; return its figures.

    The job is named after the folder, so that a launcher that was killed finds the one it had started. However this ends, no job stays.
    Errors: InputError when the job cannot be started, does not start in time, or fails: with the last of what its nodes said.
    """
    from kubeflow.trainer import CustomTrainer
    from kubeflow.trainer.options import Name

    name = f"earmark-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    environment = job.environment | {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    trainer = CustomTrainer(
        func=run_stage,
        func_args={"folder": str(folder), "stage": stage, "options": options},
        image=job.image,
        num_nodes=job.nodes,
        resources_per_node=dict(job.resources) or None,
        env=environment or None,
    )
    (folder / FIGURES).unlink(missing_ok=True)
    with _cleaned_up(client, name):
        try:
            client.train(runtime=job.runtime, trainer=trainer, options=[Name(name), pod_patch(job)])
            log.info("TrainJob %s: %d nodes of %s", name, job.nodes, job.image)
            wait(client, name, job)
        except TimeoutError as error:
            raise InputError(f"TrainJob {name} did not get on in time ({error}): {events(client, name) or 'see to its pods'}") from error
        except (RuntimeError, ValueError) as error:
            reason = why(error) if error.__cause__ else events(client, name) or str(error)
            raise InputError(f"TrainJob {name} failed: {reason}{said(client, name, job.nodes)}") from error
        if not _holds_soon((folder / FIGURES).exists):
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


def pod_patch(job: Job) -> Any:
    """What a job's pods need beyond the runtime, as the deployment says it: volume, secrets, placement."""
    from kubeflow.trainer.options import RuntimePatch

    shm = {"shm": {"emptyDir": {"medium": "Memory", "sizeLimit": job.shm}}} if job.shm else {}
    volumes: dict[str, Any] = {"work": {"persistentVolumeClaim": {"claimName": job.claim}}} | shm
    mounts = [{"name": name, "mountPath": {"work": job.mount, "shm": "/dev/shm"}[name]} for name in volumes]
    secrets = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for secret, keys in job.secrets.items()
        for key, variable in keys.items()
    ]
    pod = {
        "volumes": [{"name": name} | source for name, source in volumes.items()],
        "containers": [{"name": CONTAINER, "volumeMounts": mounts} | ({"env": secrets} if secrets else {})],
        "imagePullSecrets": [{"name": name} for name in job.pull_secrets],
        "nodeSelector": job.node_selector,
        "tolerations": [dict(one) for one in job.tolerations],
    }
    pods = {"spec": {"template": {"spec": {key: value for key, value in pod.items() if value}}}}
    spec: Any = {"template": {"spec": {"replicatedJobs": [{"name": CONTAINER, "template": pods}]}}}
    return RuntimePatch(spec)


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


def delete(client: "TrainerClient", name: str) -> None:
    """Delete it and see it gone, so that one of the same name can be made."""
    with suppress(RuntimeError, ValueError):  # there is none
        client.delete_job(name)
        _holds_soon(lambda: client.get_job(name) is None)


def wait(client: "TrainerClient", name: str, job: Job) -> None:
    """Wait until a job is complete; meanwhile what keeps its pods and what its first node says is logged.

    Errors: TimeoutError; RuntimeError or ValueError when the job fails or is gone, or nobody answers for long.
    """
    since = answered = time.monotonic()
    runs, told = False, ""
    while True:
        if found := _look(client, name, answered):
            if not runs and _begun(found):
                runs = True
                show_log(client, name)
                since = time.monotonic()
            if found.status == COMPLETE:
                return
            if found.status == FAILED:
                raise RuntimeError(f"TrainJob {name} is Failed")
            told = _tell(client, name, told)
            answered = time.monotonic()
        minutes = job.run_minutes if runs else job.start_minutes
        if time.monotonic() > since + 60 * minutes:
            raise TimeoutError(f"{minutes:g} minutes have passed")
        time.sleep(POLL_SECONDS)


def _tell(client: "TrainerClient", name: str, before: str) -> str:
    """Log what the cluster warns of when it is new; return it."""
    told = events(client, name)
    if told not in ("", before):
        log.warning("TrainJob %s: %s", name, told)
    return told


def _look(client: "TrainerClient", name: str, answered: float) -> "TrainJob | None":
    """A job as it is now; None while nobody answers, unless that has gone on for too long."""
    try:
        return client.get_job(name)
    except (RuntimeError, ValueError, TimeoutError) as error:
        if not _passes(error) or time.monotonic() > answered + PATIENCE_SECONDS:
            raise
        log.warning("TrainJob %s: %s; asked again", name, why(error))
    return None


def _begun(job: "TrainJob") -> bool:
    """Whether every node runs or ran; a job that was once suspended has no such status of its own."""
    nodes = [step for step in job.steps if step.name.startswith(CONTAINER) and step.status not in (None, "Pending", "Created", "Unknown")]
    return job.status in ("Running", COMPLETE, FAILED) or len(nodes) >= job.num_nodes


def show_log(client: "TrainerClient", name: str) -> None:
    """Log what the first node says until it ends. A broken connection ends the showing, not the job."""
    try:
        for line in client.get_job_logs(name, follow=True):
            log.info("node-0: %s", line.rstrip())
    except (RuntimeError, ValueError, TimeoutError) as error:
        log.warning("TrainJob %s: its log is shown no further (%s); it goes on", name, why(error))


def said(client: "TrainerClient", name: str, nodes: int) -> str:
    """The last lines of every node, those that failed among them."""
    found = ""
    for number in range(nodes):
        with suppress(RuntimeError, ValueError, TimeoutError):
            text = "\n".join(client.get_job_logs(name, step=f"node-{number}"))
            lines = [line.rstrip() for line in text.splitlines() if line.strip()]
            found += f"\nnode-{number}: {' / '.join(lines[-3:])}" if lines else ""
    return found


def events(client: "TrainerClient", name: str) -> str:
    """What the cluster warns of: no such image, no node with a GPU.

    Asked here, since the client's own list leaves out events without a first timestamp, as the scheduler's are, and those of the Job.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    cluster: Any = client.backend
    try:
        found = cluster.core_api.list_namespaced_event(cluster.namespace, field_selector="type=Warning").items
    except (ApiException, HTTPError) as error:
        return f"its events cannot be read ({getattr(error, 'reason', None) or error})"
    own = [event for event in found if (event.involved_object.name or "").startswith(name)]
    own.sort(key=lambda event: str(event.last_timestamp or event.event_time or ""))
    return "; ".join(dict.fromkeys(event.message or event.reason or "" for event in own[-5:]))


def why(error: BaseException) -> str:
    """An error of the client with what lies behind it, in the cluster's own words where it has some."""
    cause: Any = error.__cause__
    if cause is None:
        return str(error)
    try:
        return f"{error}: {json.loads(cause.body)['message']}"
    except (AttributeError, KeyError, TypeError, ValueError):
        return f"{error}: {getattr(cause, 'reason', None) or cause}"


def _passes(error: BaseException) -> bool:
    """Whether it may be well again in a while: nobody answered, or with a trouble of the cluster's own."""
    status = getattr(error.__cause__, "status", None) or 500
    return error.__cause__ is not None and (status == 429 or status >= 500)


def _holds_soon(condition: Callable[[], bool]) -> bool:
    """Whether a condition holds, sooner or later."""
    deadline = time.monotonic() + LATE_SECONDS
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return holds
