"""Losses. Shapes: B batch, E embedding; labels 1 = bona fide, 0 = spoof."""

import math

import torch
from torch import Tensor, nn

from earmark.params import LossParams


class SingleCenterLoss(nn.Module):
    """Single-center loss (Li et al., CVPR 2021): M_nat + max(0, M_nat − M_man + m·√E).

    M is the batch mean of the L2 distance to a learnable centre, nat over bona fide, man over spoofed embeddings. Without spoofs the loss
    is M_nat, without bona fide it is 0.
    """

    def __init__(self, embedding: int, margin: float):
        super().__init__()
        self.margin = margin * math.sqrt(embedding)
        self.centre = nn.Parameter(torch.zeros(embedding))

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """(B, E), (B,) → scalar."""
        # the square root's slope is infinite at 0, so distances stop at 1e-6
        distance = (embedding - self.centre).square().sum(-1).clamp_min(1e-12).sqrt()
        bonafide, spoof = distance[labels == 1], distance[labels == 0]
        if not len(bonafide):
            return distance.sum() * 0
        near = bonafide.mean()
        return near + torch.relu(near - spoof.mean() + self.margin) if len(spoof) else near


class DetectorLoss(nn.Module):
    """Weighted cross-entropy + λ · single-center loss."""

    def __init__(self, params: LossParams, embedding: int, class_weights: tuple[float, float]):
        super().__init__()
        self.single_center_weight = params.single_center
        self.single_center = SingleCenterLoss(embedding, params.margin)
        self.register_buffer("class_weights", torch.tensor(class_weights), persistent=False)

    def forward(self, embedding: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, E), (B, 2), (B,) → `loss` and its parts."""
        entropy = nn.functional.cross_entropy(logits, labels, weight=self.get_buffer("class_weights"))
        center = self.single_center(embedding, labels)
        return {"loss": entropy + self.single_center_weight * center, "cross_entropy": entropy, "single_center": center}
