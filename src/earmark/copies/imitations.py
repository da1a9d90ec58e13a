"""Copy-synthesis with the marks that neural vocoders leave, made without networks. (T,) float32 at 16 kHz → (T,)."""

import numpy as np
import torch
from scipy.signal import butter as design
from scipy.signal import firwin, lfilter, sosfiltfilt

from earmark.audio.decode import SAMPLE_RATE
from earmark.copies.spectra import istft, shape_like, smooth_mel, stft


def mel_phase_jitter(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adversarial vocoders from mel spectrograms: harmonics right below, mel resolution and uncertain phases above."""
    spectrum = stft(waveform, 1024, 256)
    frequency = torch.linspace(0, SAMPLE_RATE / 2, len(spectrum))[:, None]
    low, high = sorted(rng.uniform(500, 5000, size=2))
    blur = ((frequency - low) / (high - low + 500)).clamp(0, 1)
    magnitude = torch.lerp(spectrum.abs(), smooth_mel(spectrum.abs(), 80), blur)
    spread = 0.15 + float(rng.uniform(0.8, 1.8)) * blur
    jitter = torch.from_numpy(rng.standard_normal(spectrum.shape, dtype=np.float32)) * spread
    return istft(torch.polar(magnitude, spectrum.angle() + jitter), 256, len(waveform))


def mel_wiener(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Diffusion and flow vocoders: sound out of noise by a gain that knows the mel spectrogram only, hiss left over."""
    spectrum = stft(waveform, 1024, 256)
    envelope = smooth_mel(spectrum.abs(), 80)
    noise = stft(rng.standard_normal(len(waveform)), 1024, 256)
    noise = shape_like(noise, envelope, 20) * 10 ** (-rng.uniform(3, 12) / 20)
    power = smooth_mel(noise.abs(), 20) ** 2
    return istft((spectrum + noise) * (envelope**2 / (envelope**2 + power)), 256, len(waveform))


def upsampling_images(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Transposed convolutions: the upper band is the mirrored lower one that a short interpolation kernel lets through."""
    factor = int(rng.choice([2, 2, 4]))
    cut = SAMPLE_RATE / 2 / factor
    low = sosfiltfilt(design(8, 0.92 * cut, fs=SAMPLE_RATE, output="sos"), waveform)
    stuffed = np.zeros_like(low)
    stuffed[::factor] = low[::factor] * factor
    kernel = np.convolve(np.ones(factor), rng.uniform(0.2, 1.0, size=factor))
    raised = lfilter(kernel / kernel.sum(), 1, stuffed)
    above = design(6, cut, "highpass", fs=SAMPLE_RATE, output="sos")
    image, upper = sosfiltfilt(above, raised), sosfiltfilt(above, waveform)
    level = np.sqrt((upper**2).mean() / ((image**2).mean() + 1e-12))
    return low + (image * level * rng.uniform(0.5, 1.0) + upper * rng.uniform(0.0, 0.4))


def subband_images(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multi-band vocoders: a cosine-modulated filter bank too short to cancel its aliases, each band a little off in level."""
    bands = int(rng.choice([4, 8]))
    taps = 6 * bands + 1
    prototype = firwin(taps, 1 / (2 * bands))
    centre = np.arange(taps) - (taps - 1) / 2
    sound = np.zeros(len(waveform))
    for band in range(bands):
        angle, turn = (2 * band + 1) * np.pi / (2 * bands) * centre, (-1) ** band * np.pi / 4
        part = lfilter(2 * prototype * np.cos(angle + turn), 1, waveform)
        held = np.zeros_like(part)
        held[::bands] = part[::bands] * bands
        sound += lfilter(2 * prototype * np.cos(angle - turn), 1, held) * rng.uniform(0.7, 1.3)
    return sound


def mulaw_sampling(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Autoregressive vocoders: samples drawn from 256 mu-law steps after pre-emphasis, one to three steps uncertain."""
    emphasis = float(rng.choice([0.0, 0.85]))
    flat = lfilter([1, -emphasis], 1, waveform)
    peak = np.abs(flat).max() + 1e-9
    folded = np.sign(flat) * np.log1p(255 * np.abs(flat) / peak) / np.log(256)
    drawn = np.round(folded * 127.5 + rng.uniform(1, 3) * rng.standard_normal(len(flat))).clip(-128, 127) / 127.5
    opened = np.sign(drawn) * (256 ** np.abs(drawn) - 1) / 255 * peak
    return lfilter([1], [1, -emphasis], opened)
