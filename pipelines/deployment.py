"""What a cluster gives each step: image, store, volumes, secrets, resources. It comes from one file, not from code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from kfp import kubernetes
from kfp.dsl import PipelineTask
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earmark import InputError
from earmark.kubeflow.nodes import Job
from earmark.kubeflow.step import WORK
from earmark.params import parse_yaml

STRANGERS = ("check_recordings",)  # steps that decode what others sent


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gpu(_Part):
    """Accelerators of a step."""

    type: str = Field(default="nvidia.com/gpu", description="resource name that the cluster's device plugin advertises")
    count: int = Field(default=1, ge=1, description="how many of them; with several nodes: each node")


class Toleration(_Part):
    """A taint that a step's pods put up with."""

    key: str = Field(description="the taint's key")
    operator: str = Field(default="Exists", pattern="^(Exists|Equal)$", description="Exists or Equal")
    value: str | None = Field(default=None, description="the taint's value, with Equal")
    effect: str | None = Field(
        default=None, pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$", description="NoSchedule, PreferNoSchedule, NoExecute; all"
    )


class Resources(_Part):
    """What a step asks for; a field left out is that of `defaults`."""

    cpu: str | None = Field(default=None, description="cores, as Kubernetes writes them", pattern=r"^\d+(\.\d+|m)?$")
    memory: str | None = Field(default=None, description="limit and request", pattern=r"^\d+(\.\d+)?(Mi|Gi|M|G)$")
    gpu: Gpu | None = Field(default=None, description="accelerators; without any the step runs on CPU")
    shm: str | None = Field(
        default=None, description="size of /dev/shm, a volume in memory; loader processes need it", pattern=r"^\d+(Mi|Gi)$"
    )
    node_selector: dict[str, str] | None = Field(default=None, description="label → value of the nodes that may run it")
    tolerations: tuple[Toleration, ...] | None = Field(default=None, description="taints that its pods put up with")
    timeout_minutes: int | None = Field(default=None, ge=1, description="a pod that takes longer is ended")
    retries: int | None = Field(default=None, ge=0, description="new pods after a failed one, from half a minute to ten apart")
    nodes: int | None = Field(default=None, ge=1, description="above 1: a TrainJob of so many nodes; train_detector and train_tracer alone")


class Volume(_Part):
    """A persistent volume claim that steps share."""

    claim: str = Field(description="name of the claim; ReadWriteMany, since many steps mount it at once")
    mount: str = Field(default="/earmark", description="where steps see it")


class Deployment(_Part):
    """A cluster, as pipelines see it."""

    image: str = Field(description="the project's image, by tag or digest")
    pull_policy: str = Field(default="IfNotPresent", pattern="^(IfNotPresent|Always|Never)$", description="IfNotPresent, Always, Never")
    pull_secrets: tuple[str, ...] = Field(default=(), description="names of Secrets for a private registry")
    store: str = Field(description="s3://bucket/prefix, or a folder on the volume; artifacts of all runs lie there")
    shards: int = Field(default=4, ge=1, description="workers of precompute, scoring and embedding")
    parallelism: int = Field(default=2, ge=1, description="of those at a time")
    environment: dict[str, str] = Field(default={}, description="of every step: MLFLOW_TRACKING_URI, AWS_ENDPOINT_URL; nothing secret")
    secrets: dict[str, dict[str, str]] = Field(
        default={}, description="name of a Secret → its key → environment variable; check_recordings gets the store's AWS_… alone"
    )
    volume: Volume | None = Field(default=None, description="outlives killed steps, so that they go on where they were")
    defaults: Resources = Field(default=Resources(), description="of every step: keys as of `steps.<component>`")
    steps: dict[str, Resources] = Field(default={}, description="resources by component, over the defaults")

    def of(self, step: str) -> Resources:
        """Resources of a step, defaults filled in."""
        own = self.steps.get(step, Resources()).model_dump(exclude_none=True)
        return Resources.model_validate(self.defaults.model_dump(exclude_none=True) | own)

    def secrets_of(self, step: str) -> dict[str, dict[str, str]]:
        """Secrets that a step is given; one that decodes what strangers sent gets those of the store alone, if any."""
        if step not in STRANGERS:
            return self.secrets
        of_store = self.store.startswith("s3://")
        found = {secret: {key: name for key, name in keys.items() if name.startswith("AWS_")} for secret, keys in self.secrets.items()}
        return {secret: keys for secret, keys in found.items() if keys and of_store}

    def job(self, step: str) -> str:
        """JSON of the TrainJob that a step of several nodes starts; nothing for one that runs in place."""
        own = self.of(step)
        if self.volume is None or (own.nodes or 1) == 1:
            return ""
        resources = {name: value for name, value in (("cpu", own.cpu), ("memory", own.memory)) if value}
        given = {"nodes": own.nodes, "image": self.image, "claim": self.volume.claim, "mount": self.volume.mount, "shm": own.shm}
        given |= {"resources": resources | ({own.gpu.type: str(own.gpu.count)} if own.gpu else {})}
        given |= {"node_selector": own.node_selector or {}, "environment": self.environment | {WORK: self.volume.mount}}
        given |= {"tolerations": [one.model_dump(exclude_none=True) for one in own.tolerations or ()]}
        given |= {"pull_secrets": self.pull_secrets, "secrets": self.secrets}
        return Job.model_validate(given).model_dump_json()


