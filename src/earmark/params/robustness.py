"""Settings of the robustness stage."""

from earmark.params.section import Section, setting


class RobustnessParams(Section):
    """A sample of eval, degraded and scored again."""

    max_trials: int = setting(500, "ours", "trials of a corpus that are degraded, both keys alike where there are enough", ge=2)
    level: float = setting(
        0.95, "ours", "that all intervals of a corpus's EERs hold together: each has its share of what is left", gt=0, lt=1
    )
    resamples: int = setting(1000, "ours", "bootstrap resamples of an interval, clustered by speaker and source", ge=100)
    mp3_kbps: tuple[int, ...] = setting((16, 32, 64), "ours", "bit rates of MP3")
    opus_kbps: tuple[int, ...] = setting((8, 16, 32), "ours", "bit rates of Opus")
    telephone: bool = setting(True, "ours", "G.711 μ-law at 8 kHz")
    noise_snr_db: tuple[float, ...] = setting((20, 10, 5), "ours", "signal-to-noise ratios of white noise with speech's slope")
    resample_hz: tuple[int, ...] = setting((8000, 11025), "ours", "rates that audio is brought to and back from")
    reverberation_seconds: tuple[float, ...] = setting((0.3, 0.8), "ours", "times in which a room's echo falls by 60 dB")
