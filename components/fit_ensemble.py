"""The stage fit_ensemble as a component."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.image import component


@component
def fit_ensemble(
    protocol: Input[Dataset],
    scores: Input[Dataset],
    embeddings: Input[Dataset],
    output: Output[Artifact],
    metrics: Output[Metrics],
    detector: str,
    tracer: str,
    ensemble: str,
    tracking: str,
    store: str,
    run: str,
):
    """Fuse the detector's members and the tracer's, fitted on dev; score and answer dev and eval."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("fit_ensemble", arguments)
