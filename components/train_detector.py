"""The stage train_detector as a component."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def train_detector(
    protocol: Input[Dataset],
    features: Input[Dataset],
    output: Output[Model],
    metrics: Output[Metrics],
    seed: int,
    audio: str,
    cqt: str,
    detector: str,
    scoring: str,
    compute: str,
    tracking: str,
    store: str,
    run: str,
    member: str = "",
    job: str = "",
):
    """Train every member of the detector, or one of them: on train, with the epoch chosen on dev."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("train_detector", arguments)
