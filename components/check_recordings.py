"""The stage check_recordings as a component."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def check_recordings(
    data: Input[Dataset],
    model: Input[Model],
    output: Output[Dataset],
    metrics: Output[Metrics],
    compute: str,
    store: str,
    run: str,
    shard: str = "1/1",
):
    """Judge every recording of a folder: a line of JSON each."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("check_recordings", arguments)
