import pytest
import torch

from earmark.audio import rawboost as augment
from earmark.params import AugmentationParams

SAMPLES = 16_000
ALGORITHMS = range(1, 9)


def speech(batch: int = 4, samples: int = SAMPLES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(samples) / 16_000
    pitch = torch.tensor([110.0, 140, 180, 230])[:batch, None]
    voice = sum(torch.sin(2 * torch.pi * pitch * order * time) / order for order in range(1, 12))
    return 0.1 * (voice + 0.1 * torch.randn(batch, samples, generator=generator))


def disturb(waveform: torch.Tensor, seed: int = 0, **settings) -> torch.Tensor:
    own = {name: settings.pop(name) for name in list(settings) if name not in AugmentationParams.model_fields}
    return augment.rawboost(waveform, AugmentationParams(**settings), torch.Generator().manual_seed(seed), augment.RawBoost(**own))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("samples", [SAMPLES, 9_999])
def test_every_algorithm_changes_the_waveform_and_keeps_it_finite_and_as_long(algorithm, samples):
    clean = speech(samples=samples)
    noisy = disturb(clean, rawboost=algorithm)
    assert noisy.shape == clean.shape
    assert torch.isfinite(noisy).all()
    shape = noisy / noisy.norm(dim=-1, keepdim=True) - clean / clean.norm(dim=-1, keepdim=True)
    assert (shape.norm(dim=-1) > 1e-3).all()  # more than the level is another


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_seed_gives_the_same_disturbance_twice_and_another_seed_another(algorithm):
    clean = speech()
    assert torch.equal(disturb(clean, 1, rawboost=algorithm), disturb(clean, 1, rawboost=algorithm))
    assert not torch.equal(disturb(clean, 1, rawboost=algorithm), disturb(clean, 2, rawboost=algorithm))


def test_clips_of_a_batch_are_disturbed_apart():
    noisy = disturb(speech(1).expand(3, -1), rawboost=4)
    assert not torch.allclose(noisy[0], noisy[1])
    assert not torch.allclose(noisy[1], noisy[2])


@pytest.mark.parametrize("algorithm", range(9))
def test_off_and_probability_0_change_nothing(algorithm):
    clean = speech()
    settings = {"probability": 0.0} if algorithm else {}
    assert torch.equal(disturb(clean, rawboost=algorithm, **settings), clean)


def test_a_partial_probability_disturbs_that_share_of_clips():
    clean = speech(1, 2000).expand(400, -1)
    changed = (disturb(clean, rawboost=3, probability=0.3) != clean).any(-1)
    assert 0.2 < changed.float().mean() < 0.4


@pytest.mark.parametrize("silence", [0.0, 1e-12])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_silence_stays_finite(algorithm, silence):
    assert torch.isfinite(disturb(torch.full((2, 8000), silence), rawboost=algorithm)).all()


def test_the_stationary_noise_has_the_ratio_asked_for():
    clean = speech(1).expand(64, -1)
    noise = disturb(clean, rawboost=3, snr_db=(12, 25)) - clean
    ratio = 20 * torch.log10(clean.norm(dim=-1) / noise.norm(dim=-1))
    assert ratio.min() > 11.99
    assert ratio.max() < 25.01
    assert ratio.max() - ratio.min() > 8  # the range is used


def test_the_stationary_noise_lacks_the_notched_band():
    clean = speech(1).expand(16, -1)
    settings = {"frequency_hz": (2000, 2000), "bandwidth_hz": (800, 800), "coefficients": (90, 100), "bands": 3}
    noise = disturb(clean, rawboost=3, **settings) - clean
    power = torch.fft.rfft(noise).abs().square().mean(0)
    assert power[1900:2100].mean() < 0.01 * power[4000:6000].mean()


def test_impulses_touch_at_most_their_share_of_samples():
    clean = speech(1).expand(64, -1)
    noisy = disturb(clean, rawboost=2, impulse_percent=8)
    # what is untouched was only scaled, by the factor that most samples share
    factor = (noisy / clean).median(dim=-1, keepdim=True).values
    share = ((noisy / clean - factor).abs() > 1e-4 * factor).float().mean(-1)
    assert share.max() < 0.09
    assert share.max() > 0.05
    assert share.min() < 0.03


def test_impulses_grow_with_their_gain():
    clean = speech()
    weak, strong = (torch.nn.functional.cosine_similarity(disturb(clean, rawboost=2, impulse_gain=gain), clean) for gain in (0.1, 4))
    assert (strong < weak).all()
    assert torch.equal(disturb(clean, rawboost=2, impulse_gain=0), augment._peak(clean))


def response(**settings) -> torch.Tensor:
    """(B, 4097) response at 16 kHz of filters drawn from a seed; bin k lies at k·16000/8192 Hz."""
    numbers = augment.RawBoost(**settings)
    return augment._notch_response(8, 8192, numbers.gain_db, numbers, torch.Generator().manual_seed(0))


def test_a_notch_filter_takes_away_its_band_and_leaves_the_rest():
    found = response(bands=1, frequency_hz=(3000, 3000), bandwidth_hz=(1000, 1000), coefficients=(99, 100)).abs()
    hz = torch.arange(4097) * 16_000 / 8192
    stopped, passed = (hz > 2800) & (hz < 3200), (hz < 2000) | (hz > 4000)
    assert found[:, stopped].max() < 0.1
    assert found[:, passed].min() > 0.9


def test_more_bands_take_away_more():
    assert response(bands=8).abs().mean() < response(bands=1).abs().mean()


def test_the_gain_is_that_of_the_peak():
    assert response(gain_db=(-6, -6)).abs().amax(-1).log10().mul(20).tolist() == pytest.approx([-6] * 8, abs=1e-4)


@pytest.mark.parametrize("algorithm", [1, 3, 4, 8])
def test_the_filters_shift_nothing(algorithm):
    clean = 0.05 * torch.randn(4, SAMPLES, generator=torch.Generator().manual_seed(2))  # the level that clips have: -26 dBFS
    noisy = disturb(clean, rawboost=algorithm)
    correlation = torch.fft.irfft(torch.fft.rfft(noisy) * torch.fft.rfft(clean).conj())
    assert correlation.argmax(-1).tolist() == [0] * 4


def test_the_linear_filter_alone_is_the_product_of_responses():
    """One order, no bias: the output is the filtered waveform, without its mean, peak-normalised."""
    numbers = augment.RawBoost(orders=1)
    clean = torch.zeros(1, SAMPLES)
    clean[0, 8000] = 1
    size = augment._fft_size(SAMPLES, numbers)
    expected = torch.fft.irfft(augment._notch_response(1, size, numbers.gain_db, numbers, torch.Generator().manual_seed(0)), size)
    expected = expected.roll(8000, -1)[:, :SAMPLES]
    expected = augment._peak(expected - expected.mean())
    torch.testing.assert_close(disturb(clean, rawboost=1, orders=1), expected, atol=1e-5, rtol=0)


def test_the_bias_is_taken_off_once_for_all_higher_orders():
    """As the published code has it: cubes and fifth powers are as much weaker as squares, not more."""
    loud = 0.9 * torch.sin(2 * torch.pi * 500 * torch.arange(SAMPLES) / 16_000)[None].expand(64, -1)

    def third_harmonic(bias: float) -> float:
        noisy = disturb(loud, rawboost=1, orders=3, bias_db=(bias, bias), frequency_hz=(7000, 7000), bandwidth_hz=(100, 100))
        spectrum = torch.fft.rfft(noisy).abs().mean(0)
        return float(20 * torch.log10(spectrum[1500] / spectrum[500]))

    assert third_harmonic(20) - third_harmonic(40) == pytest.approx(20, abs=2)


def test_higher_orders_add_harmonics_and_a_bias_weakens_them():
    clean = (0.5 * torch.sin(2 * torch.pi * 500 * torch.arange(SAMPLES) / 16_000))[None].expand(16, -1)

    def second_harmonic(**settings) -> float:
        power = torch.fft.rfft(disturb(clean, rawboost=1, frequency_hz=(7000, 7000), **settings)).abs()
        return (power[:, 1000] / power[:, 500]).mean().item()

    assert second_harmonic(orders=1) < 0.01
    assert second_harmonic(orders=2, bias_db=(30, 30)) < second_harmonic(orders=2, bias_db=(5, 5))


def test_convolutive_and_impulsive_noise_leave_the_peak_at_1():
    for algorithm in (1, 2, 5, 8):
        assert disturb(speech(), rawboost=algorithm).abs().amax(-1).tolist() == pytest.approx([1] * 4, abs=1e-5)
