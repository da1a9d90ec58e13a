"""Every number of a run: frozen sections, unknown keys refused, each default with where it comes from.

Provenance: "paper" said by the paper, "port" seen in an independent implementation or the closest relative, "ours" our own choice.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from earmark import InputError

Split = Literal["train", "dev", "eval"]
Adapter = Literal["folder", "asvspoof2019_la", "asvspoof2021_la", "asvspoof2021_df", "in_the_wild", "mlaad", "mlaad_source_tracing"]


def setting(default: Any, provenance: Literal["paper", "port", "ours"], description: str, **bounds: Any) -> Any:
    """A field with its default, provenance and allowed range."""
    return Field(default, description=description, json_schema_extra={"provenance": provenance}, **bounds)


class Section(BaseModel):
    """Frozen group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class CorpusParams(Section):
    """One corpus of a run."""

    adapter: Adapter = setting("folder", "ours", "reader of the corpus's own layout; folder: any recordings with protocol.tsv")
    root: str = setting("data", "ours", "folder of the corpus, relative to the working directory")
    splits: tuple[Split, ...] = setting(("train", "dev", "eval"), "ours", "splits this corpus serves", min_length=1)
    name: str | None = setting(None, "ours", "name in tables; by default that of the adapter, or of the folder")


class TrialsParams(Section):
    """The table of trials."""

    seed: int = setting(688, "ours", "seed of splits and copies; the run's own `seed` leaves the data as they are", ge=0)
    dev_fraction: float = setting(0.2, "ours", "share of groups put in dev where a corpus has no split", ge=0, lt=1)
    eval_fraction: float = setting(0.3, "ours", "share of groups put in eval where a corpus has no split", ge=0, lt=1)
    max_unreadable: float = setting(0.01, "ours", "share of a corpus that may be missing or unreadable before a run stops", ge=0, le=1)


class CopySynthesisParams(Section):
    """Spoofs made from the bona fide recordings by classical systems: those of corpora/copysynthesis.py."""

    known: tuple[str, ...] = setting((), "ours", "systems applied to every split below")
    unseen: tuple[str, ...] = setting((), "ours", "systems applied to dev and eval alone")
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


class EncoderParams(Section):
    """Waveform encoder: wav2vec 2.0."""

    pretrained: str | None = setting(None, "paper", "hub id or folder of pretrained weights; null: random weights of the sizes below")
    revision: str | None = setting(None, "ours", "revision on the hub")
    taps: tuple[int, int, int] = setting(
        (2, 4, 6), "port", "transformer layers read as shallow, medium and deep; above the last none is built"
    )
    hidden: int = setting(64, "ours", "width of a random encoder", ge=16, multiple_of=16)
    heads: int = setting(4, "ours", "attention heads of a random encoder", ge=1)
    conv_width: int = setting(32, "ours", "channels of a random encoder's seven convolutions", ge=4)
    dropout: float = setting(0.1, "port", "dropout inside the encoder while it is trained", ge=0, lt=1)

    @model_validator(mode="after")
    def _taps_rise(self):
        if not 0 < self.taps[0] < self.taps[1] < self.taps[2]:
            raise ValueError(f"taps must rise from at least 1, not {self.taps}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} must divide by heads {self.heads}")
        return self


class SpectrogramParams(Section):
    """Spectrogram encoder: light U-Net on the CQT."""

    phase: Literal["angle", "cos_sin", "none"] = setting(
        "angle", "paper", "phase channel: phase/π, its cosine and sine, or none (ablation)"
    )
    widths: tuple[int, int, int] = setting((64, 128, 256), "port", "channels at the three scales")
    stem_stride: Literal[1, 2, 4] = setting(1, "ours", "stride of the stem over time and frequency")
    bands: int = setting(1, "ours", "frequency bands kept when the frequency axis is pooled; 1: mean over all", ge=1, le=16)


