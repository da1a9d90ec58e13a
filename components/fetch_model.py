"""A model of the registry as an artifact; not a stage: what an alias names may be another one each time."""

from kfp.dsl import Model, Output

from components.image import component


@component
def fetch_model(output: Output[Model], model: str, tracking: str, store: str, run: str):
    """Fetch models:/earmark@champion, a version, or a run's model."""
    from earmark.kubeflow.tools import run_fetch

    run_fetch(model, tracking, store, output)
