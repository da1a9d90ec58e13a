"""wav2vec 2.0 (Baevski et al., NeurIPS 2020) read at chosen depths. Shapes: B batch, T samples, C channels, F frames (50 Hz), D width.

The modules are named and laid out as transformers' are, so that published weights fit, and give the same values. transformers itself takes
longer to import than a short recording to judge: it is only asked to fetch and read such weights.
"""

from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from earmark import InputError
from earmark.networks.wav2vec2_layers import Configuration, Convolutions, Encoder, Positions, Projection
from earmark.params import Wav2Vec2Params

DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")


def configuration(params: Wav2Vec2Params, layers: int, dropout: float = 0.0) -> dict[str, Any]:
    """Configuration of the encoder's first `layers`, of pretrained weights or of random ones; it lies in the checkpoint."""
    if params.pretrained is None:
        shape = Configuration(
            hidden_size=params.hidden, num_attention_heads=params.heads, intermediate_size=4 * params.hidden,
            conv_dim=(params.conv_width,) * 7, feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=64,
        )  # fmt: skip
    else:
        shape = _pretrained_configuration(params, layers)
    rates = dict.fromkeys(DROPOUTS, 0.0) | {"hidden_dropout": dropout, "attention_dropout": dropout}
    return asdict(shape) | rates | {"num_hidden_layers": layers}


def _pretrained_configuration(params: Wav2Vec2Params, layers: int) -> Configuration:
    from transformers import Wav2Vec2Config

    try:
        config = Wav2Vec2Config.from_pretrained(str(params.pretrained), revision=params.revision or "main")
    except OSError as error:
        raise InputError(f"pretrained: {params.pretrained} is neither a folder nor reachable on the hub ({error})") from error
    if config.num_hidden_layers < layers:
        raise InputError(
            f"{params.pretrained} has {config.num_hidden_layers} layers, no layer {layers}: lower network.encoder.taps or front_end.layer"
        )
    return Configuration.of(config.to_dict())


class TappedWav2Vec2(nn.Module):
    """(B, T) waveform → (B, F, D) features a tap: the outputs of those transformer layers. No layer above the last is built."""

    def __init__(self, config: dict[str, Any], taps: tuple[int, ...]):
        super().__init__()
        self.taps = taps
        self.model = Wav2Vec2(Configuration.of(config))
        self.width = self.model.config.hidden_size

    def load_pretrained(self, params: Wav2Vec2Params) -> None:
        """Load published weights; what the file has beyond the last tap is left. Errors: InputError naming the keys that it lacks."""
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        name, revision = str(params.pretrained), params.revision or "main"
        shape: Any = Wav2Vec2Config(
            **asdict(self.model.config), mask_time_prob=0.0
        )  # frames are not masked, nor is there a vector to do it with
        found: Any = Wav2Vec2Model.from_pretrained(
            name, revision=revision, config=shape, output_loading_info=True, ignore_mismatched_sizes=True
        )
        loaded, report = found
        misfitting = (key for key, *_ in report["mismatched_keys"])  # with both shapes
        if lacking := sorted({*report["missing_keys"], *misfitting}):
            raise InputError(f"{name}: the weights lack or misfit {', '.join(lacking)}: they are not of this configuration")
        own = self.model.state_dict()
        self.model.load_state_dict({key: tensor for key, tensor in loaded.state_dict().items() if key in own}, strict=True)

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """(B, T) → (B, F, D) a tap; each waveform is first brought to zero mean and unit variance, as in pretraining."""
        centred = waveform - waveform.mean(-1, keepdim=True)
        states = self.model(centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-7))
        return [states[tap] for tap in self.taps]


class Wav2Vec2(nn.Module):
    """(B, T) standardised waveform → (B, F, D) states: what the first transformer layer is given, and the output of each.

    In the stable form no state goes through the norm after the last layer, so there is none.
    """

    def __init__(self, config: Configuration):
        super().__init__()
        self.config = config
        self.feature_extractor = Convolutions(config)
        self.feature_projection = Projection(config)
        self.encoder = Encoder(config)
        self.apply(lambda module: _initialise(module, config))

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """See the class."""
        return self.encoder(self.feature_projection(self.feature_extractor(waveform).transpose(1, 2)))


def _initialise(module: nn.Module, config: Configuration) -> None:
    """Random weights as transformers draws them, number for number: so also those that it draws and then overwrites or drops."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.normal_(module.weight, std=config.initializer_range)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight)  # of the positions' convolution a product, not the weights: these stay torch's own
        if module.bias is not None:
            bound = (module.groups / (module.in_channels * module.kernel_size[0])) ** 0.5
            nn.init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, Projection):
        bound = module.projection.in_features**-0.5
        nn.init.uniform_(module.projection.weight, -bound, bound)
        nn.init.uniform_(module.projection.bias, -bound, bound)
    elif isinstance(module, Positions):
        nn.init.normal_(cast(Tensor, module.conv.weight))
        nn.init.zeros_(cast(Tensor, module.conv.bias))
