import pytest
import torch
from torch import nn

from earmark.networks.resnet import BasicBlock, ResNet18, ResNetBackend
from earmark.params import ResNetParams

WIDTHS = (8, 8, 12, 16)


@pytest.mark.parametrize(("dimensions", "shape"), [(1, (3, 24, 201)), (2, (3, 1, 24, 201)), (1, (2, 24, 13)), (2, (2, 1, 16, 49))])
def test_any_length_becomes_one_embedding(dimensions, shape):
    assert ResNet18(shape[1], WIDTHS, dimensions).eval()(torch.randn(shape)).shape == (shape[0], 16)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_it_has_eighteen_layers(dimensions):
    kinds = (nn.Conv1d, nn.Conv2d)
    network = ResNet18(4, WIDTHS, dimensions)
    wide = [module for module in network.modules() if isinstance(module, kinds) and module.kernel_size[0] > 1]
    assert len(wide) == 17  # and the classifier after it


def test_a_block_is_a_residual():
    """With a body of zeros the block passes its input through the activation."""
    block = BasicBlock(8, 8, 1, 1).eval()
    for parameter in block.body.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 8, 20)
    torch.testing.assert_close(block(x), x.relu())


def test_a_block_halves_and_widens_where_asked():
    assert BasicBlock(8, 12, 2, 1)(torch.randn(2, 8, 21)).shape == (2, 12, 11)
    assert BasicBlock(8, 12, 2, 2)(torch.randn(2, 8, 21, 30)).shape == (2, 12, 11, 15)


def test_the_thin_one_pools_any_length_to_mean_and_deviation():
    """Of the size that METHODS measured: 0.3 million weights."""
    network = ResNetBackend(80, ResNetParams()).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(3e5, rel=0.1)
    assert network.embedding == 256
    for frames in (203, 405):
        assert network(torch.randn(2, frames, 80)).shape == (2, 256)
    steady = network(torch.randn(1, 1, 80).expand(1, 400, 80))
    inside = steady[:, 128:]
    assert inside.mean() < steady[:, :128].mean()  # what does not change deviates at the clip's ends alone
