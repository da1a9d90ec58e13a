"""The stage synthesize_copies as a component."""

from kfp.dsl import Dataset, Input, Metrics, Output

from components.image import component


@component
def synthesize_copies(
    data: Input[Dataset],
    output: Output[Dataset],
    metrics: Output[Metrics],
    corpora: str,
    trials: str,
    decoding: str,
    copysynthesis: str,
    store: str,
    run: str,
):
    """Make spoofs from the corpora's bona fide recordings by classical copy-synthesis."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("synthesize_copies", arguments)
