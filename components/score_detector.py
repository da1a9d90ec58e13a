"""The stage score_detector as a component."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def score_detector(
    protocol: Input[Dataset],
    features: Input[Dataset],
    detector: Input[Model],
    output: Output[Dataset],
    metrics: Output[Metrics],
    audio: str,
    cqt: str,
    scoring: str,
    compute: str,
    store: str,
    run: str,
    shard: str = "1/1",
):
    """Score whole utterances of dev, eval and a sample of train, and write their embeddings."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("score_detector", arguments)
