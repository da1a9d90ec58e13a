"""What happens to recordings on their way: codecs, noise, other rates, rooms. Shapes: T samples at 16 kHz."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import soxr
from scipy.signal import fftconvolve

from earmark.audio.codecs import transcode
from earmark.audio.decode import SAMPLE_RATE
from earmark.params import RobustnessParams

Degrade = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CLEAN = "none"


def degradations(params: RobustnessParams) -> Iterator[tuple[str, str, Degrade]]:
    """(kind, level, function) of everything that params ask for; the first leaves a recording as it is."""
    yield CLEAN, "", lambda waveform, _: waveform
    for name, encoder, decoder, rates in (
        ("mp3", "libmp3lame", "mp3float", params.mp3_kbps),
        ("opus", "libopus", "opus", params.opus_kbps),
    ):
        for kbps in rates:
            yield name, f"{kbps} kbit/s", partial(code, encoder=encoder, decoder=decoder, rate=SAMPLE_RATE, bit_rate=1000 * kbps)
    if params.telephone:
        yield "G.711", "64 kbit/s", partial(code, encoder="pcm_mulaw", decoder="pcm_mulaw", rate=8000, bit_rate=64_000)
    for snr in params.noise_snr_db:
        yield "white noise", f"{snr:g} dB SNR", partial(add_noise, snr_db=snr)
    for rate in params.resample_hz:
        yield "resampling", f"{rate} Hz", partial(through_rate, rate=rate)
    for seconds in params.reverberation_seconds:
        yield "reverberation", f"{seconds:g} s", partial(reverberate, seconds=seconds)


def code(waveform: np.ndarray, rng: np.random.Generator, *, encoder: str, decoder: str, rate: int, bit_rate: int) -> np.ndarray:
    """Through a codec of FFmpeg's and back."""
    return transcode(waveform, encoder, decoder, rate, bit_rate)


def add_noise(waveform: np.ndarray, rng: np.random.Generator, *, snr_db: float) -> np.ndarray:
    """White noise, so many dB below the speech's mean power."""
    power = np.mean(np.square(waveform, dtype=np.float64)) * 10 ** (-snr_db / 10)
    return (waveform + np.sqrt(power) * rng.standard_normal(len(waveform))).astype(np.float32)


def through_rate(waveform: np.ndarray, rng: np.random.Generator, *, rate: int) -> np.ndarray:
    """To another rate and back, (T,) → (T,)."""
    back = soxr.resample(soxr.resample(waveform, SAMPLE_RATE, rate, quality="HQ"), rate, SAMPLE_RATE, quality="HQ")
    return np.resize(back, len(waveform)).astype(np.float32)


def reverberate(waveform: np.ndarray, rng: np.random.Generator, *, seconds: float) -> np.ndarray:
    """A room: its echo, noise under an exponential (Polack, 1988), is as strong as the direct sound and falls by 60 dB in `seconds`."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    echo = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    echo[: SAMPLE_RATE // 400] = 0  # the first reflection comes after 2.5 ms
    response = np.concatenate([[1.0], echo / np.sqrt(np.square(echo).sum())])
    return fftconvolve(waveform, response)[: len(waveform)].astype(np.float32)
