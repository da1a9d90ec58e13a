"""The stage robustness as a component."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def robustness(
    data: Input[Dataset],
    copies: Input[Dataset],
    protocol: Input[Dataset],
    model: Input[Model],
    output: Output[Artifact],
    metrics: Output[Metrics],
    seed: int,
    robustness: str,
    compute: str,
    tracking: str,
    store: str,
    run: str,
):
    """Degrade a sample of eval by codecs, noise, other rates and rooms, and score it again."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("robustness", arguments)