class WaveSpecParams(Section):
    """Detector network."""

    views: Literal["both", "waveform", "cqt"] = setting("both", "paper", "which views enter; one alone is an ablation")
    view_dropout: float = setting(0.0, "ours", "share of training clips whose waveform view is hidden from the fusion", ge=0, lt=1)
    encoder: EncoderParams = EncoderParams()
    spectrogram: SpectrogramParams = SpectrogramParams()
    fusion_width: int = setting(128, "ours", "channels D of the fused features", ge=16)
    reduction: int = setting(16, "port", "channel reduction r inside the fusion's attention", ge=1)
    head: Literal["1d", "2d"] = setting("1d", "port", "ResNet-18 over time, or over time and channels as an image")
    head_widths: tuple[int, int, int, int] = setting(
        (64, 128, 256, 512), "paper", "channels of ResNet-18's stages; the last is the embedding"
    )
    dropout: float = setting(0.0, "ours", "dropout of the embedding before the two logits", ge=0, lt=1)


class ConformerParams(Section):
    """Tracer with a Conformer back end (Rosello et al., Interspeech 2023)."""

    kind: Literal["conformer"] = setting("conformer", "paper", "back end")
    width: int = setting(144, "port", "model width, and the embedding's", ge=16, multiple_of=8)
    layers: int = setting(4, "port", "blocks", ge=1)
    heads: int = setting(4, "port", "attention heads", ge=1)
    kernel: int = setting(31, "port", "frames of the depthwise convolution, odd", ge=3)
    dropout: float = setting(0.1, "ours", "dropout inside the blocks", ge=0, lt=1)
    pooling: Literal["class_token", "mean", "attentive_statistics"] = setting("class_token", "port", "how frames become one embedding")
    positions: bool = setting(True, "ours", "add sinusoidal positions: torchaudio's blocks have no relative ones")

    @model_validator(mode="after")
    def _kernel_odd(self):
        if not self.kernel % 2:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must divide by heads {self.heads}")
        return self


class AasistParams(Section):
    """Tracer with AASIST's graph-attention back end (Jung et al., ICASSP 2022)."""

    kind: Literal["refd"] = setting("refd", "paper", "back end")
    width: int = setting(128, "port", "channels that features are projected to", ge=16)
    encoder_widths: tuple[int, ...] = setting(
        (32, 32, 64, 64, 64, 64), "port", "channels of the residual blocks; a pooling follows where they change", min_length=1
    )
    graph_widths: tuple[int, int] = setting((64, 32), "port", "channels of graph nodes; the embedding has five times the second")
    pool_shares: tuple[float, float, float, float] = setting(
        (0.5, 0.7, 0.5, 0.5), "port", "share of nodes kept: spectral, temporal, then both inside a branch"
    )
    temperatures: tuple[float, float, float, float] = setting((2, 2, 100, 100), "port", "attention temperatures in the same order")
    dropout: float = setting(0.5, "port", "dropout of the embedding", ge=0, lt=1)


class LossParams(Section):
    """Detector losses."""

    class_weights: tuple[float, float] | Literal["inverse_frequency"] = setting(
        "inverse_frequency", "port", "cross-entropy weights of (spoof, bona fide); the port's .1, .9 suit ASVspoof2019 LA"
    )
    single_center: float = setting(0.5, "port", "λ, weight of the single-center loss", ge=0)
    margin: float = setting(0.3, "port", "m of the single-center loss; the margin is m·√D", ge=0)


class AugmentationParams(Section):
    """RawBoost (Tak et al., ICASSP 2022) and cheaper disturbances of training audio."""

    rawboost: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8] = setting(0, "port", "algorithm; 0 off, 3 suits DF, 5 suits LA")
    probability: float = setting(1.0, "ours", "share of training clips that RawBoost disturbs", ge=0, le=1)
    bands: int = setting(5, "port", "notch filters N_bands", ge=1)
    frequency_hz: tuple[float, float] = setting((20, 8000), "port", "range of notch centres")
    bandwidth_hz: tuple[float, float] = setting((100, 1000), "port", "range of notch widths")
    coefficients: tuple[int, int] = setting((10, 100), "port", "range of filter lengths")
    gain_db: tuple[float, float] = setting((0, 0), "port", "range of filter gains")
    bias_db: tuple[float, float] = setting((5, 20), "port", "range by which each higher order of the non-linearity is weaker")
    orders: int = setting(5, "port", "orders N_f of the non-linearity", ge=1)
    impulse_percent: float = setting(10, "port", "P, upper share of samples hit by impulsive noise", ge=0, le=100)
    impulse_gain: float = setting(2, "port", "g_sd of the impulsive noise", ge=0)
    snr_db: tuple[float, float] = setting((10, 40), "port", "range of the stationary noise's signal-to-noise ratio")
    spectrogram_bands: int = setting(0, "ours", "widest band of CQT bins blanked in training; 0 off", ge=0)


