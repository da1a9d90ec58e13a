"""The stage doctor as a component."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.image import component


@component
def doctor(
    data: Input[Dataset],
    copies: Input[Dataset],
    protocol: Input[Dataset],
    output: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    doctor: str,
    trials: str,
    decoding: str,
    tracking: str,
    store: str,
    run: str,
):
    """Check the corpora for faults, leaks and cheap cues, and stop the run when a check of severity error fails."""
    arguments = locals()
    from earmark.kubeflow.step import run_step
    from earmark.kubeflow.tools import fetch

    run_step("doctor", arguments)
    fetch(output, "report.html", report.path)
