import pytest
import torch

from earmark.networks.fusion import ChannelAttention, CrossModalFusion


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


A, S, BEFORE = features(2, 16, 49), features(2, 24, 51, seed=1), features(2, 8, 49, seed=2)


def fusion(waveform: int | None = 16, spectrogram: int | None = 24, chained: bool = True, reduction: int = 4) -> CrossModalFusion:
    torch.manual_seed(0)
    return CrossModalFusion(waveform, spectrogram, 8, reduction, chained).eval()


def test_the_attention_weighs_the_two_sides():
    """M·a + (1 − M)·s with M = σ(G(z) + L(z)), z = a + s, and the fused features before on the spectrogram side."""
    network = fusion()
    spectrogram = S[:, :, :49]
    a, s = network.align_waveform(A), network.align_spectrogram(spectrogram) + network.chain(BEFORE)
    z = a + s
    mask = torch.sigmoid(network.attention.pooled(z.mean(-1, keepdim=True)) + network.attention.local(z))
    torch.testing.assert_close(network(A, spectrogram, BEFORE), mask * a + (1 - mask) * s)
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_the_spectrogram_side_is_brought_to_the_waveforms_frames():
    assert fusion()(A, S, BEFORE).shape == (2, 8, 49)
    coarse = torch.nn.functional.interpolate(S, size=49, mode="linear")
    torch.testing.assert_close(fusion()(A, S, BEFORE), fusion()(A, coarse, BEFORE), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_input_has_an_effect(part):
    inputs = [A, S, BEFORE]
    base = fusion()(*inputs)
    inputs[part] = inputs[part] + 1
    assert not torch.allclose(fusion()(*inputs), base)


def test_a_view_left_out_leaves_the_other_one():
    network = fusion(waveform=None)
    assert network(None, S, features(2, 8, 51)).shape == (2, 8, 51)
    first = fusion(spectrogram=None, chained=False)
    torch.testing.assert_close(first(A, None), first.align_waveform(A))
    later = fusion(spectrogram=None)
    assert not torch.allclose(later(A, None, BEFORE), later(A, None, BEFORE + 1))


def test_the_reduction_narrows_the_attention_down_to_4_channels():
    widths = [ChannelAttention(64, reduction).local[0].out_channels for reduction in (1, 4, 16, 64)]
    assert widths == [64, 16, 4, 4]


def test_the_global_branch_sees_the_mean_alone_and_the_local_one_each_frame():
    attention = ChannelAttention(8, 2).eval()
    shuffled = torch.randperm(49, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attention(BEFORE)[..., shuffled], attention(BEFORE[..., shuffled]))
    changed = BEFORE.clone()
    changed[..., 0] += 5
    changed[..., 1] -= 5
    difference = (attention(changed) - attention(BEFORE)).abs().amax((0, 1))
    assert difference[:2].min() > 1e-4
    assert difference[2:].max() < 1e-6
