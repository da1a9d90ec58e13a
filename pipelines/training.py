"""From corpora to a promoted model."""

import inspect
import json
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


def training(settings: Params, deployment: Deployment) -> BaseComponent:
    """The pipeline; sections of params are its parameters, with these settings as defaults."""
    sections = settings.model_dump(mode="json")
    shards = [f"{number}/{deployment.shards}" for number in range(1, deployment.shards + 1)]
    front_end = shards if settings.front_end.kind == "wav2vec2" else ["1/1"]
    members, most = list(settings.tracer.members) or [""], deployment.parallelism

    def pipeline(*values: Any) -> None:
        given = dict(zip([*sections, "store"], values, strict=True)) | {"run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}

        def step(component: Any, **inputs: Any) -> PipelineTask:
            wanted = [name for name in component.component_spec.inputs or {} if name in given and name not in inputs]
            task = component(**{name: given[name] for name in wanted}, **inputs)
            return place(task, component.name.replace("-", "_"), deployment)

        def out(task: PipelineTask) -> Any:
            return task.outputs["output"]

        def whole(task: PipelineTask) -> Any:
            return out(step(gather, parts=Collected(out(task))))

        def job(component: str) -> dict[str, str]:
            return {"job": deployment.job(component)}

        with dsl.ExitHandler(step(report)):
            data = out(step(download))
            copies = out(step(synthesize_copies, data=data))
            protocol = out(step(prepare_protocol, data=data, copies=copies))
            diagnosis = out(step(doctor, data=data, copies=copies, protocol=protocol))
            with dsl.ParallelFor(shards, parallelism=most) as shard:
                made = step(precompute_cqt, data=data, copies=copies, protocol=protocol, diagnosis=diagnosis, shard=shard)
            features = whole(made)
            detector = out(step(train_detector, protocol=protocol, features=features, **job("train_detector")))
            with dsl.ParallelFor(shards, parallelism=most) as shard:
                made = step(score_detector, protocol=protocol, features=features, detector=detector, shard=shard)
            scores = whole(made)
            with dsl.ParallelFor(front_end, parallelism=most) as shard:
                made = step(precompute_front_end, features=features, shard=shard)
            hidden = whole(made)
            with dsl.ParallelFor(members) as member:
                made = step(train_tracer, protocol=protocol, features=features, hidden=hidden, member=member, **job("train_tracer"))
            trained = whole(made)
            with dsl.ParallelFor(shards, parallelism=most) as shard:
                made = step(embed_utterances, protocol=protocol, features=features, hidden=hidden, members=trained, shard=shard)
            answers = out(step(fit_ensemble, protocol=protocol, embeddings=whole(made)))
            packed = step(package_model, protocol=protocol, scores=scores, detector=detector, members=trained, answers=answers)
            model = out(packed)
            degraded = out(step(robustness, data=data, copies=copies, protocol=protocol, model=model))
            tables = {"model": model, "robustness": degraded}
            rated = step(evaluate, protocol=protocol, scores=scores, detector=detector, answers=answers, **tables)
            tables |= {"evaluation": out(rated)}
            registration = out(step(register, **tables))
            decided = step(gate, registration=registration, **tables)
            with dsl.If(decided.outputs["Output"] == True, name="passed"):  # noqa: E712 - becomes a condition of the pipeline
                step(promote, decision=out(decided))

    kinds = {name: (int, value) if name == "seed" else (str, json.dumps(value)) for name, value in sections.items()}
    kinds |= {"store": (str, deployment.store)}
    pipeline.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value, annotation=kind)
            for name, (kind, value) in kinds.items()
        ]
    )
    pipeline.__annotations__ = {name: kind for name, (kind, _) in kinds.items()}
    return dsl.pipeline(name="earmark-training", description=__doc__)(pipeline)
