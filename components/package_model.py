"""The stage package_model as a component."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def package_model(
    protocol: Input[Dataset],
    detectors: Input[Model],
    members: Input[Model],
    answers: Input[Artifact],
    output: Output[Model],
    metrics: Output[Metrics],
    seed: int,
    corpora: str,
    decoding: str,
    audio: str,
    cqt: str,
    detector: str,
    front_end: str,
    tracer: str,
    scoring: str,
    verdict: str,
    compute: str,
    store: str,
    run: str,
):
    """Calibrate the scores on dev, and put all that an answer needs into one folder with digests and a known answer."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("package_model", arguments)
