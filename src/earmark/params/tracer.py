"""Settings of the tracer."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from earmark.params.detector import Wav2Vec2Params
from earmark.params.section import Section, setting
from earmark.params.training import TrainingParams


class BackendParams(Section):
    """What networks have in common."""

    reads: Literal["front_end", "lfcc"] = setting(
        "front_end", "ours", "features: those of the run's front_end, or LFCC of the stored waveform, which tell unseen sources better"
    )


class ConformerParams(BackendParams):
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


class AasistParams(BackendParams):
    """Tracer with AASIST's graph-attention back end (Jung et al., ICASSP 2022)."""

    kind: Literal["aasist"] = setting("aasist", "paper", "back end")
    width: int = setting(128, "port", "channels that features are projected to", ge=16)
    encoder_widths: tuple[int, ...] = setting(
        (32, 32, 64, 64, 64, 64), "port", "channels of the residual blocks; a pooling follows where they change", min_length=1
    )
    graph_widths: tuple[int, int] = setting((64, 32), "port", "channels of graph nodes; the embedding has five times the second")
    dropout: float = setting(0.5, "port", "dropout of the embedding", ge=0, lt=1)
    node_dropout: float = setting(0.2, "port", "dropout of graph nodes", ge=0, lt=1)
    pool_dropout: float = setting(0.3, "port", "dropout of what scores nodes for pooling", ge=0, lt=1)


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
    n_pair_scale: float | None = setting(
        None, "ours", "inside the N-pair loss, bring products of embeddings to this many times cosines (10 to 30); null: as they are", gt=0
    )
    n_pair_sources: int = setting(64, "ours", "most sources N with a pair in a batch", ge=2)


class GmmParams(Section):
    """Classical tracer: a Gaussian mixture per source on LFCC, adapted from a common one (Reynolds et al., 2000).

    Its embedding is its scores about their mean.
    """

    kind: Literal["lfcc_gmm"] = setting("lfcc_gmm", "ours", "back end")
    components: int = setting(128, "ours", "Gaussians of a mixture", ge=1)
    relevance: float = setting(16.0, "port", "frames' worth of the common mixture kept in a source's", gt=0)
    frames: int = setting(120_000, "ours", "frames that the common mixture is fitted on, drawn at random", ge=1000)


MemberParams = Annotated[AasistParams | ConformerParams | GmmParams, Field(discriminator="kind")]


class CqtFrontEndParams(Section):
    """The tracer reads the precomputed CQT: no pretrained weights, no GPU."""

    kind: Literal["cqt"] = setting("cqt", "ours", "front end")
    phase: Literal["angle", "cos_sin", "none"] = setting("none", "ours", "phase channels beside the CQT's log-magnitude")


class Wav2Vec2FrontEndParams(Wav2Vec2Params):
    """The tracer reads a frozen wav2vec 2.0; what it says of an utterance is computed once and kept."""

    kind: Literal["wav2vec2"] = setting("wav2vec2", "paper", "front end")
    layer: int = setting(5, "port", "transformer layer that is read; above it none is built", ge=1)
    chunk_seconds: float = setting(30.0, "ours", "longer utterances are cut into pieces of this length, which do not see each other", ge=1)


FrontEndParams = Annotated[CqtFrontEndParams | Wav2Vec2FrontEndParams, Field(discriminator="kind")]


class TracerTrainingParams(TrainingParams):
    """The loop, for both stages of a member."""

    epochs: int = setting(30, "port", "epochs; dev is scored after each", ge=1)
    batch_size: int = setting(128, "port", "utterances an optimiser step, over all processes", ge=2)
    lr: float = setting(5e-4, "port", "learning rate", gt=0)
    weight_decay: float = setting(5e-4, "port", "Adam's weight decay", ge=0)
    halve_epochs: int = setting(10, "port", "halve the learning rate every so many epochs; 0: the cosine", ge=0)
    patience: int = setting(30, "ours", "epochs without a smaller error on dev before training stops, unless the last is kept", ge=1)


class TracerParams(Section):
    """Source tracing."""

    members: dict[str, MemberParams] = setting(
        {"aasist": AasistParams(), "conformer": ConformerParams(), "lfcc_gmm": GmmParams()},
        "paper",
        "systems of the ensemble (lfcc_gmm: ours); one entry adds one, an entry that is null is left out, none at all: no tracing",
    )
    embedding_batch: int = setting(32, "ours", "windows embedded at once", ge=1)
    corpora: tuple[str, ...] | None = setting(
        None, "ours", "names of the corpora whose sources are traced; null: all. Bona fide speech for Real Emphasis comes from every corpus"
    )
    copies_are_sources: bool = setting(False, "ours", "copies count as sources: for the demo, which has no others")
    emphasis: EmphasisParams = EmphasisParams()
    dispersion: DispersionParams = DispersionParams()
    training: TracerTrainingParams = TracerTrainingParams()

    @field_validator("members", mode="before")
    @classmethod
    def _left_out(cls, members: Any) -> Any:
        return {name: member for name, member in members.items() if member is not None} if isinstance(members, dict) else members


class EnsembleParams(Section):
    """Score-embedding fusion, fitted on dev."""

    coverage: float = setting(0.9, "ours", "share of seen-source trials whose conformal set should hold their source", gt=0, lt=1)
    fallback: float = setting(
        0.95, "ours", "quantile of dev's seen scores that becomes the threshold where dev has no unseen source", gt=0, lt=1
    )
