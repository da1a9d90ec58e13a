"""Training and scoring of the detector: what WaveSpec adds to the shared loop."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from earmark import InputError
from earmark.features.clips import Clips, augmented, draw, windows
from earmark.features.cqt import Cqt
from earmark.features.shards import Features
from earmark.losses import DetectorLoss
from earmark.metrics.detection import DetectionCurve, eer
from earmark.networks.wav2vec2 import configuration
from earmark.networks.wavespec import WaveSpec
from earmark.params import AudioParams, AugmentationParams, CqtParams, LossParams, TrainingParams, WaveSpecParams
from earmark.training import State


class Objective(nn.Module):
    """Views and labels → metrics; network and loss in one module, so that processes share the gradients of both."""

    def __init__(self, network: WaveSpec, loss: DetectorLoss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, waveform: Tensor, cqt: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, T), (B, 2, K, F), (B,) → scalars, `loss` among them."""
        detection = self.network(waveform, cqt)
        return self.loss(detection.embedding, detection.logits, labels)


@dataclass
class DetectorTask:
    """WaveSpec on the shared loop: see `training.Task`."""

    network: WaveSpec
    features: Features
    train: pd.DataFrame
    dev: pd.DataFrame
    audio: AudioParams
    cqt: CqtParams
    augmentation: AugmentationParams
    training: TrainingParams
    scoring_batch: int
    seed: int
    accelerator: Accelerator

    def __post_init__(self):
        augmenting = bool(self.augmentation.rawboost or self.augmentation.spectrogram_bands)
        self.transform = Cqt(self.cqt).to(self.accelerator.device) if augmenting else None
        self.clips = Clips(self.features, self.audio, self.cqt, self.transform.margin_samples if self.transform else 0)
        self.micro_batches = self.accelerator.num_processes * self.training.accumulation
        if self.training.batch_size % self.micro_batches or self.training.batch_size < 2 * self.micro_batches:
            raise InputError(
                f"training.batch_size {self.training.batch_size} must be a multiple of, and at least twice, "
                f"processes × training.accumulation = {self.micro_batches}"
            )
        if self.steps(0) < 1:
            raise InputError(f"train has {len(self.train)} utterances, fewer than training.batch_size {self.training.batch_size}")

    def steps(self, epoch: int) -> int:
        """Whole batches alone: a batch of one has no statistics."""
        drawn = 2 * int((self.train["key"] == "bonafide").sum()) if self.training.balance else len(self.train)
        return drawn // self.training.batch_size

    def begin_epoch(self, epoch: int) -> None:
        """A pretrained encoder is frozen in the first epochs."""
        self.network.freeze_encoder(epoch < self.training.frozen_epochs)

    def batches(self, epoch: int, first: int) -> Iterable[tuple[int, Any]]:
        """See `training.Task`: micro-batch m of a step belongs to process m modulo their number."""
        items = draw(self.train, self.features.index, self.audio, self.cqt, self.training, (self.seed, epoch))
        size, processes = self.training.batch_size // self.micro_batches, self.accelerator.num_processes
        numbers = range(first * self.micro_batches, self.steps(epoch) * self.micro_batches)
        mine = [number for number in numbers if number % processes == self.accelerator.process_index]
        sampler = [items[number * size : (number + 1) * size] for number in mine]
        loader = DataLoader(
            self.clips, batch_sampler=sampler, num_workers=self.training.loader_workers, pin_memory=self.accelerator.device.type == "cuda"
        )  # pyright: ignore[reportArgumentType]  # batch samplers may yield any item
        return zip(mine, loader, strict=True)

    def forward(self, model: nn.Module, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """See `training.Task`."""
        waveform, cqt, labels = (tensor.to(self.accelerator.device, non_blocking=True) for tensor in batch)
        if self.transform is not None:
            waveform, cqt = augmented(waveform, self.augmentation, self.audio, self.transform, generator)
        return model(waveform, cqt, labels)

    def validate(self) -> dict[str, float]:
        """Dev EER over whole utterances; each process scores its share."""
        rows = self.dev.iloc[self.accelerator.process_index :: self.accelerator.num_processes]
        scored = score(self.network, self.features, rows, self.audio, self.cqt, self.scoring_batch, self.accelerator)
        scores = np.array(gather_object(scored["cm_score"].tolist()))
        labels = np.array(gather_object((rows["key"] == "bonafide").tolist()))
        return {"dev/eer": float(eer(DetectionCurve.build(scores[labels], scores[~labels])))}


def start(
    train: pd.DataFrame, wavespec: WaveSpecParams, loss: LossParams, training: TrainingParams, seed: int, pretrained: bool = True
) -> State:
    """A network with its first weights (seeded, or pretrained), its loss and Adam with a learning rate for each part."""
    torch.manual_seed(seed)
    network = WaveSpec(wavespec, configuration(wavespec.encoder))
    if network.encoder is not None and wavespec.encoder.pretrained and pretrained:
        network.encoder.load_pretrained(wavespec.encoder)
    objective = Objective(network, DetectorLoss(loss, wavespec.head_widths[-1], class_weights(train, loss, training)))
    slow = {id(parameter) for parameter in network.encoder_parameters()}
    groups = [
        {"params": [p for p in objective.parameters() if id(p) not in slow], "lr": training.lr, "base_lr": training.lr},
        {"params": [p for p in objective.parameters() if id(p) in slow], "lr": training.encoder_lr, "base_lr": training.encoder_lr},
    ]
    return State(objective, torch.optim.Adam([group for group in groups if group["params"]], weight_decay=training.weight_decay))


def class_weights(train: pd.DataFrame, loss: LossParams, training: TrainingParams) -> tuple[float, float]:
    """Cross-entropy weights of (spoof, bona fide), summing to 1; inverse to how often each is drawn."""
    if loss.class_weights != "inverse_frequency":
        return loss.class_weights
    share = 0.5 if training.balance else float((train["key"] == "spoof").mean())
    return 1 - share, share


def identity(train: pd.DataFrame, dev: pd.DataFrame, **sections: Any) -> dict[str, Any]:
    """What a checkpoint must agree with: every setting by its path, and the digest of the data."""
    content = "\n".join(pd.concat([train, dev])[["utterance_id", "key", "digest"]].agg(" ".join, axis=1))
    flat = {"training data": hashlib.sha256(content.encode()).hexdigest()}
    for name, section in sections.items():
        flat |= {f"{name}.{key}": value for key, value in json.loads(section.model_dump_json()).items()}
    return flat


@torch.no_grad()
def score(
    network: WaveSpec, features: Features, rows: pd.DataFrame, audio: AudioParams, cqt: CqtParams, batch: int, accelerator: Accelerator
) -> pd.DataFrame:
    """Table utterance_id, cm_score, windows, embedding: means over the windows of each utterance."""
    network.eval()
    items = [(utterance, start, 0) for utterance, start in windows(rows, features.index, audio, cqt)]
    clips, scores, embeddings = Clips(features, audio, cqt), [], []
    for waveform, spectrum, _ in DataLoader(clips, batch_sampler=[items[first : first + batch] for first in range(0, len(items), batch)]):  # pyright: ignore
        with accelerator.autocast():
            detection = network(waveform.to(accelerator.device), spectrum.to(accelerator.device))
        scores.append(detection.cm_score.float().cpu().numpy())
        embeddings.append(detection.embedding.float().cpu().numpy())
    return _pool([item[0] for item in items], scores, embeddings, rows)


def _pool(utterances: list[str], scores: list[np.ndarray], embeddings: list[np.ndarray], rows: pd.DataFrame) -> pd.DataFrame:
    """Means over windows, in the order of `rows`."""
    if not utterances:
        return pd.DataFrame({"utterance_id": [], "cm_score": [], "windows": [], "embedding": []})
    position = {utterance: number for number, utterance in enumerate(rows["utterance_id"])}
    owner = np.array([position[utterance] for utterance in utterances])
    counts = np.bincount(owner, minlength=len(rows))
    means = np.bincount(owner, np.concatenate(scores).astype(np.float64), minlength=len(rows)) / counts
    pooled = np.zeros((len(rows), embeddings[0].shape[1]))
    np.add.at(pooled, owner, np.concatenate(embeddings))
    return pd.DataFrame(
        {"utterance_id": rows["utterance_id"].to_numpy(), "cm_score": means, "windows": counts, "embedding": list((pooled / counts[:, None]).astype(np.float32))}
    )
