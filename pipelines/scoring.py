"""A batch of recordings to verdicts: fetch them and the model, judge in shards, one file of answers."""

import json
from typing import Any

from components.check_recordings import check_recordings
from components.download import download as fetch_recordings
from components.fetch_model import fetch_model
from components.list_verdicts import list_verdicts
from components.report import report
from kfp import dsl
from kfp.dsl import Collected
from kfp.dsl.base_component import BaseComponent

from earmark.params import Params
from pipelines.deployment import Deployment, place

MODEL = "models:/earmark@champion"


def scoring(settings: Params, deployment: Deployment) -> BaseComponent:
    """The pipeline; its parameters are `recordings`, an address as in params' download.sources, `model`, and where to find things."""
    shards = [f"{number}/{deployment.shards}" for number in range(1, deployment.shards + 1)]
    defaults = {name: json.dumps(getattr(settings, name).model_dump(mode="json")) for name in ("download", "tracking", "compute")}

    def run_on(step: Any, **inputs: Any) -> dsl.PipelineTask:
        return place(step(**inputs), step.name.replace("-", "_"), deployment)

    @dsl.pipeline(name="earmark-scoring", description=__doc__)
    def pipeline(
        download: str = defaults["download"], model: str = MODEL, tracking: str = defaults["tracking"],
        compute: str = defaults["compute"], store: str = deployment.store,
    ):  # fmt: skip
        own = {"store": store, "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        with dsl.ExitHandler(run_on(report, tracking=tracking, **own)):
            data = run_on(fetch_recordings, download=download, **own).outputs["output"]
            fetched = run_on(fetch_model, model=model, tracking=tracking, **own).outputs["output"]
            with dsl.ParallelFor(shards, parallelism=deployment.parallelism) as shard:
                made = run_on(check_recordings, data=data, model=fetched, compute=compute, shard=shard, **own)
            run_on(list_verdicts, parts=Collected(made.outputs["output"]))

    return pipeline