class TrainingParams(Section):
    """The loop."""

    epochs: int = setting(50, "ours", "epochs; dev is scored after each", ge=1)
    repeats: int = setting(1, "ours", "passes over the train split an epoch", ge=1)
    batch_size: int = setting(14, "port", "utterances an optimiser step, over all processes", ge=2)
    accumulation: int = setting(1, "ours", "backward passes an optimiser step", ge=1)
    lr: float = setting(1e-4, "ours", "learning rate of new layers, and of all with a random encoder", gt=0)
    encoder_lr: float = setting(1e-6, "port", "learning rate of a pretrained encoder", ge=0)
    weight_decay: float = setting(1e-4, "port", "Adam's weight decay", ge=0)
    warmup_steps: int = setting(0, "ours", "steps of linear warm-up before the cosine", ge=0)
    halve_epochs: int = setting(0, "ours", "halve the learning rate every so many epochs instead of the cosine; 0: cosine", ge=0)
    frozen_epochs: int = setting(1, "port", "first epochs in which a pretrained encoder is frozen", ge=0)
    patience: int = setting(10, "ours", "epochs without a better dev EER before training stops", ge=1)
    clip_norm: float = setting(1.0, "ours", "largest gradient norm", gt=0)
    balance: bool = setting(False, "ours", "draw bona fide and spoof equally often, made spoofs and others by `made_share`")
    made_share: float = setting(0.5, "ours", "share of copy-synthesised clips among spoofs drawn when `balance` is on", ge=0, le=1)
    checkpoint_minutes: float = setting(10, "ours", "minutes between checkpoints inside an epoch", gt=0)
    loader_workers: int = setting(0, "ours", "processes that read shards; 0: the training process", ge=0)


class EmphasisParams(Section):
    """Real Emphasis, the tracer's first stage: bona fide against spoof."""

    enabled: bool = setting(True, "paper", "start from its weights; off is an ablation")
    oc_softmax: float = setting(1.0, "ours", "weight of OC-softmax beside binary cross-entropy", ge=0)
    r_real: float = setting(0.9, "port", "cosine that bona fide must exceed", ge=-1, le=1)
    r_fake: float = setting(0.2, "port", "cosine that spoofs must stay below", ge=-1, le=1)
    alpha: float = setting(20.0, "port", "sharpness of OC-softmax", gt=0)


class DispersionParams(Section):
    """Fake Dispersion, the tracer's second stage: sources apart."""

    regmixup: float = setting(1.0, "port", "η, weight of the mixed batch's cross-entropy; 0: off", ge=0)
    regmixup_alpha: float = setting(0.5, "port", "α of the Beta distribution that mixes; the RegMixup paper favours about 10", gt=0)
    n_pair: float = setting(1.0, "ours", "λ, weight of the multi-class N-pair loss; 0: off", ge=0)
    n_pair_penalty: float = setting(0.002, "port", "L2 penalty on embeddings inside the N-pair loss", ge=0)
    n_pair_sources: int = setting(64, "ours", "most sources N with a pair in a batch", ge=2)


MemberParams = Annotated[AasistParams | ConformerParams, Field(discriminator="kind")]


class TracerParams(Section):
    """Source tracing on the precomputed CQT."""

    phase: Literal["angle", "cos_sin", "none"] = setting("none", "ours", "phase channels beside the CQT's log-magnitude")
    members: dict[str, MemberParams] = setting(
        {"refd": AasistParams(), "conformer": ConformerParams()}, "paper", "systems of the ensemble; one entry adds one", min_length=1
    )
    embedding_batch: int = setting(32, "ours", "windows embedded at once", ge=1)
    made_sources: bool = setting(False, "ours", "copies count as sources: for the demo, which has no others")
    emphasis: EmphasisParams = EmphasisParams()
    dispersion: DispersionParams = DispersionParams()
    training: TrainingParams = setting(
        TrainingParams(epochs=30, batch_size=128, lr=5e-4, weight_decay=5e-4, halve_epochs=10, patience=30),
        "port",
        "the loop, for both stages",
    )


