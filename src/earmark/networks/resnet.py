"""ResNet (He et al., CVPR 2016): of 18 layers over one or two dimensions, and a thin one on spectrograms.

Shapes: B batch, C channels, F frames, D bins, E embedding.
"""

import torch
from torch import Tensor, nn

from earmark.params import ResNetParams

KINDS = {
    1: (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d),
    2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
}


def channels_last(image: Tensor) -> Tensor:
    """The same (B, C, H, W) with channels innermost in memory: convolutions keep that order, and have less to reorder in it."""
    return torch.empty_like(image, memory_format=torch.channels_last).copy_(image)


class ResNet18(nn.Module):
    """(B, C, *) → (B, E): stem, four stages of two basic blocks, mean over what is left; E is the last stage's width."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int], dimensions: int = 1):
        super().__init__()
        convolution, norm, pool, mean = KINDS[dimensions]
        self.stem = nn.Sequential(
            convolution(inputs, widths[0], 7, 2, padding=3, bias=False), norm(widths[0]), nn.ReLU(inplace=True), pool(3, 2, padding=1)
        )
        blocks, before = [], widths[0]
        for stage, width in enumerate(widths):
            blocks += [BasicBlock(before, width, 1 if stage == 0 else 2, dimensions), BasicBlock(width, width, 1, dimensions)]
            before = width
        self.blocks, self.mean = nn.Sequential(*blocks), nn.Sequential(mean(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.mean(self.blocks(self.stem(x)))


class BasicBlock(nn.Module):
    """Two 3-wide convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, dimensions: int):
        super().__init__()
        convolution, norm, _, _ = KINDS[dimensions]
        last = norm(outputs)
        self.body = nn.Sequential(
            convolution(inputs, outputs, 3, stride, padding=1, bias=False), norm(outputs), nn.ReLU(inplace=True),
            convolution(outputs, outputs, 3, 1, padding=1, bias=False), last,
        )  # fmt: skip
        nn.init.zeros_(last.weight)  # each block begins as its shortcut (Goyal et al., 2017): deep stacks learn sooner
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(convolution(inputs, outputs, 1, stride, bias=False), norm(outputs))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *) → (B, C', * / stride)."""
        return self.activation(self.body(x) + self.shortcut(x))


class ResNetBackend(nn.Module):
    """(B, F, D) → (B, E): features as an image of one channel, stages of one block, mean and deviation over time of what is left.

    E is twice the last stage's channels; frequency is averaged.
    """

    def __init__(self, features: int, params: ResNetParams):
        super().__init__()
        first = params.widths[0]
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True))
        widths = zip((first, *params.widths), params.widths, strict=False)
        self.blocks = nn.Sequential(*(BasicBlock(before, width, 1 if stage == 0 else 2, 2) for stage, (before, width) in enumerate(widths)))
        self.dropout, self.embedding = nn.Dropout(params.dropout), 2 * params.widths[-1]

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        image = self.blocks(self.stem(channels_last(features.transpose(1, 2)[:, None])))
        deviation, mean = torch.std_mean(image.mean(2).float(), dim=2, correction=0)
        return self.dropout(torch.cat((mean, deviation), dim=1))
