"""The stage precompute_front_end as a component."""

from kfp.dsl import Dataset, Input, Metrics, Output

from components.image import component


@component
def precompute_front_end(
    features: Input[Dataset],
    output: Output[Dataset],
    metrics: Output[Metrics],
    front_end: str,
    compute: str,
    store: str,
    run: str,
    shard: str = "1/1",
):
    """Run the tracer's frozen wav2vec 2.0 once over every utterance; nothing to do where it reads the CQT."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("precompute_front_end", arguments)
