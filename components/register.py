"""The stage register as a component."""

from kfp.dsl import Artifact, Input, Metrics, Model, Output

from components.image import component


@component
def register(
    model: Input[Model],
    evaluation: Input[Artifact],
    robustness: Input[Artifact],
    output: Output[Artifact],
    metrics: Output[Metrics],
    tracking: str,
    store: str,
    run: str,
):
    """Make the model the registry's challenger, and fetch the champion's tables for the gate."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("register", arguments)
