"""ResNet-18 (He et al., CVPR 2016) over one or two dimensions. Shapes: B batch, C channels, E embedding."""

import torch
from torch import Tensor, nn

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
