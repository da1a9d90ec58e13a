"""Copy-synthesis by speech and music codecs at low rates, encoded and decoded in memory through FFmpeg (PyAV)."""

import numpy as np

from earmark.audio.codecs import transcode
from earmark.audio.decode import SAMPLE_RATE


def codec_opus(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Opus at 6 to 9 kbit/s: linear prediction and a coded excitation."""
    return transcode(waveform, "libopus", "opus", SAMPLE_RATE, int(rng.integers(6, 10)) * 1000)


def codec_mp3(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """MP3 at 8 or 16 kbit/s: coarse spectral steps and lost bands."""
    return transcode(waveform, "libmp3lame", "mp3float", SAMPLE_RATE, int(rng.choice([8000, 16000])))


def codec_g723(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """G.723.1 at 6.3 kbit/s: telephone band, multipulse excitation."""
    return transcode(waveform, "g723_1", "g723_1", 8000, 6300)
