"""Losses of the tracer's two stages on its network: Real Emphasis and Fake Dispersion (Kulkarni et al., Interspeech 2025).

Shapes: B batch, F frames, D feature width.
"""

from torch import Tensor, nn

from earmark.networks.classifier import Classifier
from earmark.params import DispersionParams, EmphasisParams
from earmark.training.losses import OneClassSoftmax, mix, mixed_cross_entropy, n_pair


class Emphasis(nn.Module):
    """Stage 1: cross-entropy of bona fide against spoof + weight · OC-softmax."""

    def __init__(self, network: Classifier, params: EmphasisParams):
        super().__init__()
        self.network, self.weight = network, params.oc_softmax
        self.one_class = OneClassSoftmax(network.backend.embedding, params.r_real, params.r_fake, params.alpha)

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, F, D), (B,) 1 = bona fide → scalars, `loss` among them."""
        tracing = self.network(features)
        entropy, one_class = nn.functional.cross_entropy(tracing.logits, labels), self.one_class(tracing.embedding, labels)
        return {"loss": entropy + self.weight * one_class, "cross_entropy": entropy, "oc_softmax": one_class}


class Dispersion(nn.Module):
    """Stage 2: cross-entropy + η · RegMixup + λ · N-pair.

    The first 2N rows of a batch, N = `pairs`, are N anchors and then their N positives. N-pair takes them unmixed.
    """

    def __init__(self, network: Classifier, params: DispersionParams, pairs: int):
        super().__init__()
        self.network, self.params, self.pairs = network, params, pairs

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, F, D), (B,) numbers of sources → scalars, `loss` among them."""
        params, tracing = self.params, self.network(features)
        metrics = {"cross_entropy": nn.functional.cross_entropy(tracing.logits, labels)}
        loss = metrics["cross_entropy"]
        if params.regmixup:
            mixed, others, share = mix(features, labels, params.regmixup_alpha)
            metrics["regmixup"] = mixed_cross_entropy(self.network(mixed).logits, labels, others, share)
            loss = loss + params.regmixup * metrics["regmixup"]
        if params.n_pair and self.pairs:
            anchors, positives = tracing.embedding[: self.pairs], tracing.embedding[self.pairs : 2 * self.pairs]
            metrics["n_pair"] = n_pair(anchors, positives, params.n_pair_penalty, params.n_pair_scale)
            loss = loss + params.n_pair * metrics["n_pair"]
        return {"loss": loss} | metrics
