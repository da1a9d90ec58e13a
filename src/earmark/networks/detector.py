"""Members of the detector: networks and mixtures that score a clip, as they lie in files.

Shapes: B batch, T samples, C channels, K bins and F frames of the view that a member reads, E embedding.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from earmark import InputError
from earmark.features.views import bins, standardised
from earmark.networks.classifier import Classifier
from earmark.networks.gmm import NAMES, Mixtures
from earmark.networks.wav2vec2 import configuration
from earmark.networks.wavespec import Detection, WaveSpec
from earmark.params import BackendParams, CqtParams, GmmParams, NetworkParams, View, WaveSpecParams
from earmark.storage import checkpoint


class ViewDetector(nn.Module):
    """A view (B, C, K, F) of a clip → back end → embedding and logits; the waveform is not read."""

    def __init__(self, params: BackendParams, cqt: CqtParams):
        super().__init__()
        self.params = params
        self.view: View = params.reads
        self.network = Classifier(bins(params.reads, cqt), params, 2)
        self.embedding = self.network.backend.embedding

    def forward(self, waveform: Tensor, image: Tensor) -> Detection:
        """(B, T), (B, C, K, F) → see the class."""
        return Detection(*self.network(standardised(self.view, image)[:, 0].transpose(1, 2)))


class MixtureDetector(nn.Module):
    """LFCC (B, 1, 60, F) of a clip → the mixtures' log-likelihood ratios as logits, the mean frame as embedding."""

    view: View = "lfcc"

    def __init__(self, params: GmmParams, mixtures: Mixtures):
        super().__init__()
        self.params, self.network = params, mixtures

    def forward(self, waveform: Tensor, image: Tensor) -> Detection:
        """(B, T), (B, 1, 60, F) → see the class."""
        return Detection(standardised("lfcc", image)[:, 0].mean(-1), self.network(image[:, 0].transpose(1, 2)))


Detector = WaveSpec | ViewDetector | MixtureDetector


def build(params: NetworkParams, cqt: CqtParams) -> WaveSpec | ViewDetector:
    """A network with random first weights, or a WaveSpec with a pretrained encoder; mixtures are fitted, not built."""
    if not isinstance(params, WaveSpecParams):
        assert isinstance(params, BackendParams)
        return ViewDetector(params, cqt)
    network = WaveSpec(params, configuration(params.encoder, params.encoder.taps[-1], params.encoder.dropout))
    if network.encoder is not None and params.encoder.pretrained:
        network.encoder.load_pretrained(params.encoder)
    return network


def save_detector(path: Path, network: Detector, meta: dict[str, Any]) -> None:
    """Weights with the params they came of and, of a WaveSpec, its encoder's configuration."""
    described: dict[str, Any] = {"network": network.params.model_dump(mode="json")}
    if isinstance(network, WaveSpec):
        described |= {"encoder": network.encoder_configuration}
    checkpoint.save(path, dict(network.state_dict()), meta | described)


def load_detector(path: Path) -> tuple[Detector, dict[str, Any]]:
    """Network in evaluation mode, and the checkpoint's dict."""
    tensors, meta = checkpoint.load(path)
    if "network" not in meta:
        raise InputError(f"{path} holds no detector")
    params = TypeAdapter(NetworkParams).validate_python(meta["network"])
    if isinstance(params, WaveSpecParams):
        network = WaveSpec(params, meta["encoder"])
    elif isinstance(params, GmmParams):
        network = MixtureDetector(params, Mixtures(**{name: torch.empty_like(tensors[f"network.{name}"]) for name in NAMES}))
    else:
        network = ViewDetector(params, CqtParams.model_validate(meta["cqt"]))
    network.load_state_dict(tensors, strict=True)
    return network.eval(), meta
