"""All workers' verdicts as one file; not a stage: nothing is computed."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.image import component


@component
def list_verdicts(parts: Input[list[Artifact]], verdicts: Output[Dataset], metrics: Output[Metrics]):
    """Write verdicts.jsonl, a line a recording, and count the answers."""
    from earmark.kubeflow.tools import join_verdicts

    metrics.metadata.update(join_verdicts(parts, verdicts.path))
