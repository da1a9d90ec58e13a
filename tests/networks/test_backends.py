import pytest
import torch
from torch import nn

from earmark.networks.aasist import AasistBackend, GraphPool, HeterogeneousAttention
from earmark.networks.conformer import ConformerBackend, sinusoids
from earmark.params import AasistParams, ConformerParams

CONFORMER = ConformerParams(width=16, layers=2, heads=2, kernel=5)
AASIST = AasistParams(width=18, encoder_widths=(4, 8), graph_widths=(8, 6))


def build(params) -> nn.Module:
    torch.manual_seed(0)
    return (ConformerBackend if isinstance(params, ConformerParams) else AasistBackend)(12, params).eval()


@pytest.mark.parametrize("params", [CONFORMER, AASIST])
def test_an_utterance_s_embedding_does_not_depend_on_its_batch_mates(params):
    backend, features = build(params), torch.randn(3, 40, 12)
    together = backend(features)
    assert together.shape == (3, backend.embedding)
    torch.testing.assert_close(together[1:2], backend(features[1:2]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("params", [CONFORMER, CONFORMER.model_copy(update={"pooling": "attentive_statistics"}), AASIST])
def test_every_parameter_learns(params):
    backend = build(params).train()
    with torch.no_grad():  # residual blocks begin as their shortcuts
        for parameter in backend.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    backend(torch.randn(8, 40, 12)).square().sum().backward()
    idle = {name for name, parameter in backend.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    expected = {"token"} if getattr(params, "pooling", None) == "attentive_statistics" else set()
    assert idle == expected


def test_published_sizes():
    assert build(AasistParams()).embedding == 160
    assert build(ConformerParams()).embedding == 144


def test_poolings_and_positions_of_the_conformer_have_an_effect():
    features = torch.randn(2, 30, 12)
    found = [
        build(CONFORMER.model_copy(update={"pooling": pooling}))(features) for pooling in ("class_token", "mean", "attentive_statistics")
    ]
    assert not any(torch.allclose(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert not torch.allclose(found[0], build(CONFORMER.model_copy(update={"positions": False}))(features))


def test_without_positions_a_mean_pooled_conformer_of_kernel_one_frame_ignores_order():
    """Attention alone is blind to order; the depthwise convolution's reach is what is left, so zero its side taps."""
    backend = build(CONFORMER.model_copy(update={"pooling": "mean", "positions": False}))
    for module in backend.modules():
        if isinstance(module, nn.Conv1d) and module.groups > 1:
            middle = module.weight.shape[-1] // 2
            with torch.no_grad():
                module.weight[..., :middle] = module.weight[..., middle + 1 :] = 0
    features = torch.randn(1, 20, 12)
    torch.testing.assert_close(backend(features), backend(features.flip(1)), atol=1e-5, rtol=0)


def test_positions_are_sines_and_cosines():
    found = sinusoids(3, 4)
    assert found[:, 0].tolist() == pytest.approx([0, 0.841471, 0.909297])
    assert found[:, 3].tolist() == pytest.approx([1, 0.99995, 0.9998], abs=1e-6)


def test_pooling_keeps_the_nodes_of_the_greatest_score():
    pool = GraphPool(2, 0.5, 0.3).eval()
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[1.0, 0.0]]))
        pool.score.bias.zero_()
    nodes = torch.tensor([[[0.0, 1], [5, 2], [-3, 3], [9, 4]]])
    kept = pool(nodes)
    assert kept.shape == (1, 2, 2)
    assert kept[0, :, 1].tolist() == pytest.approx([4, 2], rel=0.01)


def test_pairs_of_kinds_have_weights_of_their_own():
    torch.manual_seed(0)
    layer = HeterogeneousAttention(4, 6, 1.0, 0.2).eval()
    temporal, spectral, stack = torch.randn(1, 3, 4), torch.randn(1, 2, 4), torch.randn(1, 1, 4)
    before = layer.join(temporal, spectral, stack)
    with torch.no_grad():
        layer.pairs[1] += 1  # bin-bin
    after = layer.join(temporal, spectral, stack)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
    assert torch.equal(before[2], after[2])  # the stack node weighs nodes by itself
