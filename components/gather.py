"""What workers made of one stage as one artifact; not a stage: their pointers are put together, the files stay where they are."""

from kfp.dsl import Artifact, Input, Output

from components.image import component


@component
def gather(parts: Input[list[Artifact]], output: Output[Artifact]):
    """Put the pointers of all workers into one."""
    from earmark.kubeflow.tools import unite

    unite(parts, output)