def describe(part: type[BaseModel] = Deployment, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Rows (key, default, meaning) of every key of the file."""
    for name, field in part.model_fields.items():
        default = str(field.default) if isinstance(field.default, (str, int)) else ""
        yield f"{prefix}{name}", "required" if field.is_required() else default, field.description or ""
        for inner in _parts(field.annotation) if name != "defaults" else ():
            yield from describe(inner, f"{prefix}{name}.{'<component>.' if name == 'steps' else ''}")


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation names, in whatever it wraps them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for one in get_args(annotation) for part in _parts(one)]


def read_deployment(path: Path, steps: set[str]) -> Deployment:
    """Read the file. Errors: InputError naming the key that is wrong, or a step that no pipeline has."""
    try:
        found = Deployment.model_validate(parse_yaml(path.read_bytes(), str(path)))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: write one like pipelines/deployment.yaml") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InputError(f"{path}: {wrong}") from error
    if unknown := sorted(set(found.steps) - steps):
        raise InputError(f"{path}: steps.{unknown[0]} is no component; there are {', '.join(sorted(steps))}")
    many = [name for name, own in found.steps.items() if (own.nodes or 1) > 1]
    if (found.defaults.nodes or 1) > 1 or set(many) - {"train_detector", "train_tracer"}:
        raise InputError(f"{path}: nodes above 1 are for train_detector and train_tracer alone")
    if many and found.volume is None:
        raise InputError(f"{path}: steps.{many[0]}.nodes {found.steps[many[0]].nodes} needs a volume that all nodes mount")
    return found


def place(task: PipelineTask, step: str, deployment: Deployment) -> PipelineTask:
    """Give a task what the deployment has for it."""
    own = deployment.of(step)
    task.set_container_image(deployment.image).set_caching_options(False)  # the store knows what is made, and whether it is still there
    _compute(task, own)
    _schedule(task, own)
    kubernetes.set_image_pull_policy(task, deployment.pull_policy)
    if deployment.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(deployment.pull_secrets))
    for name, value in deployment.environment.items():
        task.set_env_variable(name, value)
    for secret, keys in deployment.secrets_of(step).items():
        kubernetes.use_secret_as_env(task, secret, keys)
    if deployment.volume:
        kubernetes.mount_pvc(task, deployment.volume.claim, deployment.volume.mount)
        task.set_env_variable(WORK, deployment.volume.mount)
    return task


def _compute(task: PipelineTask, own: Resources) -> None:
    if own.cpu:
        task.set_cpu_request(own.cpu).set_cpu_limit(own.cpu)
    if own.memory:
        task.set_memory_request(own.memory).set_memory_limit(own.memory)
    if own.gpu and (own.nodes or 1) == 1:  # a TrainJob's own pods get them
        task.set_accelerator_type(own.gpu.type).set_accelerator_limit(own.gpu.count)
    if own.shm:
        kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=own.shm)


def _schedule(task: PipelineTask, own: Resources) -> None:
    for key, value in (own.node_selector or {}).items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in own.tolerations or ():
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    if own.timeout_minutes:
        kubernetes.set_timeout(task, 60 * own.timeout_minutes)
    if own.retries:
        task.set_retry(own.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
