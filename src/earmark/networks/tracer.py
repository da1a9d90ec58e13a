"""Source tracer (Kulkarni et al., Interspeech 2025): front end, one of two back ends, and a linear head.

Shapes: B batch, T samples, K CQT bins, F frames, D feature width, E embedding, S classes.
"""

from typing import NamedTuple

from torch import Tensor, nn

from earmark.networks.aasist import AasistBackend
from earmark.networks.conformer import ConformerBackend
from earmark.params import AasistParams, BackendParams, ConformerParams


class Tracing(NamedTuple):
    """embedding (B, E) and logits (B, S) of the known sources."""

    embedding: Tensor
    logits: Tensor


class Tracer(nn.Module):
    """Features (B, F, D) → embedding and logits."""

    def __init__(self, features: int, backend: BackendParams, classes: int):
        super().__init__()
        self.features = features
        self.backend = _backend(features, backend)
        self.head = nn.Linear(self.backend.embedding, classes)

    def forward(self, features: Tensor) -> Tracing:
        """See the class."""
        embedding = self.backend(features).float()
        return Tracing(embedding, self.head(embedding))


def _backend(features: int, params: BackendParams) -> ConformerBackend | AasistBackend:
    if isinstance(params, ConformerParams):
        return ConformerBackend(features, params)
    assert isinstance(params, AasistParams)
    return AasistBackend(features, params)
