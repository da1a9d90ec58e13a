import numpy as np
import pytest
from scipy.signal import welch

from earmark.audio.degrade import CLEAN, degradations
from earmark.params import RobustnessParams

RATE = 16_000
SPEECHLIKE = np.convolve(np.random.default_rng(0).normal(size=3 * RATE), np.ones(3) / 3, "same").astype(np.float32) * 0.1
FOUND = {(kind, level): function for kind, level, function in degradations(RobustnessParams())}


def degrade(kind: str, level: str, seed: int = 1) -> np.ndarray:
    return FOUND[kind, level](SPEECHLIKE, np.random.default_rng(seed))


def above(waveform: np.ndarray, hz: float) -> float:
    """Share of the power above a frequency."""
    frequency, power = welch(waveform, RATE)
    return float(power[frequency > hz].sum() / power.sum())


@pytest.mark.parametrize("case", FOUND)
def test_each_keeps_length_and_form_and_is_the_same_twice(case):
    one, two = degrade(*case), degrade(*case)
    assert one.shape == SPEECHLIKE.shape
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)
    assert (case[0] == CLEAN) == np.array_equal(one, SPEECHLIKE)


def test_the_first_is_the_clean_one():
    assert next(iter(FOUND)) == (CLEAN, "")


@pytest.mark.parametrize(("kind", "levels"), [("mp3", (64, 32, 16)), ("opus", (32, 16, 8))])
def test_fewer_bits_leave_less(kind, levels):
    kept = [np.corrcoef(SPEECHLIKE, degrade(kind, f"{kbps} kbit/s"))[0, 1] for kbps in levels]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 0.9


@pytest.mark.parametrize("snr", [20, 10, 5])
def test_noise_is_as_loud_as_said(snr):
    noise = degrade("white noise", f"{snr} dB SNR") - SPEECHLIKE
    assert 10 * np.log10(np.mean(SPEECHLIKE**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.1)


@pytest.mark.parametrize("case", [("G.711", "64 kbit/s"), ("resampling", "8000 Hz")])
def test_the_telephone_band_ends_at_4_khz(case):
    assert above(SPEECHLIKE, 4_200) > 0.05
    assert above(degrade(*case), 4_200) < 0.002


@pytest.mark.parametrize("seconds", [0.3, 0.8])
def test_a_room_s_echo_dies_in_its_time(seconds):
    click = np.zeros(2 * RATE, np.float32)
    click[100] = 1
    echo = FOUND["reverberation", f"{seconds:g} s"](click, np.random.default_rng(0))[100:]
    assert echo[0] == pytest.approx(1, abs=1e-4)
    assert np.sum(echo[1:] ** 2) == pytest.approx(1, abs=0.01)
    left = np.cumsum(echo[:0:-1] ** 2)[::-1]
    assert 10 * np.log10(left[int(seconds * RATE / 2)] / left[0]) == pytest.approx(-30, abs=3)


def test_params_choose_what_is_done():
    none = RobustnessParams(mp3_kbps=(), opus_kbps=(48,), telephone=False, noise_snr_db=(), resample_hz=(), reverberation_seconds=())
    assert [(kind, level) for kind, level, _ in degradations(none)] == [(CLEAN, ""), ("opus", "48 kbit/s")]
