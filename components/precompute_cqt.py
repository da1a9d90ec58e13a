"""The stage precompute_cqt as a component."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.image import component


@component
def precompute_cqt(
    data: Input[Dataset],
    copies: Input[Dataset],
    protocol: Input[Dataset],
    diagnosis: Input[Artifact],
    output: Output[Dataset],
    metrics: Output[Metrics],
    decoding: str,
    audio: str,
    cqt: str,
    sharding: str,
    trials: str,
    store: str,
    run: str,
    shard: str = "1/1",
):
    """Decode every recording once, and write waveforms and CQTs into few memory-mapped shards; `diagnosis` is there when they may be."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("precompute_cqt", arguments)
