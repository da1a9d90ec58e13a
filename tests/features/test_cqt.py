import pytest
import torch
from nnAudio.features.cqt import CQT1992v2, CQT2010v2

from earmark.features.cqt import Cqt, design, reference
from earmark.params import CqtParams

SETTINGS = {84: CqtParams(), 96: CqtParams(bins=96, fmin_hz=31.25)}


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda bins: f"{bins}bins")
def transform(request) -> Cqt:
    return Cqt(SETTINGS[request.param])


def noise(batch: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(samples))


def test_the_reference_is_nnaudios_transform_of_the_right_version():
    assert isinstance(reference(SETTINGS[84], 16_000), CQT2010v2)
    assert isinstance(reference(SETTINGS[96], 16_000), CQT1992v2)


@pytest.mark.parametrize("bins", SETTINGS)
def test_the_filters_are_nnaudios_to_the_bit(bins):
    own, other = design(SETTINGS[bins], 16_000), reference(SETTINGS[bins], 16_000)
    torch.testing.assert_close(own.kernels, torch.complex(other.cqt_kernels_real, other.cqt_kernels_imag)[:, 0], atol=0, rtol=0)
    torch.testing.assert_close(own.lengths, other.lenghts, atol=0, rtol=0)
    assert own.decimated == isinstance(other, CQT2010v2)
    if own.decimated:
        torch.testing.assert_close(own.lowpass, other.lowpass_filter[0, 0], atol=0, rtol=0)


# 8,229 samples is the longest kernel; 4,001 and 12,345 are odd, 64,600 is a clip
@pytest.mark.parametrize("samples", [800, 4001, 8228, 12_345, 16_000, 64_600])
def test_matrix_products_equal_nnaudio(transform, samples):
    waveform = noise(2, samples)
    expected = reference(transform.params, 16_000)(waveform)
    found = torch.stack(transform.complex(waveform), dim=-1)
    assert found.shape == expected.shape == (2, transform.params.bins, samples // 320 + 1, 2)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    error, size = ((part.square().sum((0, 2, 3))).sqrt() for part in (found - expected, expected))
    assert (error / size).max() < 1e-4  # in every bin


@pytest.mark.parametrize("hop", [160, 64, 320])
@pytest.mark.parametrize(("bins", "per_octave"), [(60, 12), (40, 12), (30, 24), (7 * 6, 6)])
def test_other_settings_equal_nnaudio_too(hop, bins, per_octave):
    params = CqtParams(hop_samples=hop, bins=bins, bins_per_octave=per_octave, fmin_hz=60)
    waveform = noise(1, 9000)
    expected = reference(params, 16_000)(waveform)
    found = torch.stack(Cqt(params).complex(waveform), dim=-1)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("bins", SETTINGS)
def test_the_backend_changes_no_value(bins):
    own, other = (Cqt(SETTINGS[bins].model_copy(update={"backend": backend})) for backend in ("matmul", "nnaudio"))
    assert own.margin_samples == other.margin_samples
    waveform = noise(2, 20_000)
    torch.testing.assert_close(own(waveform)[:, 0], other(waveform)[:, 0], atol=1e-2, rtol=0)
    turn = (own(waveform)[:, 1] - other(waveform)[:, 1]).remainder(2 * torch.pi)
    loud = own(waveform)[:, 0] > own(waveform)[:, 0].median()
    assert torch.minimum(turn, 2 * torch.pi - turn)[loud].max() < 1e-2


def test_the_output_is_the_log_magnitude_and_the_phase(transform):
    waveform = noise(1, 16_000)
    real, imaginary = transform.complex(waveform)
    magnitude, phase = transform(waveform).unbind(1)
    torch.testing.assert_close(magnitude, torch.complex(real, imaginary).abs().clamp_min(1e-5).log())
    torch.testing.assert_close(phase, torch.complex(real, imaginary).angle())


def test_the_magnitude_stops_at_the_floor_and_silence_is_finite():
    params = CqtParams(floor=1e-3)
    found = Cqt(params)(torch.zeros(1, 16_000))
    torch.testing.assert_close(found[:, 0], torch.full_like(found[:, 0], 1e-3).log())
    assert torch.isfinite(found).all()


def test_a_clips_transform_does_not_depend_on_its_batch(transform):
    waveform = noise(3, 16_000)
    for clip, row in zip(waveform, torch.stack(transform.complex(waveform)).unbind(1), strict=True):
        torch.testing.assert_close(torch.stack(transform.complex(clip[None]))[:, 0], row, atol=1e-6, rtol=1e-4)


def test_a_crop_with_its_margin_equals_the_slice_of_the_whole(transform):
    waveform, margin, start, samples = noise(1, 64_000), transform.margin_samples, 40 * 320, 16_000
    whole = torch.stack(transform.complex(waveform))
    crop = torch.stack(transform.complex(waveform[:, start - margin : start + samples + margin]))
    one, other = whole[..., 40 : 40 + 49], crop[..., margin // 320 : margin // 320 + 49]
    assert (one - other).abs().max() < 2e-4 * whole.abs().max()
    bare = torch.stack(transform.complex(waveform[:, start : start + samples]))[..., :49]
    assert (one - bare).abs().max() > 1e-2 * whole.abs().max()  # the margin is needed


def test_the_margin_is_the_one_of_the_design():
    assert Cqt(SETTINGS[84]).margin_samples == 4160


@pytest.mark.parametrize("number", [0, 11, 12, 40, 83])
def test_a_pure_tone_lands_in_its_bin(transform, number):
    hz = transform.params.fmin_hz * 2 ** (number / 12)
    tone = torch.sin(2 * torch.pi * hz * torch.arange(32_000) / 16_000)
    magnitude = transform(tone[None])[0, 0, :, 30:70].mean(-1)
    assert magnitude.argmax() == number


def test_the_transform_brings_nothing_into_a_state_dict(transform):
    assert not transform.state_dict()
