"""The stage gate as a component."""

from kfp.dsl import Artifact, Input, Metrics, Model, Output

from components.image import component


@component
def gate(
    model: Input[Model],
    evaluation: Input[Artifact],
    robustness: Input[Artifact],
    registration: Input[Artifact],
    output: Output[Artifact],
    metrics: Output[Metrics],
    seed: int,
    gate: str,
    store: str,
    run: str,
) -> bool:
    """Hold the challenger against the champion on the same trials, and write the decision; pure tables in, record out."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    return bool(run_step("gate", arguments)["passed"])
