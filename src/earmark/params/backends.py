"""Settings of back ends, which detector and tracer share."""

import re
from typing import Any, Literal

from pydantic import model_validator

from earmark.params.section import Section, setting

View = Literal["front_end", "cqt", "linear", "lfcc"]


class BackendParams(Section):
    """A back end and the view of a clip that it reads."""

    reads: View = setting(
        "front_end", "ours", "the run's front_end, which the tracer alone reads; the stored CQT's magnitudes; 80 linear bands; or LFCC"
    )


class ConformerParams(BackendParams):
    """Conformer back end (Rosello et al., Interspeech 2023)."""

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
    """AASIST's graph-attention back end (Jung et al., ICASSP 2022)."""

    kind: Literal["aasist"] = setting("aasist", "paper", "back end")
    width: int = setting(128, "port", "channels that features are projected to", ge=16)
    encoder_widths: tuple[int, ...] = setting(
        (32, 32, 64, 64, 64, 64), "port", "channels of the residual blocks; a pooling follows where they change", min_length=1
    )
    graph_widths: tuple[int, int] = setting((64, 32), "port", "channels of graph nodes; the embedding has five times the second")
    dropout: float = setting(0.5, "port", "dropout of the embedding", ge=0, lt=1)
    node_dropout: float = setting(0.2, "port", "dropout of graph nodes", ge=0, lt=1)
    pool_dropout: float = setting(0.3, "port", "dropout of what scores nodes for pooling", ge=0, lt=1)


class ResNetParams(BackendParams):
    """Thin ResNet (He et al., CVPR 2016) on a spectrogram as an image, pooled to mean and standard deviation over time."""

    kind: Literal["resnet"] = setting("resnet", "ours", "back end")
    reads: View = setting("linear", "ours", "the stored CQT's magnitudes; 80 linear bands, which show what vocoders leave; or LFCC")
    widths: tuple[int, ...] = setting((16, 32, 64, 128), "ours", "channels of its stages, one block each", min_length=1)
    dropout: float = setting(0.3, "ours", "dropout of the embedding before the logits", ge=0, lt=1)


class GmmParams(Section):
    """A Gaussian mixture a class on LFCC, adapted from a common one (Reynolds et al., 2000)."""

    kind: Literal["lfcc_gmm"] = setting("lfcc_gmm", "ours", "back end")
    components: int = setting(128, "ours", "Gaussians of a mixture", ge=1)
    relevance: float = setting(16.0, "port", "frames' worth of the common mixture kept in a source's", gt=0)
    frames: int = setting(120_000, "ours", "frames that the common mixture is fitted on, drawn at random", ge=1000)


def present(members: Any) -> Any:
    """Members that are not null, as a before-validator. Errors: ValueError on a name that is no file's."""
    if not isinstance(members, dict):
        return members
    for name in members:
        if not re.fullmatch("[A-Za-z0-9_-]+", str(name)) or name == "conditions":  # a packaged model has a file of that name beside them
            raise ValueError(f"a member is called by letters, digits, - and _, and not conditions: {name!r} names no file")
    return {name: member for name, member in members.items() if member is not None}
