"""Whether two waveforms are one recording: codecs keep the waveform, vocoders build another one with the same spectrum. T, U samples."""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from earmark.audio.decode import SAMPLE_RATE

BANDS_HZ = ((0, 1_000), (1_000, 2_000), (2_000, 4_000), (4_000, 8_000))
FLOOR_DBFS = -70.0  # bands below it hold quantisation noise, which no copy shares
IDENTICAL = 0.997  # correlation of every band: a level, a cut, or another lossless form; 22 dB above all that differs


@dataclass(frozen=True)
class Likeness:
    """Correlation of two waveforms where they overlap, in all and in the band where it is least, and seconds of the lag between them."""

    correlation: float
    weakest_band: float
    lag_seconds: float

    @property
    def identical(self) -> bool:
        """Whether nothing but level and length can differ."""
        return self.weakest_band >= IDENTICAL


def compare(first: np.ndarray, second: np.ndarray) -> Likeness:
    """Likeness of (T,) and (U,) waveforms at 16 kHz, either way up, at the lag that fits best; > 0: `second` begins later."""
    size = next_fast_len(len(first) + len(second), real=True)
    fit = irfft(np.asarray(rfft(first, size)) * np.conj(rfft(second, size)), size)
    best = int(np.argmax(np.abs(fit)))
    lag = best if best < len(first) else best - size
    here, there = max(lag, 0), max(-lag, 0)
    count = min(len(first) - here, len(second) - there)
    one, two = first[here : here + count], second[there : there + count] * np.sign(fit[best])
    return Likeness(_correlate(one, two), _weakest(one, two), lag / SAMPLE_RATE)


def _correlate(one: np.ndarray, two: np.ndarray) -> float:
    power = float(np.dot(one, one)) * float(np.dot(two, two))
    return float(np.dot(one, two)) / power**0.5 if power > 0 else 0.0


def _weakest(one: np.ndarray, two: np.ndarray) -> float:
    """Least correlation of the bands that both fill, by Parseval's theorem."""
    spectra, frequency = (np.asarray(rfft(one)), np.asarray(rfft(two))), rfftfreq(len(one), 1 / SAMPLE_RATE)
    found = []
    for low, high in BANDS_HZ:
        a, b = (spectrum[(frequency >= low) & (frequency < high)] for spectrum in spectra)
        powers = [float(np.square(np.abs(part)).sum()) for part in (a, b)]
        if min(powers) * 2 / len(one) ** 2 > 10 ** (FLOOR_DBFS / 10):
            found.append(float(np.real(np.vdot(a, b))) / (powers[0] * powers[1]) ** 0.5)
    return min(found, default=0.0)
