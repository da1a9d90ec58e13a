"""Copy-synthesis by classical vocoders: a recording is analysed and built again. (T,) float32 at 16 kHz → (T,) or nearly."""

import warnings

import numpy as np
import torch
from scipy.linalg import toeplitz
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import lfilter
from scipy.signal.windows import hann
from torch import Tensor
from torchaudio import functional

from earmark import InputError
from earmark.audio.decode import SAMPLE_RATE
from earmark.copies.spectra import autocorrelate, istft, shape_like, smooth_mel, stft

LOWEST_PITCH, HIGHEST_PITCH = 60.0, 400.0  # Hz
VOICED = 0.45  # normalised autocorrelation above which a frame counts as voiced


def _world():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports pkg_resources, which says that it is old
            import pyworld
    except ImportError:
        raise InputError("the systems world and world_coded need pyworld: pip install 'earmark[demo]', or leave them out") from None
    return pyworld


def world(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """WORLD analysis and synthesis (Morise et al. 2016) at full resolution."""
    engine, sound = _world(), waveform.astype(np.float64)
    period = float(rng.choice([5.0, 8.0]))  # ms
    pitch, times = engine.dio(sound, SAMPLE_RATE, frame_period=period)
    pitch = engine.stonemask(sound, pitch, times, SAMPLE_RATE)
    envelope = engine.cheaptrick(sound, pitch, times, SAMPLE_RATE)
    aperiodicity = engine.d4c(sound, pitch, times, SAMPLE_RATE)
    return engine.synthesize(pitch, envelope, aperiodicity, SAMPLE_RATE, period)


def world_coded(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """WORLD through few coefficients a frame and a smoothed pitch, as statistical parametric synthesis uses it."""
    engine, sound = _world(), waveform.astype(np.float64)
    period, order = 10.0, int(rng.choice([24, 32, 40]))
    pitch, times = engine.dio(sound, SAMPLE_RATE, frame_period=period)
    envelope = engine.cheaptrick(sound, pitch, times, SAMPLE_RATE)
    coded = uniform_filter1d(engine.code_spectral_envelope(envelope, SAMPLE_RATE, order), 3, axis=0)
    size = engine.get_cheaptrick_fft_size(SAMPLE_RATE)
    envelope = engine.decode_spectral_envelope(np.ascontiguousarray(coded), SAMPLE_RATE, size)
    aperiodicity = engine.code_aperiodicity(engine.d4c(sound, pitch, times, SAMPLE_RATE), SAMPLE_RATE)
    aperiodicity = engine.decode_aperiodicity(np.ascontiguousarray(aperiodicity), SAMPLE_RATE, size)
    smoothed = np.where(pitch > 0, uniform_filter1d(np.where(pitch > 0, pitch, pitch[pitch > 0].mean() if pitch.any() else 0), 5), 0)
    return engine.synthesize(smoothed, envelope, aperiodicity, SAMPLE_RATE, period)


def griffin_lim_linear(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Phase thrown away and found again by Griffin-Lim from the linear magnitude."""
    hop = int(rng.choice([128, 256]))
    return find_phases(stft(waveform, 1024, hop).abs(), hop, len(waveform), rng, rounds=int(rng.integers(8, 24)))


def griffin_lim_mel(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Griffin-Lim from a mel spectrogram of 60, 80 or 100 bands."""
    magnitude = smooth_mel(stft(waveform, 1024, 256).abs(), int(rng.choice([60, 80, 100])))
    return find_phases(magnitude, 256, len(waveform), rng, rounds=int(rng.integers(12, 32)))


def find_phases(magnitude: Tensor, hop: int, length: int, rng: np.random.Generator, rounds: int) -> np.ndarray:
    """Fast Griffin-Lim (Perraudin et al. 2013, momentum 0.99) from random phases: (K, F) → (length,)."""
    size = 2 * (len(magnitude) - 1)
    window = torch.hann_window(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        return functional.griffinlim(magnitude, window, size, hop, size, 1.0, rounds, 0.99, length, rand_init=True).numpy()


def lpc_vocoder(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear prediction of order 14 to 20, driven by pulses and noise."""
    hop, order = 160, int(rng.integers(14, 21))
    pitch = find_pitch(waveform, hop)
    filters, gains = _predict(waveform, 480, hop, order)
    sound = excite(pitch, hop, len(pitch) * hop, rng).reshape(-1, hop)
    state = np.zeros(order)
    for frame, (taps, gain) in enumerate(zip(filters, gains, strict=True)):
        sound[frame], state = lfilter([gain], taps, sound[frame], zi=state)
    return sound.reshape(-1)[: len(waveform)]


def _predict(waveform: np.ndarray, size: int, hop: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictor polynomials (F, order+1) and gains (F,) of a waveform's frames by the autocorrelation method."""
    correlation = autocorrelate(waveform, size, hop)[:, : order + 1]
    correlation[:, 0] = correlation[:, 0] * 1.0001 + 1e-9  # keeps silent frames solvable and every filter stable
    matrices = correlation[:, toeplitz(np.arange(order))]
    taps = np.linalg.solve(matrices, correlation[:, 1:, None])[:, :, 0]
    error = correlation[:, 0] - (taps * correlation[:, 1:]).sum(axis=1)
    energy = (hann(size, sym=False) ** 2).sum()
    return np.concatenate([np.ones((len(taps), 1)), -taps], axis=1), np.sqrt(np.maximum(error, 0) / energy)


def phase_vocoder(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretched by a tenth to a half and back by a phase vocoder: magnitudes stay, phases lose their ties."""
    rate = float(rng.uniform(1.1, 1.5))
    rate = rate if rng.random() < 0.5 else 1 / rate
    there = _stretch(waveform, rate, int(len(waveform) / rate))
    return _stretch(there, 1 / rate, len(waveform))


def _stretch(waveform: np.ndarray, rate: float, length: int) -> np.ndarray:
    """Waveform `rate` times as fast at the same pitch: (T,) → (length,)."""
    size, hop = 1024, 256
    advance = torch.linspace(0, torch.pi * hop, size // 2 + 1)[:, None]
    return istft(functional.phase_vocoder(stft(waveform, size, hop), rate, advance), hop, length)


def psola(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pitch-synchronous overlap-add: grains of two periods set again at a smoothed pitch, 3 to 10 % higher or lower."""
    hop = 80
    pitch = np.repeat(find_pitch(waveform, hop), hop)[: len(waveform)]
    marks = _mark(waveform, SAMPLE_RATE / np.where(pitch > 0, pitch, 125.0))
    shift = 1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.1)
    voiced = pitch > 0
    contour = uniform_filter1d(np.where(voiced, pitch, 125.0), 1600) * np.where(voiced, shift, 1.0)
    sound, place = np.zeros(len(waveform) + 2 * SAMPLE_RATE, dtype=np.float32), 0.0
    padded = np.pad(waveform, SAMPLE_RATE)
    while place < len(waveform):
        centre = int(marks[np.abs(marks - place).argmin()])
        half = int(SAMPLE_RATE / (pitch[centre] or 125.0))
        grain = padded[SAMPLE_RATE + centre - half : SAMPLE_RATE + centre + half] * hann(2 * half, sym=False)
        sound[SAMPLE_RATE + int(place) - half : SAMPLE_RATE + int(place) + half] += grain
        place += SAMPLE_RATE / contour[int(place)]
    return sound[SAMPLE_RATE:-SAMPLE_RATE]


def _mark(waveform: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Pitch marks: one a period, drawn to the loudest sample nearby. (T,), periods (T,) → (marks,) ints."""
    marks, place = [], 0
    while place < len(waveform):
        reach = max(int(period[place] / 4), 1)
        start = max(place - reach, 0)
        marks.append(start + int(np.abs(waveform[start : place + reach]).argmax()))
        place = max(marks[-1], place - reach) + int(period[place])
    return np.array(marks)


def sinusoidal(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sinusoids plus noise (Serra and Smith 1990): spectral peaks kept, all between them replaced by noise as loud."""
    size, hop, bands = 1024, 256, int(rng.choice([24, 40]))
    spectrum = stft(waveform, size, hop)
    peak = _find_peaks(spectrum.abs().numpy())
    noise = stft(rng.standard_normal(len(waveform)), size, hop)
    return istft(spectrum * peak + shape_like(noise, spectrum.abs() * ~peak, bands), hop, len(waveform))


def _find_peaks(magnitude: np.ndarray) -> Tensor:
    """Whether a bin is a local maximum, half again as high as its surroundings, or next to one: (K, F) → (K, F) bool."""
    floor = uniform_filter1d(magnitude, 31, axis=0)
    highest = magnitude == maximum_filter1d(magnitude, 3, axis=0)
    return torch.from_numpy(maximum_filter1d(highest & (magnitude > 1.5 * floor), 3, axis=0))


def mel_source_filter(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pulses and noise given the mel envelope of each frame, as source-filter neural vocoders do."""
    size, hop = 1024, 128
    excitation = excite(find_pitch(waveform, hop), hop, len(waveform), rng, breath=float(rng.uniform(0.05, 0.4)))
    shaped = shape_like(stft(excitation, size, hop), stft(waveform, size, hop).abs(), int(rng.choice([40, 80])))
    return istft(shaped, hop, len(waveform))


def find_pitch(waveform: np.ndarray, hop: int) -> np.ndarray:
    """Pitch of each frame in Hz, 0 where unvoiced, by autocorrelation normalised by its window's (Boersma 1993): (T,) → (F,)."""
    size = 640
    shortest, longest = int(SAMPLE_RATE / HIGHEST_PITCH), int(SAMPLE_RATE / LOWEST_PITCH)
    window = hann(size, sym=False)
    own = np.correlate(window, window, "full")[size - 1 :]
    correlation = autocorrelate(waveform, size, hop)
    normal = correlation[:, : longest + 1] / (correlation[:, :1] + 1e-9) * (own[0] / own[: longest + 1])
    lags = normal[:, shortest:].argmax(axis=1) + shortest
    voiced = (normal[np.arange(len(lags)), lags] > VOICED) & (correlation[:, 0] > 1e-4 * correlation[:, 0].max())
    return median_filter(np.where(voiced, SAMPLE_RATE / lags, 0.0), size=5)


def excite(pitch: np.ndarray, hop: int, length: int, rng: np.random.Generator, breath: float = 0.1) -> np.ndarray:
    """Pulses where voiced and noise elsewhere, of about unit power; `breath` is the noise among the pulses: (F,) → (T,)."""
    held = np.repeat(pitch, hop)[:length]
    held = np.pad(held, (0, length - len(held)))
    pulses = np.diff(np.floor(np.cumsum(held) / SAMPLE_RATE), prepend=0.0) > 0
    noise = rng.standard_normal(length)
    height = np.sqrt(SAMPLE_RATE / np.maximum(held, LOWEST_PITCH))
    return np.where(held > 0, pulses * height + breath * noise, noise).astype(np.float32)
