"""The end of a pipeline run as a component: what became of it, whether it went well or not."""

from kfp.dsl import PipelineTaskFinalStatus

from components.image import component


@component
def report(status: PipelineTaskFinalStatus, store: str, run: str, tracking: str):
    """Say how the run ended, what failed, and where its results are."""
    from earmark.kubeflow.tools import run_report

    run_report(status.state, status.error_message, store, run, tracking)
