"""The stage embed_utterances as a component."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def embed_utterances(
    protocol: Input[Dataset],
    features: Input[Dataset],
    hidden: Input[Dataset],
    members: Input[Model],
    output: Output[Dataset],
    metrics: Output[Metrics],
    audio: str,
    cqt: str,
    front_end: str,
    tracer: str,
    compute: str,
    store: str,
    run: str,
    shard: str = "1/1",
):
    """Logits and embeddings of every member for whole utterances of all splits."""
    arguments = locals()
    from earmark.kubeflow.step import run_step

    run_step("embed_utterances", arguments)
