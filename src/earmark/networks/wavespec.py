"""WaveSpec (Jin, Lang, Leng, ICASSP 2025): two synchronised views of a clip, fused at three scales.

Shapes: B batch, T samples, C = 2 channels and K bins of a CQT, or one channel of linear bands, F frames, E embedding.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from earmark.networks.classifier import exactly
from earmark.networks.fusion import CrossModalFusion
from earmark.networks.resnet import ResNet18
from earmark.networks.unet import UNet
from earmark.networks.wav2vec2 import TappedWav2Vec2
from earmark.params import View, WaveSpecParams


class Detection(NamedTuple):
    """embedding (B, E) and logits (B, 2) in the order spoof, bona fide."""

    embedding: Tensor
    logits: Tensor

    @property
    def cm_score(self) -> Tensor:
        """(B,) countermeasure score: higher = more bona fide."""
        return self.logits[:, 1] - self.logits[:, 0]


class WaveSpec(nn.Module):
    """Waveform (B, T) and spectrogram (B, C, K, F) of the same instant → embedding and logits."""

    def __init__(self, params: WaveSpecParams, encoder: dict[str, Any]):
        super().__init__()
        self.params, self.encoder_configuration = params, encoder
        self.encoder = TappedWav2Vec2(encoder, params.encoder.taps) if params.views != "spectrogram" else None
        self.unet = UNet(params.spectrogram) if params.views != "waveform" else None
        width = int(encoder["hidden_size"]) if self.encoder is not None else None
        spectra = [channels * params.spectrogram.bands if self.unet is not None else None for channels in params.spectrogram.widths]
        self.fusion = nn.ModuleList(
            CrossModalFusion(width, spectrum, params.fusion_width, params.reduction, chained=scale > 0)
            for scale, spectrum in enumerate(spectra)
        )
        two = params.head == "2d"
        self.head = ResNet18(1 if two else params.fusion_width, params.head_widths, 2 if two else 1)
        self.dropout = nn.Dropout(params.dropout)
        self.embedding = params.head_widths[-1]
        self.classifier = nn.Linear(self.embedding, 2)

    def forward(self, waveform: Tensor, spectrogram: Tensor) -> Detection:
        """See the class."""
        views = self._encode(self.encoder, waveform) if self.encoder is not None else [None] * 3
        spectra = self.unet(spectrogram) if self.unet is not None else [None] * 3
        fused = None
        for fusion, view, spectrum in zip(self.fusion, views, spectra, strict=True):
            fused = fusion(None if view is None else view.transpose(1, 2), None if spectrum is None else self._pool(spectrum), fused)
        assert fused is not None
        embedding = self.head(fused[:, None] if self.params.head == "2d" else fused).float()
        return Detection(embedding, exactly(self.classifier, self.dropout(embedding)))

    @property
    def view(self) -> View:
        """The spectrogram that it reads."""
        return self.params.spectrogram.scale

    def _encode(self, encoder: TappedWav2Vec2, waveform: Tensor) -> list[Tensor]:
        """The waveform view; in training zeros for some clips, which are not encoded, so that the other view learns to stand alone."""
        if not self.training or not self.params.view_dropout or self.unet is None:
            return encoder(waveform)
        shown = torch.rand(len(waveform), device=waveform.device) >= self.params.view_dropout
        rows = shown.nonzero()[:, 0] if shown.any() else torch.zeros(1, dtype=torch.long, device=waveform.device)
        views = encoder(waveform[rows])  # of one clip at least: every weight has a gradient, which processes that train together wait for
        return [view.new_zeros(len(waveform), *view.shape[1:]).index_copy(0, rows, view * shown[rows, None, None]) for view in views]

    def _pool(self, spectrum: Tensor) -> Tensor:
        """(B, C, K', F') → (B, C·bands, F'): mean over the bins of each band."""
        return nn.functional.adaptive_avg_pool2d(spectrum, (self.params.spectrogram.bands, spectrum.shape[-1])).flatten(1, 2)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of a pretrained encoder, which have a learning rate of their own; none where it is random."""
        return list(self.encoder.parameters()) if self.encoder is not None and self.params.encoder.pretrained else []

    def freeze_encoder(self, frozen: bool) -> None:
        """Freeze a pretrained encoder (evaluation mode, no gradient) or release it."""
        for parameter in self.encoder_parameters():
            parameter.requires_grad_(not frozen)
        if frozen and self.encoder is not None and self.params.encoder.pretrained:
            self.encoder.eval()
