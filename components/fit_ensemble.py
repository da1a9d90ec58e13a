"""The stage fit_ensemble as a component."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.image import component


@component
def fit_ensemble(
    protocol: Input[Dataset],
    embeddings: Input[Dataset],
    output: Output[Artifact],
    metrics: Output[Metrics],
    tracer: str,
    ensemble: str,
    tracking: str,
    store: str,
    run: str,
):
    """Fuse the members: temperatures, weights, bank and thresholds, fitted on dev; answer dev and eval."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("fit_ensemble", arguments)
