"""Cross-modal feature fusion (CMFF) with multi-scale channel attention (Dai et al., WACV 2021).

Shapes: B batch, C channels, F frames, D width."""

import torch
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """M = σ(G(z) + L(z)), (B, D, F) → (B, D, F): global branch G on the mean over time, local branch L on every frame."""

    def __init__(self, width: int, reduction: int):
        super().__init__()
        self.pooled = _bottleneck(width, reduction)
        self.local = _bottleneck(width, reduction)

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        return torch.sigmoid(self.pooled(z.mean(-1, keepdim=True)) + self.local(z))


class CrossModalFusion(nn.Module):
    """CMFF_i: waveform side (B, D_a, F) and spectrogram side (B, C·bands, F') → fused (B, D, F).

    Both are aligned by 1×1 convolutions; scales after the first add Conv1×1 of the fused features before them to the spectrogram side;
    z = a + s and the fusion is M·a + (1 − M)·s. A width of None leaves a view out (ablation), with all that only it needs.
    """

    def __init__(self, waveform: int | None, spectrogram: int | None, width: int, reduction: int, chained: bool):
        super().__init__()
        self.align_waveform = nn.Conv1d(waveform, width, 1) if waveform else None
        self.align_spectrogram = nn.Conv1d(spectrogram, width, 1) if spectrogram else None
        self.chain = nn.Conv1d(width, width, 1) if chained else None
        self.attention = ChannelAttention(width, reduction) if waveform and (spectrogram or chained) else None

    def forward(self, waveform: Tensor | None, spectrogram: Tensor | None, before: Tensor | None = None) -> Tensor:
        """See the class; a view that is left out is None."""
        a = self.align_waveform(waveform) if self.align_waveform is not None else None
        s = self.align_spectrogram(spectrogram) if self.align_spectrogram is not None else None
        if a is not None and s is not None and a.shape[-1] != s.shape[-1]:
            s = nn.functional.interpolate(s, size=a.shape[-1], mode="linear")
        if self.chain is not None and before is not None:
            carried = self.chain(nn.functional.interpolate(before, size=s.shape[-1], mode="linear") if s is not None else before)
            s = carried if s is None else s + carried
        if a is None or s is None or self.attention is None:
            alone = s if a is None else a
            assert alone is not None, "at least one view"
            return alone
        mask = self.attention(a + s)
        return mask * a + (1 - mask) * s


def _bottleneck(width: int, reduction: int) -> nn.Sequential:
    narrow = max(width // reduction, 4)
    return nn.Sequential(
        nn.Conv1d(width, narrow, 1), nn.BatchNorm1d(narrow), nn.ReLU(inplace=True), nn.Conv1d(narrow, width, 1), nn.BatchNorm1d(width)
    )
