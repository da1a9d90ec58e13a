"""Conformer back end of the tracer. Shapes: B batch, F frames, D feature width, W model width, E embedding."""

import math

import torch
from torch import Tensor, nn
from torchaudio.models import Conformer

from earmark.params import ConformerParams


class ConformerBackend(nn.Module):
    """(B, F, D) → (B, E): projection, class token, Conformer blocks, pooling (Rosello et al., Interspeech 2023).

    Published blocks attend with relative positions. torchaudio's have none, so sinusoids are added to their input by default.
    E is the width W; attentive statistics are projected back to it.
    """

    def __init__(self, features: int, params: ConformerParams):
        super().__init__()
        self.params, width = params, params.width
        self.embedding = width
        self.project, self.norm = nn.Linear(features, width), nn.BatchNorm1d(width)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = Conformer(width, params.heads, 4 * width, params.layers, params.kernel, params.dropout)
        statistics = params.pooling == "attentive_statistics"
        self.weigh = nn.Sequential(nn.Linear(width, width // 4), nn.Tanh(), nn.Linear(width // 4, 1)) if statistics else None
        self.narrow = nn.Linear(2 * width, width) if statistics else None

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        x = nn.functional.selu(self.norm(self.project(features).transpose(1, 2)).transpose(1, 2))
        if self.params.positions:
            x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
        if self.params.pooling == "class_token":
            x = torch.cat((self.token.expand(len(x), 1, -1), x), dim=1)
        x = x.transpose(0, 1)
        for block in self.blocks.conformer_layers:
            x = block(x, None)  # no frame is padding; to check a mask of none torch would import all of sympy
        return self._pool(x.transpose(0, 1))

    def _pool(self, x: Tensor) -> Tensor:
        if self.params.pooling == "class_token":
            return x[:, 0]
        if self.weigh is None or self.narrow is None:
            return x.mean(1)
        weight = self.weigh(x).softmax(1)
        mean = (weight * x).sum(1)
        spread = (weight * (x - mean[:, None]).square()).sum(1).clamp_min(1e-8).sqrt()
        return self.narrow(torch.cat((mean, spread), dim=-1))


def sinusoids(frames: int, width: int) -> Tensor:
    """(F, W) positions: sines in even, cosines in odd columns (Vaswani et al., NIPS 2017, section 3.5)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angle = torch.arange(frames)[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)
