import pytest
import torch

from earmark.features.cqt import channels
from earmark.networks.unet import UNet
from earmark.params import SpectrogramParams

MAGNITUDE = torch.randn(2, 84, 49, generator=torch.Generator().manual_seed(0)) * 3 - 5
CQT = torch.stack((MAGNITUDE, torch.linspace(-torch.pi, torch.pi, 49).expand(2, 84, 49)), dim=1)


def unet(**settings) -> UNet:
    torch.manual_seed(0)
    return UNet(SpectrogramParams(**{"widths": (8, 12, 16), **settings})).eval()


@pytest.mark.parametrize(("stride", "bins", "frames"), [(1, 84, 49), (2, 42, 25), (4, 21, 13)])
def test_three_scales_each_half_as_fine(stride, bins, frames):
    halves = [(bins, frames), (-(-bins // 2), -(-frames // 2)), (-(-bins // 4), -(-frames // 4))]
    assert [tuple(scale.shape[2:]) for scale in unet(stem_stride=stride)(CQT)] == halves
    assert [scale.shape[1] for scale in unet(stem_stride=stride)(CQT)] == [8, 12, 16]


@pytest.mark.parametrize("shape", [(96, 201), (84, 202), (13, 7)])
def test_odd_sizes_go_through(shape):
    assert unet()(torch.randn(1, 2, *shape))[0].shape == (1, 8, *shape)


@pytest.mark.parametrize(("phase", "count"), [("angle", 2), ("cos_sin", 3), ("none", 1)])
def test_channels_are_the_standardised_magnitude_and_the_phase_asked_for(phase, count):
    found = channels(CQT, phase)
    assert found.shape == (2, count, 84, 49)
    assert found[:, 0].mean((1, 2)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert found[:, 0].std((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert found[:, 1:].abs().max() <= 1 + 1e-6 if count > 1 else True
    expected = {"angle": [CQT[:, 1] / torch.pi], "cos_sin": [CQT[:, 1].cos(), CQT[:, 1].sin()], "none": []}[phase]
    for own, other in zip(found[:, 1:].unbind(1), expected, strict=True):
        torch.testing.assert_close(own, other)


def test_a_constant_magnitude_stays_finite():
    assert torch.isfinite(channels(torch.zeros(1, 2, 84, 49), "angle")).all()


def test_without_phase_the_phase_has_no_effect_and_with_it_it_has():
    turned = CQT.clone()
    turned[:, 1] *= -1
    for phase in ("angle", "cos_sin"):
        assert not torch.allclose(unet(phase=phase)(turned)[0], unet(phase=phase)(CQT)[0])
    torch.testing.assert_close(unet(phase="none")(turned), unet(phase="none")(CQT), atol=0, rtol=0)


def test_the_finest_scale_sees_the_coarsest_through_the_decoder():
    """A change far away in time, beyond the reach of fine convolutions, shows there."""
    cqt = torch.randn(1, 2, 84, 201, generator=torch.Generator().manual_seed(1))
    changed = cqt.clone()
    changed[:, 1, :, 40] += 3  # the phase is not standardised over the clip, so it acts where it is alone
    difference = (unet()(changed)[0] - unet()(cqt)[0]).abs().amax((0, 1, 2))
    assert difference[46:].max() > 1e-4  # four convolutions of width 3 would end at 44
    assert difference[120:].max() == 0
