"""Light U-Net on a spectrogram. Shapes: B batch, K bins, F frames, C channels."""

import torch
from torch import Tensor, nn

from earmark.features.cqt import PHASE_CHANNELS, channels
from earmark.networks.resnet import BasicBlock, channels_last
from earmark.params import SpectrogramParams


class UNet(nn.Module):
    """(B, 1–2, K, F) → features at three scales (B, C¹, K', F'), (B, C², K'/2, F'/2), (B, C³, K'/4, F'/4), K' = K / stem_stride.

    Residual blocks on the way down, one convolution a scale on the way up; each scale is read after the decoder.
    """

    def __init__(self, params: SpectrogramParams):
        super().__init__()
        self.phase = params.phase
        first, second, third = params.widths
        inputs = PHASE_CHANNELS[params.phase]
        self.stem = nn.Sequential(_stem(inputs, first, params.stem_stride), BasicBlock(first, first, 1, 2))
        self.down2 = nn.Sequential(BasicBlock(first, second, 2, 2), BasicBlock(second, second, 1, 2))
        self.down3 = nn.Sequential(BasicBlock(second, third, 2, 2), BasicBlock(third, third, 1, 2))
        self.up2 = _convolution(third + second, second, 3)
        self.up1 = _convolution(second + first, first, 3)

    def forward(self, spectrogram: Tensor) -> list[Tensor]:
        """See the class; shallow (finest) first."""
        first = self.stem(channels_last(channels(spectrogram, self.phase)))
        second = self.down2(first)
        third = self.down3(second)
        second = self.up2(torch.cat((_resize(third, second), second), dim=1))
        first = self.up1(torch.cat((_resize(second, first), first), dim=1))
        return [first, second, third]


def _stem(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Stride 1 as a 3-wide convolution; 2 as a 7-wide one; 4 with a pooling more, as ResNet begins."""
    if stride == 1:
        return _convolution(inputs, outputs, 3)
    pool = [nn.MaxPool2d(3, 2, padding=1)] if stride == 4 else []
    return nn.Sequential(_convolution(inputs, outputs, 7, 2), *pool)


def _convolution(inputs: int, outputs: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, width, stride, padding=width // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _resize(coarse: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(coarse, size=like.shape[-2:], mode="nearest")
