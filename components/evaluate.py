"""The stage evaluate as a component."""

from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def evaluate(
    protocol: Input[Dataset],
    detectors: Input[Model],
    answers: Input[Artifact],
    model: Input[Model],
    robustness: Input[Artifact],
    output: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    curve: Output[ClassificationMetrics],
    seed: int,
    trials: str,
    evaluation: str,
    tracking: str,
    store: str,
    run: str,
):
    """Turn scores into tables, figures with intervals, and one report; pure tables in, tables out."""
    arguments = locals()
    from earmark.kubeflow.step import run_step
    from earmark.kubeflow.tools import fetch, log_curve

    run_step("evaluate", arguments)
    fetch(output, "report.html", report.path)
    log_curve(output, curve)
