"""Copy-synthesis by classical vocoders: a recording is analysed and built again. (T,) float32 at 16 kHz → (T,) or nearly."""

import warnings

import numpy as np
from scipy.linalg import toeplitz
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter

from earmark import InputError
from earmark.copies.analysis import SAMPLE_RATE, cut_frames, excite, find_pitch, hann, istft, shape_like, smooth_mel, stft


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
    return find_phases(np.abs(stft(waveform, 1024, hop)), 1024, hop, len(waveform), rng, rounds=int(rng.integers(8, 24)))


def griffin_lim_mel(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Griffin-Lim from a mel spectrogram of 60, 80 or 100 bands."""
    magnitude = smooth_mel(np.abs(stft(waveform, 1024, 256)), 1024, int(rng.choice([60, 80, 100])))
    return find_phases(magnitude, 1024, 256, len(waveform), rng, rounds=int(rng.integers(12, 32)))


def find_phases(magnitude: np.ndarray, size: int, hop: int, length: int, rng: np.random.Generator, rounds: int) -> np.ndarray:
    """Fast Griffin-Lim (Perraudin et al. 2013, momentum 0.99) from random phases: (F, K) → (length,)."""
    turn = np.exp(2j * np.pi * rng.random(magnitude.shape)).astype(np.complex64)
    before = np.zeros_like(turn)
    for _ in range(rounds):
        consistent = stft(istft(magnitude * turn, size, hop, length), size, hop)
        ahead = consistent + 0.99 * (consistent - before)
        turn, before = ahead / (np.abs(ahead) + 1e-9), consistent
    return istft(magnitude * turn, size, hop, length)


def lpc_vocoder(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear prediction of order 14 to 20, driven by pulses and noise."""
    hop, order = 160, int(rng.integers(14, 21))
    pitch = find_pitch(waveform, hop)
    filters, gains = _predict(cut_frames(waveform, 480, hop) * hann(480), order)
    sound = excite(pitch, hop, len(pitch) * hop, rng).reshape(-1, hop)
    state = np.zeros(order)
    for frame, (taps, gain) in enumerate(zip(filters, gains, strict=True)):
        sound[frame], state = lfilter([gain], taps, sound[frame], zi=state)
    return sound.reshape(-1)[: len(waveform)]


def _predict(frames: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictor polynomials (F, order+1) and gains (F,) of windowed frames by the autocorrelation method."""
    power = np.abs(np.fft.rfft(frames, n=2 * frames.shape[1], axis=1)) ** 2
    correlation = np.fft.irfft(power, axis=1)[:, : order + 1]
    correlation[:, 0] = correlation[:, 0] * 1.0001 + 1e-9  # keeps silent frames solvable and every filter stable
    matrices = correlation[:, toeplitz(np.arange(order))]
    taps = np.linalg.solve(matrices, correlation[:, 1:, None])[:, :, 0]
    error = correlation[:, 0] - (taps * correlation[:, 1:]).sum(axis=1)
    energy = (hann(frames.shape[1]) ** 2).sum()
    return np.concatenate([np.ones((len(taps), 1)), -taps], axis=1), np.sqrt(np.maximum(error, 0) / energy)


def phase_vocoder(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretched by a tenth to a half and back by a phase vocoder: magnitudes stay, phases lose their ties."""
    size, hop, rate = 1024, 256, float(rng.uniform(1.1, 1.5))
    rate = rate if rng.random() < 0.5 else 1 / rate
    there = istft(_stretch(stft(waveform, size, hop), rate, size, hop), size, hop, int(len(waveform) / rate))
    return istft(_stretch(stft(there, size, hop), 1 / rate, size, hop), size, hop, len(waveform))


def _stretch(spectrum: np.ndarray, rate: float, size: int, hop: int) -> np.ndarray:
    """Read the frames `rate` times as fast, each bin's phase advancing as it did (Flanagan and Golden 1966)."""
    advance = 2 * np.pi * hop * np.arange(size // 2 + 1) / size
    spectrum = np.concatenate([spectrum, spectrum[-1:]])
    steps = np.arange(0, len(spectrum) - 1, rate)
    first, part = steps.astype(int), (steps % 1)[:, None]
    magnitude = (1 - part) * np.abs(spectrum[first]) + part * np.abs(spectrum[first + 1])
    turn = np.angle(spectrum[first + 1]) - np.angle(spectrum[first]) - advance
    turn = turn - 2 * np.pi * np.round(turn / (2 * np.pi)) + advance
    phase = np.angle(spectrum[:1]) + np.concatenate([np.zeros_like(turn[:1]), np.cumsum(turn[:-1], axis=0)])
    return (magnitude * np.exp(1j * phase)).astype(np.complex64)


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
        grain = padded[SAMPLE_RATE + centre - half : SAMPLE_RATE + centre + half] * hann(2 * half)
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
    magnitude = np.abs(spectrum)
    peak = np.zeros(magnitude.shape, bool)
    floor = uniform_filter1d(magnitude, 31, axis=1)
    peak[:, 1:-1] = (magnitude[:, 1:-1] > magnitude[:, :-2]) & (magnitude[:, 1:-1] >= magnitude[:, 2:]) & (magnitude > 1.5 * floor)[:, 1:-1]
    peak[:, 1:-1] |= peak[:, :-2] | peak[:, 2:]
    noise = stft(rng.standard_normal(len(waveform)).astype(np.float32), size, hop)
    return istft(spectrum * peak + shape_like(noise, magnitude * ~peak, size, bands), size, hop, len(waveform))


def mel_source_filter(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pulses and noise given the mel envelope of each frame, as source-filter neural vocoders do."""
    size, hop = 1024, 128
    excitation = excite(find_pitch(waveform, hop), hop, len(waveform), rng, breath=float(rng.uniform(0.05, 0.4)))
    shaped = shape_like(stft(excitation, size, hop), np.abs(stft(waveform, size, hop)), size, int(rng.choice([40, 80])))
    return istft(shaped, size, hop, len(waveform))
