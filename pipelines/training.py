"""From corpora to a promoted model."""

import inspect
import json
from dataclasses import dataclass
from typing import Any

from components.doctor import doctor
from components.download import download
from components.embed_utterances import embed_utterances
from components.evaluate import evaluate
from components.fit_ensemble import fit_ensemble
from components.gate import gate
from components.gather import gather
from components.package_model import package_model
from components.precompute_cqt import precompute_cqt
from components.precompute_front_end import precompute_front_end
from components.prepare_protocol import prepare_protocol
from components.promote import promote
from components.register import register
from components.report import report
from components.robustness import robustness
from components.score_detector import score_detector
from components.synthesize_copies import synthesize_copies
from components.train_detector import train_detector
from components.train_tracer import train_tracer
from kfp import dsl
from kfp.dsl import Collected, PipelineTask
from kfp.dsl.base_component import BaseComponent

from earmark.params import Params
from pipelines.deployment import Deployment, place


@dataclass(frozen=True)
class Steps:
    """Components as placed tasks; each gets what it takes of the pipeline's parameters."""

    given: dict[str, Any]
    deployment: Deployment

    def step(self, component: Any, **inputs: Any) -> PipelineTask:
        """A task; `inputs` are artifacts of others."""
        wanted = [name for name in component.component_spec.inputs or {} if name in self.given and name not in inputs]
        task = component(**{name: self.given[name] for name in wanted}, **inputs)
        return place(task, component.name.replace("-", "_"), self.deployment)

    def whole(self, task: PipelineTask) -> Any:
        """One artifact of what all workers of a loop put out."""
        return out(self.step(gather, parts=Collected(out(task))))

    def job(self, component: str) -> dict[str, str]:
        """The argument that lets a component train on several nodes."""
        return {"job": self.deployment.job(component)}


def out(task: PipelineTask) -> Any:
    """The artifact that a task makes."""
    return task.outputs["output"]


def training(settings: Params, deployment: Deployment) -> BaseComponent:
    """The pipeline; sections of params are its parameters, with these settings as defaults."""
    sections = settings.model_dump(mode="json")
    shards = [f"{number}/{deployment.shards}" for number in range(1, deployment.shards + 1)]
    front_end = shards if settings.front_end.kind == "wav2vec2" else ["1/1"]
    members = {"detector": list(settings.detector.members), "tracer": list(settings.tracer.members) or [""]}

    def pipeline(*values: Any) -> None:
        given = dict(zip([*sections, "store"], values, strict=True)) | {"run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        steps = Steps(given, deployment)
        with dsl.ExitHandler(steps.step(report)):
            tables, detected = _detector(steps, shards, members["detector"])
            traced = _tracer(steps, shards, front_end, members["tracer"], tables)
            _decide(steps, tables, detected, traced)

    kinds = {name: (int, value) if name == "seed" else (str, json.dumps(value)) for name, value in sections.items()}
    kinds |= {"store": (str, deployment.store)}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value, annotation=kind)
        for name, (kind, value) in kinds.items()
    ]
    pipeline.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    pipeline.__annotations__ = {name: kind for name, (kind, _) in kinds.items()}
    return dsl.pipeline(name="earmark-training", description=__doc__)(pipeline)


def _detector(steps: Steps, shards: list[str], members: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """From the corpora to the detector's scores: what later steps read of the corpora, and what the detector's members put out."""
    step, most = steps.step, steps.deployment.parallelism
    data = out(step(download))
    copies = out(step(synthesize_copies, data=data))
    protocol = out(step(prepare_protocol, data=data, copies=copies))
    diagnosis = out(step(doctor, data=data, copies=copies, protocol=protocol))
    with dsl.ParallelFor(shards, parallelism=most) as shard:
        made = step(precompute_cqt, data=data, copies=copies, protocol=protocol, diagnosis=diagnosis, shard=shard)
    features = steps.whole(made)
    with dsl.ParallelFor(members) as member:
        made = step(train_detector, protocol=protocol, features=features, member=member, **steps.job("train_detector"))
    detectors = steps.whole(made)
    with dsl.ParallelFor(shards, parallelism=most) as shard:
        made = step(score_detector, protocol=protocol, features=features, detectors=detectors, shard=shard)
    tables = {"data": data, "copies": copies, "protocol": protocol, "features": features}
    return tables, {"detectors": detectors, "scores": steps.whole(made)}


def _tracer(steps: Steps, shards: list[str], front_end: list[str], members: list[str], tables: dict[str, Any]) -> dict[str, Any]:
    """The trained members and their embeddings."""
    step, most = steps.step, steps.deployment.parallelism
    protocol, features = tables["protocol"], tables["features"]
    with dsl.ParallelFor(front_end, parallelism=most) as shard:
        made = step(precompute_front_end, features=features, shard=shard)
    inputs = {"protocol": protocol, "features": features, "hidden": steps.whole(made)}
    with dsl.ParallelFor(members) as member:
        made = step(train_tracer, **inputs, member=member, **steps.job("train_tracer"))
    trained = steps.whole(made)
    with dsl.ParallelFor(shards, parallelism=most) as shard:
        made = step(embed_utterances, **inputs, members=trained, shard=shard)
    return {"members": trained, "embeddings": steps.whole(made)}


def _decide(steps: Steps, tables: dict[str, Any], detected: dict[str, Any], traced: dict[str, Any]) -> None:
    """The fitted ensemble, the packaged model, its evaluation, and what the gate makes of it."""
    step, protocol, detectors = steps.step, tables["protocol"], detected["detectors"]
    answers = out(step(fit_ensemble, protocol=protocol, scores=detected["scores"], embeddings=traced["embeddings"]))
    model = out(step(package_model, protocol=protocol, detectors=detectors, members=traced["members"], answers=answers))
    degraded = out(step(robustness, data=tables["data"], copies=tables["copies"], protocol=protocol, model=model))
    found = {"model": model, "robustness": degraded}
    rated = step(evaluate, protocol=protocol, detectors=detectors, answers=answers, **found)
    found |= {"evaluation": out(rated)}
    registration = out(step(register, **found))
    decided = step(gate, registration=registration, **found)
    with dsl.If(decided.outputs["Output"] == True, name="passed"):  # noqa: E712 - becomes a condition of the pipeline
        step(promote, decision=out(decided))
