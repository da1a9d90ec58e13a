"""The stage download as a component."""

from kfp.dsl import Dataset, Metrics, Output

from components.image import component


@component
def download(output: Output[Dataset], metrics: Output[Metrics], download: str, store: str, run: str):
    """Fetch the corpora from where params say, verified and unpacked."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("download", arguments)
