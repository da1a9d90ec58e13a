"""Graph-attention back end of AASIST (Jung et al., ICASSP 2022), on features instead of raw audio.

Shapes: B batch, F frames, D feature width, N nodes of a graph, C channels of a node, E embedding.
"""

import torch
from torch import Tensor, nn

from earmark.networks.resnet import BasicBlock, channels_last
from earmark.params import AasistParams

# of the published code: spectral, temporal, then both inside a branch (port)
POOL_SHARES = (0.5, 0.7, 0.5, 0.5)  # nodes kept
TEMPERATURES = (2.0, 2.0, 100.0, 100.0)  # of attention


class AasistBackend(nn.Module):
    """(B, F, D) → (B, E), E = 5·C of the last graph layer.

    Features are an image of frames and channels; residual blocks make it small. Its maxima over time are the nodes of a spectral graph,
    those over channels the nodes of a temporal one. Each graph attends to itself and is pooled; two branches of heterogeneous attention
    then join both with a stack node, and the greater of the branches is read out.
    """

    def __init__(self, features: int, params: AasistParams):
        super().__init__()
        first, second = params.graph_widths
        self.project, self.norm = nn.Linear(features, params.width), nn.BatchNorm2d(1)
        self.encoder, channels, bins = _encoder(params)
        self.position = nn.Parameter(torch.randn(bins, channels) * 0.02)
        self.spectral, self.temporal = (
            GraphAttention(channels, first, temperature, params.node_dropout) for temperature in TEMPERATURES[:2]
        )
        self.pools = nn.ModuleList(GraphPool(first, share, params.pool_dropout) for share in POOL_SHARES[:2])
        self.branches = nn.ModuleList(Branch(first, second, params) for _ in range(2))
        self.dropout, self.embedding = nn.Dropout(params.dropout), 5 * second

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        image = self.encoder(channels_last(nn.functional.selu(self.norm(self.project(features).transpose(1, 2)[:, None]))))
        spectral = self.pools[0](self.spectral(image.abs().amax(3).transpose(1, 2) + self.position))
        temporal = self.pools[1](self.temporal(image.abs().amax(2).transpose(1, 2)))
        pairs = [branch(temporal, spectral) for branch in self.branches]
        times, bins, stack = (torch.maximum(*parts) for parts in zip(*pairs, strict=True))
        parts = (times.abs().amax(1), times.mean(1), bins.abs().amax(1), bins.mean(1), stack[:, 0])
        return self.dropout(torch.cat(parts, dim=-1))


class GraphAttention(nn.Module):
    """(B, N, C) → (B, N, C'): every node attends to every other by a learned weight of their product, beside its own projection."""

    def __init__(self, inputs: int, outputs: int, temperature: float, dropout: float):
        super().__init__()
        self.temperature = temperature
        self.attend, self.weight = nn.Linear(inputs, outputs), nn.Parameter(torch.empty(outputs))
        nn.init.normal_(self.weight, std=(2 / (outputs + 1)) ** 0.5)
        self.others, self.own, self.norm = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor) -> Tensor:
        """See the class."""
        nodes = self.dropout(nodes)
        mask = (self.similarity(nodes) @ self.weight / self.temperature).softmax(-1)
        return nn.functional.selu(_normed(self.norm, self.others(mask @ nodes) + self.own(nodes)))

    def similarity(self, nodes: Tensor) -> Tensor:
        """(B, N, C) → (B, N, N, C'): tanh of the projected products of all pairs of nodes."""
        return torch.tanh(self.attend(nodes[:, :, None] * nodes[:, None]))


