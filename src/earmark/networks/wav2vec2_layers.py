"""The parts of wav2vec 2.0 (Baevski et al., NeurIPS 2020), with the names of the public checkpoints. Shapes: B batch, F frames, D width."""

from dataclasses import dataclass, fields
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from earmark import InputError

# what published configurations may hold and nothing here computes: anything else than this is refused
FIXED = {"hidden_act": "gelu", "feat_extract_activation": "gelu", "add_adapter": False, "adapter_attn_dim": None}


@dataclass(frozen=True)
class Configuration:
    """The fields of transformers' Wav2Vec2Config that shape the encoder, with its names and defaults."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: str = "group"  # or "layer": a norm after every convolution
    do_stable_layer_norm: bool = False  # norms before attention and feed-forward part, instead of after them
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    feat_proj_dropout: float = 0.0

    @classmethod
    def of(cls, config: dict[str, Any]) -> Self:
        """From a configuration as JSON holds it; what only other parts of transformers' model read is left.

        Errors: InputError when it asks for something that is not computed here.
        """
        if other := {name: config[name] for name in FIXED if config.get(name, FIXED[name]) != FIXED[name]}:
            raise InputError(f"a wav2vec 2.0 with {', '.join(f'{name} {value}' for name, value in other.items())} is not supported")
        known: dict[str, Any] = {one.name: config[one.name] for one in fields(cls) if one.name in config}
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}  # JSON knows no tuples
        return cls(**known)


class Convolution(nn.Module):
    """(B, C, T) → (B, C', F): convolution, norm of each frame ("layer") or of each channel ("group"), or none, GELU."""

    def __init__(self, config: Configuration, number: int):
        super().__init__()
        channels, norm = config.conv_dim[number], config.feat_extract_norm
        before = config.conv_dim[number - 1] if number else 1
        self.conv = nn.Conv1d(before, channels, config.conv_kernel[number], config.conv_stride[number], bias=config.conv_bias)
        self.norm = "none" if norm == "group" and number else norm
        if self.norm != "none":
            self.layer_norm = nn.LayerNorm(channels) if norm == "layer" else nn.GroupNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.conv(x)
        if self.norm == "layer":
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        elif self.norm == "group":
            x = self.layer_norm(x)
        return nn.functional.gelu(x)


class Convolutions(nn.Module):
    """All convolutions, (B, T) → (B, C, F).

    On a CPU those with layer norms take half of the time to layer 5. Where no gradient is asked for they are therefore products of frames
    with weights, channels last, so that norms need no turning about.
    """

    def __init__(self, config: Configuration):
        super().__init__()
        self.conv_layers = nn.ModuleList(Convolution(config, number) for number in range(len(config.conv_dim)))
        self.framed = config.feat_extract_norm == "layer"

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        if self.framed and waveform.device.type == "cpu" and not torch.is_grad_enabled():
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
            x = nn.functional.gelu(layer.layer_norm(found))
        return x


class Projection(nn.Module):
    """(B, F, C) → (B, F, D)."""

    def __init__(self, config: Configuration):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)
        self.dropout = nn.Dropout(config.feat_proj_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.dropout(self.projection(self.layer_norm(x)))


class Positions(nn.Module):
    """(B, F, D) → (B, F, D): positions relative to the neighbours, by a wide grouped convolution."""

    def __init__(self, config: Configuration):
        super().__init__()
        width, taps = config.hidden_size, config.num_conv_pos_embeddings
        conv = nn.Conv1d(width, width, taps, padding=taps // 2, groups=config.num_conv_pos_embedding_groups)
        self.conv = weight_norm(conv, name="weight", dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        found = self.conv(x.transpose(1, 2))[..., : x.shape[1]]  # an even number of taps makes a frame too many
        return nn.functional.gelu(found).transpose(1, 2)


class Encoder(nn.Module):
    """(B, F, D) → the states of `Wav2Vec2`."""

    def __init__(self, config: Configuration):
        super().__init__()
        self.pos_conv_embed = Positions(config)
        if not config.do_stable_layer_norm:
            self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.stable = config.do_stable_layer_norm
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        x = x + self.pos_conv_embed(x)
        states = [self.dropout(x if self.stable else self.layer_norm(x))]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states


class Layer(nn.Module):
    """(B, F, D) → (B, F, D): attention and feed-forward part, each added to its input; norms before them (stable) or after."""

    def __init__(self, config: Configuration):
        super().__init__()
        self.attention = Attention(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.stable = config.do_stable_layer_norm

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.stable:
            x = x + self.dropout(self.attention(self.layer_norm(x)))
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.layer_norm(x + self.dropout(self.attention(x)))
        return self.final_layer_norm(x + self.feed_forward(x))


class Attention(nn.Module):
    """(B, F, D) → (B, F, D): every frame attends to all."""

    def __init__(self, config: Configuration):
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.attention_dropout
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        found = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """(B, F, D) → (B, F, D)."""

    def __init__(self, config: Configuration):
        super().__init__()
        self.intermediate_dropout = nn.Dropout(config.activation_dropout)
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        hidden = self.intermediate_dropout(nn.functional.gelu(self.intermediate_dense(x)))
        return self.output_dropout(self.output_dense(hidden))
