"""The stage score_detector as a component."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def score_detector(
    protocol: Input[Dataset],
    features: Input[Dataset],
    detectors: Input[Model],
    output: Output[Dataset],
    metrics: Output[Metrics],
    audio: str,
    cqt: str,
    detector: str,
    scoring: str,
    compute: str,
    store: str,
    run: str,
    shard: str = "1/1",
):
    """Score dev, eval and a sample of train with every member, window by window."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("score_detector", arguments)
