"""Losses. Shapes: B batch, E embedding, N sources in a batch, S known sources; binary labels 1 = bona fide, 0 = spoof."""

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


class OneClassSoftmax(nn.Module):
    """OC-softmax (Zhang, Jiang, Duan, SPL 2021): mean softplus(α·s), s = r_real − c for bona fide and c − r_fake for spoofs.

    c is the cosine between an embedding and a learnable direction. An embedding of zero norm has the cosine 0.
    """

    def __init__(self, embedding: int, r_real: float, r_fake: float, alpha: float):
        super().__init__()
        self.r_real, self.r_fake, self.alpha = r_real, r_fake, alpha
        self.direction = nn.Parameter(torch.randn(embedding))

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """(B, E), (B,) → scalar."""
        cosine = nn.functional.cosine_similarity(embedding, self.direction[None], dim=-1)
        return nn.functional.softplus(self.alpha * torch.where(labels == 1, self.r_real - cosine, cosine - self.r_fake)).mean()


def n_pair(anchors: Tensor, positives: Tensor, penalty: float, scale: float | None = None) -> Tensor:
    """Multi-class N-pair loss (Sohn, NIPS 2016, eq. 6), one anchor and one positive of each of N sources: (N, E), (N, E) → scalar.

    1/N Σ_i log(1 + Σ_{j≠i} exp(f_i·f_j⁺ − f_i·f_i⁺)) is the cross-entropy of F·F⁺ᵀ against its diagonal. Embeddings are not normalised;
    `penalty`/4 · (E‖f‖² + E‖f⁺‖²) keeps them small. With `scale` products are that many times cosines.
    """
    own = torch.arange(len(anchors), device=anchors.device)
    size = anchors.square().sum(-1).mean() + positives.square().sum(-1).mean()
    if scale is not None:
        anchors, positives = (nn.functional.normalize(one, dim=-1) * scale**0.5 for one in (anchors, positives))
    return nn.functional.cross_entropy(anchors @ positives.T, own) + 0.25 * penalty * size


def mix(features: Tensor, labels: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """RegMixup's batch (Pinto et al., NeurIPS 2022): one λ ~ Beta(α, α) and one permutation π, of torch's own seed.

    (B, …), (B,) → λ·x + (1 − λ)·x_π, y_π and λ.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(features)).to(features.device)
    return share * features + (1 - share) * features[order], labels[order], share


def mixed_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, share: float) -> Tensor:
    """λ·CE(p(x_mix), y) + (1 − λ)·CE(p(x_mix), y_π): (B, S), (B,), (B,) → scalar."""
    return share * nn.functional.cross_entropy(logits, labels) + (1 - share) * nn.functional.cross_entropy(logits, others)
