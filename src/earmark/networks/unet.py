"""Light U-Net on the CQT. Shapes: B batch, K CQT bins, F frames, C channels."""

import torch
from torch import Tensor, nn

from earmark.params import SpectrogramParams


def channels(cqt: Tensor, phase: str) -> Tensor:
    """(B, 2, K, F) log-magnitude and phase → (B, 1–3, K, F): log-magnitude standardised per clip, phase as asked for."""
    magnitude = cqt[:, :1]
    deviation, mean = torch.std_mean(magnitude, dim=(1, 2, 3), keepdim=True)
    parts = [(magnitude - mean) / (deviation + 1e-5)]
    if phase == "angle":
        parts.append(cqt[:, 1:] / torch.pi)
    elif phase == "cos_sin":
        parts += [cqt[:, 1:].cos(), cqt[:, 1:].sin()]
    return torch.cat(parts, dim=1)


class UNet(nn.Module):
    """(B, 2, K, F) → features at three scales (B, C¹, K, F), (B, C², K/2, F/2), (B, C³, K/4, F/4), all after the decoder."""

    def __init__(self, params: SpectrogramParams):
        super().__init__()
        self.phase = params.phase
        first, second, third = self.widths = params.widths
        inputs = {"none": 1, "angle": 2, "cos_sin": 3}[params.phase]
        self.stem = nn.Sequential(_convolution(inputs, first, params.stem_stride), _convolution(first, first))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), _convolution(first, second), _convolution(second, second))
        self.down3 = nn.Sequential(nn.MaxPool2d(2), _convolution(second, third), _convolution(third, third))
        self.up2 = _convolution(third + second, second)
        self.up1 = _convolution(second + first, first)

    def forward(self, cqt: Tensor) -> list[Tensor]:
        """See the class; shallow (finest) first."""
        first = self.stem(channels(cqt, self.phase))
        second = self.down2(first)
        third = self.down3(second)
        second = self.up2(torch.cat((_resize(third, second), second), dim=1))
        first = self.up1(torch.cat((_resize(second, first), first), dim=1))
        return [first, second, third]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )  # fmt: skip


def _resize(coarse: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(coarse, size=like.shape[-2:], mode="nearest")
