"""Settings of the detector."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from earmark.params.backends import AasistParams, ConformerParams, GmmParams, ResNetParams, present
from earmark.params.section import Section, setting
from earmark.params.training import TrainingParams

XLS_R = "facebook/wav2vec2-xls-r-300m"


class Wav2Vec2Params(Section):
    """A wav2vec 2.0: pretrained weights, or random ones of the sizes given."""

    pretrained: str | None = setting(XLS_R, "paper", "hub id or folder of pretrained weights; null: random weights of the sizes below")
    revision: str | None = setting(None, "ours", "revision on the hub")
    hidden: int = setting(64, "ours", "width of a random encoder", ge=16, multiple_of=16)
    heads: int = setting(4, "ours", "attention heads of a random encoder", ge=1)
    conv_width: int = setting(32, "ours", "channels of a random encoder's seven convolutions", ge=4)

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} must divide by heads {self.heads}")
        return self


class EncoderParams(Wav2Vec2Params):
    """The detector's waveform encoder."""

    taps: tuple[int, int, int] = setting(
        (8, 16, 24), "port", "transformer layers read as shallow, medium and deep; above the last none is built"
    )
    dropout: float = setting(0.1, "port", "dropout inside the encoder while it is trained", ge=0, lt=1)

    @model_validator(mode="after")
    def _taps_rise(self):
        if not 0 < self.taps[0] < self.taps[1] < self.taps[2]:
            raise ValueError(f"taps must rise from at least 1, not {self.taps}")
        return self


class SpectrogramParams(Section):
    """Spectrogram encoder: light U-Net on the CQT, or on linear bands."""

    scale: Literal["cqt", "linear"] = setting(
        "cqt", "paper", "frequencies of the view: the stored CQT's, or 80 linear bands up to 8 kHz every 10 ms, made of the waveform"
    )
    phase: Literal["angle", "cos_sin", "none"] = setting(
        "angle", "paper", "phase channel: phase/π, its cosine and sine, or none (ablation)"
    )
    widths: tuple[int, int, int] = setting((64, 128, 256), "port", "channels at the three scales")
    stem_stride: Literal[1, 2, 4] = setting(1, "ours", "stride of the stem over time and frequency")
    bands: int = setting(1, "ours", "frequency bands kept when the frequency axis is pooled; 1: mean over all", ge=1, le=16)

    @model_validator(mode="after")
    def _phase_is_of_the_cqt(self):
        if self.scale == "linear" and self.phase != "none":
            raise ValueError(f"phase {self.phase} is the CQT's: with scale linear it must be none")
        return self


class WaveSpecParams(Section):
    """WaveSpec, the published detector."""

    kind: Literal["wavespec"] = setting("wavespec", "paper", "network")
    views: Literal["both", "waveform", "spectrogram"] = setting("both", "paper", "which views enter; one alone is an ablation")
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


class LossParams(Section):
    """Detector losses."""

    class_weights: tuple[float, float] | Literal["inverse_frequency"] = setting(
        (0.1, 0.9), "port", "cross-entropy weights of (spoof, bona fide): these suit ASVspoof2019 LA, inverse_frequency any corpus"
    )
    single_center: float = setting(0.5, "port", "λ, weight of the single-center loss", ge=0)
    margin: float = setting(0.3, "port", "m of the single-center loss; the margin is m·√D", ge=0)


class AugmentationParams(Section):
    """RawBoost (Tak et al., ICASSP 2022) and cheaper disturbances of training audio."""

    rawboost: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8] = setting(3, "port", "algorithm; 0 off, 3 suits DF, 5 suits LA")
    probability: float = setting(1.0, "ours", "share of training clips that RawBoost disturbs", ge=0, le=1)
    snr_db: tuple[float, float] = setting((10, 40), "port", "range of the stationary noise's signal-to-noise ratio")
    spectrogram_bands: int = setting(0, "ours", "widest band of the spectrogram view's bins blanked in training; 0 off", ge=0)
    spectrogram_frames: int = setting(0, "ours", "longest stretch of the spectrogram view's frames blanked in training; 0 off", ge=0)


NetworkParams = Annotated[WaveSpecParams | ResNetParams | AasistParams | ConformerParams | GmmParams, Field(discriminator="kind")]


class DetectorMemberParams(Section):
    """A member of the detector: its network, and how that is trained; of a lfcc_gmm, which has no gradient, `network` alone counts."""

    network: NetworkParams = WaveSpecParams()
    loss: LossParams = LossParams()
    augmentation: AugmentationParams = AugmentationParams()
    training: TrainingParams = TrainingParams()

    @model_validator(mode="after")
    def _reads_a_view(self):
        if getattr(self.network, "reads", "") == "front_end":
            raise ValueError("network.reads front_end is the tracer's: a detector's network reads cqt, linear or lfcc")
        return self


class DetectorParams(Section):
    """Detection: its members, whose scores one logistic regression fuses."""

    members: dict[str, DetectorMemberParams] = setting(
        {"wavespec": DetectorMemberParams()},
        "paper",
        "networks that score every recording; one entry adds one, an entry that is null is left out",
        min_length=1,
    )

    @field_validator("members", mode="before")
    @classmethod
    def _left_out(cls, members: Any) -> Any:
        found = present(members)
        for name, member in found.items() if isinstance(found, dict) else ():
            if isinstance(member, dict) and isinstance(network := member.get("network", {}), dict) and "kind" not in network:
                if name != "wavespec":
                    raise ValueError(f"{name} lacks network.kind: wavespec, resnet, aasist, conformer or lfcc_gmm")
                found[name] = member | {"network": {"kind": "wavespec"} | network}
        return found


class ScoringParams(Section):
    """Scoring of whole utterances in windows of clip length."""

    batch_size: int = setting(32, "ours", "windows scored at once", ge=1)
    train_sample: int = setting(
        2000, "ours", "train utterances that are scored too: a recording far from all of them is called unlike training", ge=2
    )