class HeterogeneousAttention(GraphAttention):
    """Graph attention over temporal (B, N, C) and spectral (B, M, C) nodes at once, with a weight for each pair of kinds and a stack node.

    The stack node (B, 1, C) sees every node and none sees it.
    """

    def __init__(self, inputs: int, outputs: int, temperature: float, dropout: float):
        super().__init__(inputs, outputs, temperature, dropout)
        self.kinds = nn.ModuleList(nn.Linear(inputs, inputs) for _ in range(2))
        self.pairs = nn.Parameter(torch.randn(3, outputs) * (2 / (outputs + 1)) ** 0.5)  # time-time, bin-bin, across
        self.gather, self.gather_weight = nn.Linear(inputs, outputs), nn.Parameter(torch.randn(outputs) * (2 / (outputs + 1)) ** 0.5)
        self.stack_others, self.stack_own = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        del self.weight

    def join(self, temporal: Tensor, spectral: Tensor, stack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three kinds of nodes in, the same three of C' channels out."""
        count = temporal.shape[1]
        nodes = self.dropout(torch.cat([kind(part) for kind, part in zip(self.kinds, (temporal, spectral), strict=True)], dim=1))
        kind = torch.arange(nodes.shape[1], device=nodes.device) >= count
        which = torch.where(kind[:, None] == kind[None], kind.long(), 2)
        scores = (self.similarity(nodes) * self.pairs[which]).sum(-1)
        stack = self._gather(nodes, stack)
        mask = (scores / self.temperature).softmax(-1)
        nodes = nn.functional.selu(_normed(self.norm, self.others(mask @ nodes) + self.own(nodes)))
        return nodes[:, :count], nodes[:, count:], stack

    def _gather(self, nodes: Tensor, stack: Tensor) -> Tensor:
        scores = torch.tanh(self.gather(nodes * stack)) @ self.gather_weight / self.temperature
        return self.stack_others(scores.softmax(-1)[:, None] @ nodes) + self.stack_own(stack)


class GraphPool(nn.Module):
    """(B, N, C) → (B, max(1, N·share), C): the nodes of the greatest learned score, weighed by it."""

    def __init__(self, channels: int, share: float, dropout: float):
        super().__init__()
        self.score, self.share, self.dropout = nn.Linear(channels, 1), share, nn.Dropout(dropout)

    def forward(self, nodes: Tensor) -> Tensor:
        """See the class."""
        score = torch.sigmoid(self.score(self.dropout(nodes)))
        chosen = score.topk(max(1, int(nodes.shape[1] * self.share)), dim=1).indices
        return (nodes * score).gather(1, chosen.expand(-1, -1, nodes.shape[2]))


class Branch(nn.Module):
    """Two heterogeneous layers with a pooling between them: temporal, spectral and stack nodes, the second layer added to the first."""

    def __init__(self, first: int, second: int, params: AasistParams):
        super().__init__()
        self.stack = nn.Parameter(torch.randn(first) * 0.02)
        self.first = HeterogeneousAttention(first, second, TEMPERATURES[2], params.node_dropout)
        self.second = HeterogeneousAttention(second, second, TEMPERATURES[3], params.node_dropout)
        self.pools = nn.ModuleList(GraphPool(second, share, params.pool_dropout) for share in POOL_SHARES[2:])
        self.dropout = nn.Dropout(params.node_dropout)

    def forward(self, temporal: Tensor, spectral: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        times, bins, stack = self.first.join(temporal, spectral, self.stack.expand(len(temporal), 1, -1))
        times, bins = self.pools[0](times), self.pools[1](bins)
        added = self.second.join(times, bins, stack)
        times, bins, stack = (self.dropout(old + new) for old, new in zip((times, bins, stack), added, strict=True))
        return times, bins, stack


def _encoder(params: AasistParams) -> tuple[nn.Sequential, int, int]:
    """Residual blocks, and a pooling by 3 wherever channels change; also the channels and the bins that come out."""
    layers, before, bins = [], 1, params.width
    for width in params.encoder_widths:
        layers.append(BasicBlock(before, width, 1, 2))
        if width != before:
            layers.append(nn.MaxPool2d(3, ceil_mode=True))
            bins = -(-bins // 3)
        before = width
    return nn.Sequential(*layers), before, bins


def _normed(norm: nn.BatchNorm1d, nodes: Tensor) -> Tensor:
    return norm(nodes.transpose(1, 2)).transpose(1, 2)
