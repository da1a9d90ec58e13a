"""Settings of the data: corpora, trials, audio, features."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from earmark.params.section import Section, setting

Split = Literal["train", "dev", "eval"]
CopySystem = Literal[
    "world", "world_coded", "griffin_lim_linear", "griffin_lim_mel", "lpc_vocoder", "phase_vocoder", "psola", "sinusoidal",
    "mel_source_filter", "mel_phase_jitter", "mel_wiener", "upsampling_images", "subband_images", "mulaw_sampling",
    "codec_opus", "codec_mp3", "codec_g723",
]  # fmt: skip
Adapter = Literal["folder", "asvspoof2019_la", "asvspoof2021_la", "asvspoof2021_df", "in_the_wild", "mlaad", "mlaad_source_tracing"]


class CorpusParams(Section):
    """One corpus of a run."""

    adapter: Adapter = setting("folder", "ours", "reader of the corpus's own layout; folder: any recordings with protocol.tsv")
    root: str = setting("data", "ours", "folder of the corpus, relative to the working directory")
    splits: tuple[Split, ...] = setting(("train", "dev", "eval"), "ours", "splits this corpus serves", min_length=1)
    name: str | None = setting(None, "ours", "name in tables; by default that of the adapter, or of the folder")
    licence: str | None = setting(
        None, "ours", "SPDX name of its licence, which goes with every model trained on it; null: what is known of the adapter's corpus"
    )

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name or (Path(self.root).resolve().name if self.adapter == "folder" else self.adapter)


class TrialsParams(Section):
    """The table of trials."""

    seed: int = setting(688, "ours", "seed of splits and copies; the run's own `seed` leaves the data as they are", ge=0)
    dev_fraction: float = setting(0.2, "ours", "share of groups put in dev where a corpus has no split", ge=0, lt=1)
    eval_fraction: float = setting(0.3, "ours", "share of groups put in eval where a corpus has no split", ge=0, lt=1)
    max_unreadable: float = setting(0.01, "ours", "share of a corpus that may be missing or unreadable before a run stops", ge=0, le=1)


class CopySynthesisParams(Section):
    """Spoofs made from the bona fide recordings by classical systems."""

    known: tuple[CopySystem, ...] = setting((), "ours", "systems applied to every split below")
    unseen: tuple[CopySystem, ...] = setting((), "ours", "systems applied to dev and eval alone")
    splits: tuple[Split, ...] = setting(("train",), "ours", "splits whose recordings are copy-synthesised", min_length=1)
    per_utterance: int | None = setting(None, "ours", "known systems a recording, drawn in a balanced rotation; null: all", ge=1)


class AudioParams(Section):
    """What a network hears."""

    level_dbfs: float = setting(-26.0, "ours", "RMS level every utterance is brought to", ge=-60, le=-10)
    clip_samples: int = setting(64_600, "port", "samples a network sees at once at 16 kHz (4.04 s)", ge=4_000, le=1_600_000)


class CqtParams(Section):
    """Constant-Q transform."""

    hop_samples: int = setting(320, "port", "hop: the frame rate of wav2vec 2.0, 50 Hz", ge=1, le=320)
    bins: int = setting(84, "port", "frequency bins; 96 with fmin_hz 31.25 reaches 7,551 Hz", ge=12, le=120)
    bins_per_octave: int = setting(12, "port", "bins an octave", ge=6, le=48)
    fmin_hz: float = setting(32.70, "port", "frequency of the lowest bin", ge=20, le=1000)
    floor: float = setting(1e-5, "ours", "magnitude below which the logarithm is cut", gt=0, lt=1e-2)
    backend: Literal["matmul", "nnaudio"] = setting("matmul", "ours", "same transform: matrix products (fast), or nnAudio's convolutions")

    @model_validator(mode="after")
    def _below_nyquist(self):
        top = self.fmin_hz * 2 ** ((self.bins - 1) / self.bins_per_octave)
        if top > 8_000:
            raise ValueError(f"the top bin lies at {top:.0f} Hz, above 8,000 Hz: fewer bins or a lower fmin_hz")
        return self


class ShardingParams(Section):
    """Shards of waveforms and CQTs."""

    shard_seconds: float = setting(1800, "ours", "speech in a shard; an hour is about 115 MB of waveform and 60 to 70 MB of CQT", ge=1)