class ScoringParams(Section):
    """Scoring of whole utterances in windows of clip length."""

    batch_size: int = setting(32, "ours", "windows scored at once", ge=1)


class EvaluationParams(Section):
    """Tables and intervals."""

    resamples: int = setting(1000, "ours", "bootstrap resamples, clustered by speaker and source", ge=100)
    asv_scores: dict[str, str] = setting({}, "ours", "organisers' speaker verification scores by corpus name: adds min t-DCF")
    min_trials: int = setting(20, "ours", "trials of either key below which a row shows counts alone", ge=1)


class ComputeParams(Section):
    """Where and how numbers are computed."""

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "ours", "cuda fails clearly when no GPU is seen; auto takes one if there is one"
    )
    threads: int = setting(2, "ours", "CPU threads; another number may change the last bits of a result", ge=1)
    precision: Literal["float32", "bfloat16"] = setting("float32", "ours", "autocast of forward passes")


class Params(Section):
    """All settings of a run; each stage gets the sections it uses, no more."""

    seed: int = setting(688, "port", "seed of first weights, batches, augmentation and bootstrap", ge=0)
    corpora: tuple[CorpusParams, ...] = setting((CorpusParams(),), "ours", "corpora of the run and the splits each serves", min_length=1)
    trials: TrialsParams = TrialsParams()
    copysynthesis: CopySynthesisParams = CopySynthesisParams()
    audio: AudioParams = AudioParams()
    cqt: CqtParams = CqtParams()
    sharding: ShardingParams = ShardingParams()
    wavespec: WaveSpecParams = WaveSpecParams()
    loss: LossParams = LossParams()
    augmentation: AugmentationParams = AugmentationParams()
    training: TrainingParams = TrainingParams()
    scoring: ScoringParams = ScoringParams()
    evaluation: EvaluationParams = EvaluationParams()
    compute: ComputeParams = ComputeParams()


def load(path: Path, overlays: list[Path] | None = None, assignments: list[str] | None = None) -> Params:
    """Read params.yaml, lay presets and `key.path=value` assignments over it, check all.

    Errors: InputError naming the file, or the key's path and what is allowed there.
    """
    content = _read_yaml(path)
    for overlay in overlays or []:
        _merge(content, _read_yaml(overlay))
    for assignment in assignments or []:
        _assign(content, assignment)
    return parse(content, str(path))


def parse(content: dict[str, Any], where: str) -> Params:
    """Check a nested dict. Errors: InputError listing every wrong key with its path and what is allowed."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_explain(problem, where) for problem in error.errors())) from error


def dump(params: Section) -> str:
    """YAML text of a section, every value spelled out."""
    return yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def describe(section: Section, prefix: str = "") -> Iterator[tuple[str, Any, str, str]]:
    """Rows (key path, value, provenance, description) of every setting."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from describe(value, f"{prefix}{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for index, item in enumerate(value):
                yield from describe(item, f"{prefix}{name}.{index}.")
        else:
            extra = field.json_schema_extra
            provenance = str(extra["provenance"]) if isinstance(extra, dict) else ""
            yield f"{prefix}{name}", value, provenance, field.description or ""


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `earmark params` writes one") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings")
    return content


def _merge(below: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


def _assign(content: dict[str, Any], assignment: str) -> None:
    path, separator, value = assignment.partition("=")
    if not separator:
        raise InputError(f"--set {assignment}: write key.path=value")
    try:
        overlay: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {assignment}: not YAML: {' '.join(str(error).split())}") from error
    for key in reversed(path.split(".")):
        overlay = {key: overlay}
    _merge(content, overlay)


def _explain(problem: Any, where: str) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where}: {path}: unknown key; `earmark params` lists the known ones"
    return f"{where}: {path}: {problem['msg']}, not {problem['input']!r}"
