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
    wavespec: str,
    loss: str,
    augmentation: str,
    training: str,
    scoring: str,
    compute: str,
    tracking: str,
    store: str,
    run: str,
    job: str = "",
):
    """Train WaveSpec on train, choose its epoch on dev."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("train_detector", arguments)
