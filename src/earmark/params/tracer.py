"""Settings of the tracer."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from earmark.params.backends import AasistParams, ConformerParams, GmmParams, ResNetParams, present
from earmark.params.detector import Wav2Vec2Params
from earmark.params.section import Section, setting
from earmark.params.training import TrainingParams


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


MemberParams = Annotated[AasistParams | ConformerParams | ResNetParams | GmmParams, Field(discriminator="kind")]


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
        return present(members)


class EnsembleParams(Section):
    """Score-embedding fusion, fitted on dev."""

    coverage: float = setting(0.9, "ours", "share of seen-source trials whose conformal set should hold their source", gt=0, lt=1)
    fallback: float = setting(
        0.95, "ours", "quantile of dev's seen scores that becomes the threshold where dev has no unseen source", gt=0, lt=1
    )
