"""Training of the detector: what WaveSpec adds to the shared loop."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from earmark import InputError
from earmark.corpora.checks import check_needs
from earmark.features.clips import Clips, blank, disturbed
from earmark.features.cqt import Cqt
from earmark.features.linear import LinearBands
from earmark.features.shards import Features, select
from earmark.metrics.detection import DetectionCurve, eer
from earmark.networks.compute import accelerator
from earmark.networks.wav2vec2 import configuration
from earmark.networks.wavespec import WaveSpec, save_detector
from earmark.params import (
    AudioParams,
    AugmentationParams,
    ComputeParams,
    CqtParams,
    LossParams,
    ScoringParams,
    TrainingParams,
    WaveSpecParams,
)
from earmark.scoring.windows import score
from earmark.storage.files import complete, read_table
from earmark.training.batches import draw
from earmark.training.loop import Runner, State, fit, identity, load
from earmark.training.losses import DetectorLoss


class Objective(nn.Module):
    """Views and labels → metrics; network and loss in one module, so that processes share the gradients of both."""

    def __init__(self, network: WaveSpec, loss: DetectorLoss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, waveform: Tensor, spectrogram: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, T), (B, C, K, F), (B,) → scalars, `loss` among them."""
        detection = self.network(waveform, spectrogram)
        return self.loss(detection.embedding, detection.logits, labels)


@dataclass
class DetectorTask:
    """WaveSpec on the shared loop: see `training.Task`."""

    criterion: ClassVar = "dev/eer"
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
        """Check that the batch divides over processes and accumulation."""
        spectrogram = self.network.params.spectrogram
        transform = LinearBands() if spectrogram.scale == "linear" else Cqt(self.cqt)
        self.transform = transform.to(self.accelerator.device) if self.augmentation.rawboost else None
        self.clips = Clips(self.features, self.audio, self.cqt, spectrogram, self.transform.margin_samples if self.transform else None)
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
        return drawn * self.training.repeats // self.training.batch_size

    def begin_epoch(self, epoch: int) -> None:
        """A pretrained encoder is frozen in the first epochs."""
        self.network.freeze_encoder(epoch < self.training.frozen_epochs)

    def batches(self, epoch: int, first: int) -> Iterable[tuple[int, Any]]:
        """See `training.Task`: micro-batch m of a step belongs to process m modulo their number."""
        items = draw(self.train, self.features.index, self.audio, self.cqt, self.training, (self.seed, epoch))
        size = self.training.batch_size // self.micro_batches
        micro = [items[number * size : (number + 1) * size] for number in range(self.steps(epoch) * self.micro_batches)]
        return load(self.clips, micro, first * self.micro_batches, self.training.loader_workers, self.accelerator)

    def forward(self, model: nn.Module, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """See `training.Task`."""
        waveform, spectrogram, labels = (tensor.to(self.accelerator.device, non_blocking=True) for tensor in batch)
        if self.transform is not None:
            waveform, spectrogram = disturbed(waveform, self.augmentation, self.audio, self.transform, generator)
        blanked = blank(spectrogram, self.augmentation.spectrogram_bands, self.augmentation.spectrogram_frames, generator)
        return model(waveform, blanked, labels)

    def validate(self) -> dict[str, float]:
        """Dev EER over whole utterances; each process scores its share."""
        rows = self.dev.iloc[self.accelerator.process_index :: self.accelerator.num_processes]
        scored = score(self.network, self.features, rows, self.audio, self.cqt, self.scoring_batch, self.accelerator)
        scores = np.array(gather_object(scored["cm_score"].tolist()))
        labels = np.array(gather_object((rows["key"] == "bonafide").tolist()))
        return {"dev/eer": float(eer(DetectionCurve.of(scores[labels], scores[~labels])))}


def train_detector(
    seed: int, audio: AudioParams, cqt: CqtParams, wavespec: WaveSpecParams, loss: LossParams, augmentation: AugmentationParams,
    training: TrainingParams, scoring: ScoringParams, compute: ComputeParams, *, protocol: Path, features: Path, output: Path,
) -> dict[str, float]:  # fmt: skip
    """Train on train, choose the epoch on dev; write model.safetensors and history.csv into `output`, return the row of the epoch kept.

    `output`/state.safetensors is there while the run lasts, and is taken up by the next run when this one is killed.
    """
    stored, table = Features(features), read_table(protocol)
    rows = {split: select(stored, table[table["split"] == split]) for split in ("train", "dev")}
    check_needs(pd.concat(rows.values()), ("train", "dev"))
    runner = accelerator(compute, training)
    state = start(rows["train"], wavespec, loss, training, seed)
    network = cast(WaveSpec, state.objective.get_submodule("network"))
    task = DetectorTask(network, stored, rows["train"], rows["dev"], audio, cqt, augmentation, training, scoring.batch_size, seed, runner)  # pyright: ignore[reportArgumentType]
    sections = {"audio": audio, "cqt": cqt, "wavespec": wavespec, "loss": loss, "augmentation": augmentation, "training": training}
    identifies = {"seed": seed} | identity(rows["train"], rows["dev"], **sections)
    history = fit(state, task, Runner(training, seed, output / "state.safetensors", identifies, runner, "detector"))
    if runner.is_main_process:
        _write(output, network, state, {name: json.loads(section.model_dump_json()) for name, section in sections.items()})
    runner.wait_for_everyone()
    return history[state.best_epoch]


def _write(output: Path, network: WaveSpec, state: State, sections: dict[str, Any]) -> None:
    with complete(output / "history.csv") as aside:
        pd.DataFrame(state.history).to_csv(aside, index=False)
    save_detector(output / "model.safetensors", network, sections)
    (output / "state.safetensors").unlink(missing_ok=True)


def start(train: pd.DataFrame, wavespec: WaveSpecParams, loss: LossParams, training: TrainingParams, seed: int) -> State:
    """A network with its first weights (seeded, or pretrained), its loss and Adam with a learning rate for each part."""
    torch.manual_seed(seed)
    network = WaveSpec(wavespec, configuration(wavespec.encoder, wavespec.encoder.taps[-1], wavespec.encoder.dropout))
    if network.encoder is not None and wavespec.encoder.pretrained:
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
