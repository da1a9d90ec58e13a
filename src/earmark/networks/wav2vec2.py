"""wav2vec 2.0 read at chosen depths. Shapes: B batch, T samples, F frames (50 Hz), D width.

transformers takes seconds to import, so it is left to what builds an encoder.
"""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from earmark import InputError
from earmark.params import Wav2Vec2Params

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

# on by default in the configuration; they would hide frames, drop layers or drop units of a frozen encoder
DISTURBANCES_OFF = {"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}


def configuration(params: Wav2Vec2Params, layers: int, dropout: float = 0.0) -> dict[str, Any]:
    """Configuration of the encoder's first `layers`, of pretrained weights or of random ones; it lies in the checkpoint."""
    from transformers import Wav2Vec2Config

    rates = {"hidden_dropout": dropout, "attention_dropout": dropout, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    if params.pretrained is None:
        config = Wav2Vec2Config(
            hidden_size=params.hidden, num_attention_heads=params.heads, intermediate_size=4 * params.hidden,
            conv_dim=(params.conv_width,) * 7, feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=64,
            num_conv_pos_embedding_groups=16,
        )  # fmt: skip
    else:
        config = _pretrained_configuration(params, layers)
    config.update({**DISTURBANCES_OFF, **rates, "num_hidden_layers": layers})
    return config.to_diff_dict()


def _pretrained_configuration(params: Wav2Vec2Params, layers: int) -> "Wav2Vec2Config":
    from transformers import Wav2Vec2Config

    try:
        config = Wav2Vec2Config.from_pretrained(str(params.pretrained), revision=params.revision or "main")
    except OSError as error:
        raise InputError(f"pretrained: {params.pretrained} is neither a folder nor reachable on the hub ({error})") from error
    if config.num_hidden_layers < layers:
        raise InputError(
            f"{params.pretrained} has {config.num_hidden_layers} layers, no layer {layers}: lower wavespec.encoder.taps or front_end.layer"
        )
    return config


class TappedWav2Vec2(nn.Module):
    """(B, T) waveform → (B, F, D) features a tap: the outputs of those transformer layers. No layer above the last is built."""

    def __init__(self, config: dict[str, Any], taps: tuple[int, ...]):
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        super().__init__()
        self.taps = taps
        self.model = _refit(Wav2Vec2Model(Wav2Vec2Config(**config)))
        self.width = self.model.config.hidden_size

    def load_pretrained(self, params: Wav2Vec2Params) -> None:
        """Load published weights; what the file has beyond the last tap is left. Errors: InputError naming the keys that it lacks."""
        from transformers import Wav2Vec2Model

        name, revision = str(params.pretrained), params.revision or "main"
        found: Any = Wav2Vec2Model.from_pretrained(
            name, revision=revision, config=self.model.config, output_loading_info=True, ignore_mismatched_sizes=True
        )
        loaded, report = found
        # the embedding of masked frames is never used: masking is off
        misfitting = (key for key, *_ in report["mismatched_keys"])  # with both shapes
        lacking = sorted({*report["missing_keys"], *misfitting} - {"masked_spec_embed"})
        if lacking:
            raise InputError(f"{name}: the weights lack or misfit {', '.join(lacking)}: they are not of this configuration")
        self.model = _refit(loaded)

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """(B, T) → (B, F, D) a tap; each waveform is first brought to zero mean and unit variance, as in pretraining."""
        centred = waveform - waveform.mean(-1, keepdim=True)
        standard = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-7)
        states = self.model(standard, output_hidden_states=True).hidden_states
        return [states[tap] for tap in self.taps]


class Convolutions(nn.Module):
    """The encoder's own convolutions with layer norms, (B, T) → (B, C, F).

    On a CPU they take half of the time to layer 5. Where no gradient is asked for they are therefore products of frames with weights,
    channels last, so that norms need no turning about.
    """

    def __init__(self, layers: nn.ModuleList):
        super().__init__()
        self.conv_layers = layers

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        if waveform.device.type == "cpu" and not torch.is_grad_enabled():
            return torch.stack([self._convolve(one) for one in waveform]).transpose(1, 2)
        x = waveform[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x

    def _convolve(self, waveform: Tensor) -> Tensor:
        """(T,) → (F, C). A frame's first `stride` samples are a view of the signal, and so are those that it shares with the next."""
        x = waveform[:, None]
        for layer in cast(list[Any], self.conv_layers):
            (taps,), (stride,), channels = layer.conv.kernel_size, layer.conv.stride, x.shape[1]
            frames = (len(x) - taps) // stride + 1
            weight = layer.conv.weight.permute(2, 1, 0).flatten(0, 1)
            if channels == 1:
                found = x[:, 0].unfold(0, taps, stride) @ weight
            else:
                own = min(taps, stride) * channels
                found = x[: frames * stride].view(frames, -1)[:, :own] @ weight[:own]
                for tap in range(stride, taps):
                    found = torch.addmm(found, x[tap::stride][:frames], weight[tap * channels : (tap + 1) * channels])
            if layer.conv.bias is not None:
                found = found + layer.conv.bias
            x = layer.activation(layer.layer_norm(found))
        return x


def _refit(model: "Wav2Vec2Model") -> "Wav2Vec2Model":
    """Drop the norm after the last layer, which no tap goes through; the older form has its norm before the first layer.

    Convolutions are exchanged for the same ones, faster on a CPU.
    """
    if model.config.do_stable_layer_norm:
        model.encoder.layer_norm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    if model.config.feat_extract_norm == "layer":
        model.feature_extractor = Convolutions(model.feature_extractor.conv_layers)  # pyright: ignore[reportAttributeAccessIssue]
    return model
