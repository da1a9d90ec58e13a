"""The stage prepare_protocol as a component."""

from kfp.dsl import Dataset, Input, Metrics, Output

from components.image import component


@component
def prepare_protocol(
    data: Input[Dataset],
    copies: Input[Dataset],
    output: Output[Dataset],
    metrics: Output[Metrics],
    corpora: str,
    trials: str,
    decoding: str,
    store: str,
    run: str,
):
    """Read the corpora and the copies made of them into one checked table of trials."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("prepare_protocol", arguments)
