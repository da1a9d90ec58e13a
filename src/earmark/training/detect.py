"""Training of the detector's members: networks on the shared loop, mixtures by counting."""

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
from rich.progress import track
from torch import Tensor, nn

from earmark import InputError
from earmark.corpora.checks import check_needs
from earmark.features.clips import Clips, blank, disturbed
from earmark.features.lfcc import lfcc
from earmark.features.shards import Features, select
from earmark.features.views import transform
from earmark.metrics.detection import DetectionCurve, eer
from earmark.networks.compute import accelerator
from earmark.networks.detector import Detector, MixtureDetector, ViewDetector, build, save_detector
from earmark.networks.gmm import Mixtures
from earmark.networks.wavespec import WaveSpec
from earmark.params import (
    AudioParams,
    AugmentationParams,
    ComputeParams,
    CqtParams,
    DetectorMemberParams,
    DetectorParams,
    GmmParams,
    LossParams,
    ScoringParams,
    TrainingParams,
)
from earmark.scoring.windows import score
from earmark.storage.files import complete, read_table
from earmark.training.batches import draw
from earmark.training.loop import Runner, State, fit, identity, load, trained
from earmark.training.losses import DetectorLoss


class Objective(nn.Module):
    """Views and labels → metrics; network and loss in one module, so that processes share the gradients of both."""

    def __init__(self, network: WaveSpec | ViewDetector, loss: DetectorLoss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, waveform: Tensor, spectrogram: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, T), (B, C, K, F), (B,) → scalars, `loss` among them."""
        detection = self.network(waveform, spectrogram)
        return self.loss(detection.embedding, detection.logits, labels)


@dataclass
class DetectorTask:
    """A detector's network on the shared loop: see `training.Task`."""

    criterion: ClassVar = "dev/eer"
    network: WaveSpec | ViewDetector
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
        view = self.network.view
        self.transform = transform(view, self.cqt).to(self.accelerator.device) if self.augmentation.rawboost else None
        self.clips = Clips(self.features, self.audio, self.cqt, view, self.transform.margin_samples if self.transform else None)
        self.micro_batches = self.accelerator.num_processes * self.training.accumulation
        if self.training.batch_size % self.micro_batches or self.training.batch_size < 2 * self.micro_batches:
            raise InputError(
                f"training.batch_size {self.training.batch_size} of a detector's member must be a multiple of, and at least twice, "
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
        if isinstance(self.network, WaveSpec):
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
            with torch.autocast(waveform.device.type, enabled=False):  # in bfloat16 a CQT is off by up to 36 dB
                waveform, spectrogram = disturbed(waveform, self.augmentation, self.audio, self.transform, generator)
        blanked = blank(spectrogram, self.augmentation.spectrogram_bands, self.augmentation.spectrogram_frames, generator)
        return model(waveform, blanked, labels)

    def validate(self) -> dict[str, float]:
        """Dev EER over whole utterances; each process scores its share."""
        rows = self.dev.iloc[self.accelerator.process_index :: self.accelerator.num_processes]
        scored = score(self.network, self.features, rows, self.audio, self.cqt, self.scoring_batch, self.accelerator)
        scores = np.array(gather_object(scored["cm_score"].tolist()))
        labels = np.array(gather_object((rows["key"] == "bonafide").tolist()))
        return {"dev/eer": _eer(scores, labels)}


@dataclass(frozen=True)
class Work:
    """What one member is made of beside its own settings."""

    seed: int
    audio: AudioParams
    cqt: CqtParams
    stored: Features
    train: pd.DataFrame
    dev: pd.DataFrame
    scoring_batch: int
    place: Path  # of its files, without their suffixes
    identity: dict[str, Any]
    accelerator: Accelerator

    def save(self, network: Detector, figures: dict[str, float]) -> None:
        """Write the member, and say which data and settings it came of."""
        sections = {"audio": self.audio, "cqt": self.cqt}
        described = {name: json.loads(section.model_dump_json()) for name, section in sections.items()}
        save_detector(self.place.with_suffix(".safetensors"), network, described | {"identity": self.identity, "figures": figures})


def train_detector(
    seed: int, audio: AudioParams, cqt: CqtParams, detector: DetectorParams, scoring: ScoringParams, compute: ComputeParams, *,
    protocol: Path, features: Path, output: Path, member: str = "",
) -> dict[str, float]:  # fmt: skip
    """Train every member, or `member` alone, into `output`: <member>.safetensors, and <member>.csv of networks; return figures on dev.

    Members that lie there already, of the same data and settings, are kept: another member costs its own training alone. While one is
    trained `output`/<member>.state.safetensors is there, and is taken up by the next run when this one is killed.
    Errors: InputError when there is no such member, or train or dev has one key alone.
    """
    if member and member not in detector.members:
        raise InputError(f"--member {member}: detector.members has {', '.join(detector.members)}")
    stored, table = Features(features), read_table(protocol)
    train, dev = (select(stored, table[table["split"] == split]) for split in ("train", "dev"))
    check_needs(pd.concat([train, dev]), ("train", "dev"))
    metrics = {}
    for name, params in detector.members.items():
        if member in ("", name):
            identifies = {"seed": seed} | identity(train, dev, audio=audio, cqt=cqt, **{f"detector.members.{name}": params})
            place = output / name
            if (found := trained(place.with_suffix(".safetensors"), identifies)) is None:
                runner = accelerator(compute, params.training)
                work = Work(seed, audio, cqt, stored, train, dev, scoring.batch_size, place, identifies, runner)
                found = _count(work, params.network) if isinstance(params.network, GmmParams) else _train(work, params)
            metrics |= {f"{name}/{key}": value for key, value in found.items()}
    return metrics


def _train(work: Work, params: DetectorMemberParams) -> dict[str, float]:
    """Train a network; return the row of the epoch kept."""
    state = start(work.train, params, work.cqt, work.seed)
    network = cast(WaveSpec | ViewDetector, state.objective.get_submodule("network"))
    task = DetectorTask(
        network, work.stored, work.train, work.dev, work.audio, work.cqt, params.augmentation, params.training,
        work.scoring_batch, work.seed, work.accelerator,
    )  # fmt: skip
    running = work.place.with_suffix(".state.safetensors")
    history = fit(state, task, Runner(params.training, work.seed, running, work.identity, work.accelerator, f"{work.place.name}/training"))
    if work.accelerator.is_main_process:
        with complete(work.place.with_suffix(".csv")) as aside:
            pd.DataFrame(history).to_csv(aside, index=False)
        work.save(network, history[state.best_epoch])
        running.unlink(missing_ok=True)
    work.accelerator.wait_for_everyone()
    return history[state.best_epoch]


def _count(work: Work, params: GmmParams) -> dict[str, float]:
    """Fit mixtures of both keys, on copies only where there are no other spoofs; return their error on dev.

    There is no gradient to share: every process but the first only waits.
    """
    figures = {"dev/eer": 0.0}
    if work.accelerator.is_main_process:
        rows, spoof = work.train, work.train["key"] == "spoof"
        if (spoof & ~rows["copied"]).any():
            rows = rows[~rows["copied"].astype(bool)]
        frames = [lfcc(work.stored.waveform(name)) for name in track(list(rows["utterance_id"]), f"{work.place.name}: LFCC")]
        network = MixtureDetector(params, Mixtures.fit(frames, (rows["key"] == "bonafide").to_numpy(int), params, work.seed))
        network.to(work.accelerator.device)
        scored = score(network, work.stored, work.dev, work.audio, work.cqt, work.scoring_batch, work.accelerator)
        figures = {"dev/eer": _eer(scored["cm_score"].to_numpy(), (work.dev["key"] == "bonafide").to_numpy())}
        work.save(network, figures)
        for left in (".csv", ".state.safetensors"):  # of a network that had this name
            work.place.with_suffix(left).unlink(missing_ok=True)
    return gather_object([figures])[0]  # of the first process; the others waited for it


def _eer(scores: np.ndarray, is_bonafide: np.ndarray) -> float:
    return float(eer(DetectionCurve.of(scores[is_bonafide], scores[~is_bonafide])))


def start(train: pd.DataFrame, params: DetectorMemberParams, cqt: CqtParams, seed: int) -> State:
    """A network with its first weights (seeded, or pretrained), its loss and Adam with a learning rate for each part."""
    torch.manual_seed(seed)
    training, network = params.training, build(params.network, cqt)
    objective = Objective(network, DetectorLoss(params.loss, network.embedding, class_weights(train, params.loss, training)))
    slow = {id(parameter) for parameter in (network.encoder_parameters() if isinstance(network, WaveSpec) else ())}
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
