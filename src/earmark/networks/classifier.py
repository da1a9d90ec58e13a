"""A back end with a linear head: features of a clip → embedding and logits, of two keys or of many sources.

Shapes: B batch, F frames, D feature width, E embedding, S classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from earmark.networks.aasist import AasistBackend
from earmark.networks.conformer import ConformerBackend
from earmark.networks.resnet import ResNetBackend
from earmark.params import AasistParams, BackendParams, ConformerParams, ResNetParams

BACKENDS = {AasistParams: AasistBackend, ConformerParams: ConformerBackend, ResNetParams: ResNetBackend}


class Classification(NamedTuple):
    """embedding (B, E) and logits (B, S)."""

    embedding: Tensor
    logits: Tensor


class Classifier(nn.Module):
    """Features (B, F, D) → embedding and logits."""

    def __init__(self, features: int, backend: BackendParams, classes: int):
        super().__init__()
        self.features = features
        self.backend = BACKENDS[type(backend)](features, backend)
        self.head = nn.Linear(self.backend.embedding, classes)

    def forward(self, features: Tensor) -> Classification:
        """See the class."""
        embedding = self.backend(features).float()
        return Classification(embedding, exactly(self.head, embedding))


def exactly(head: nn.Linear, embedding: Tensor) -> Tensor:
    """(B, E) → (B, S) logits in float32 whatever the precision around: in bfloat16 they would come in steps of 0.03."""
    with torch.autocast(embedding.device.type, enabled=False):
        return head(embedding.float())
