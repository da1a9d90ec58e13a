"""The stage train_tracer as a component."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def train_tracer(
    protocol: Input[Dataset],
    features: Input[Dataset],
    hidden: Input[Dataset],
    output: Output[Model],
    metrics: Output[Metrics],
    seed: int,
    audio: str,
    cqt: str,
    front_end: str,
    tracer: str,
    compute: str,
    tracking: str,
    store: str,
    run: str,
    member: str = "",
    job: str = "",
):
    """Train every member of the ensemble that names sources, or one of them: Real Emphasis, then Fake Dispersion."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("train_tracer", arguments)
