"""Promotion as a component: what `earmark promote` does."""

from kfp.dsl import Artifact, Input

from components.image import component


@component
def promote(decision: Input[Artifact], tracking: str, store: str, run: str):
    """Make the challenger champion, as the gate decided."""
    arguments = locals()
    from earmark.kubeflow.tools import run_promotion

    run_promotion(arguments)
