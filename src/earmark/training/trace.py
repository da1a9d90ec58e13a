"""Training of the tracer's members: networks by Real Emphasis and then Fake Dispersion on the shared loop, mixtures by counting."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object
from rich.progress import track
from torch import Tensor, nn

from earmark import InputError
from earmark.corpora.sources import Labels, Rows, Trials
from earmark.features.lfcc import lfcc
from earmark.features.shards import Features, select
from earmark.networks.classifier import Classifier
from earmark.networks.compute import accelerator
from earmark.networks.gmm import Mixtures
from earmark.params import (
    AudioParams,
    BackendParams,
    ComputeParams,
    CqtParams,
    FrontEndParams,
    GmmParams,
    TracerParams,
)
from earmark.scoring.embedding import Network, Setup, embed, outputs_of, save_member, set_up_on
from earmark.storage.files import complete, read_table
from earmark.training.batches import batch_size, count_pairs, draw_batches
from earmark.training.loop import Runner, State, fit, identity, load, trained
from earmark.training.objectives import Dispersion, Emphasis

log = logging.getLogger(__name__)
Item = tuple[str, int, int]  # utterance_id, first sample, label


@dataclass
class TracerTask:
    """A stage of the tracer on the shared loop: see `training.Task`."""

    criterion: ClassVar = "dev/error"
    network: Network
    setup: Setup
    seed: int
    train: Rows
    dev: Rows
    pairs: int = 0  # N of N-pair; 0: plain sampling

    def __post_init__(self):
        """A batch is whole: small corpora have smaller ones."""
        setup = self.setup
        self.micro_batches = setup.accelerator.num_processes * setup.tracer.training.accumulation
        self.size = batch_size(self.train, setup.tracer) // self.micro_batches

    def steps(self, epoch: int) -> int:
        """Whole batches alone."""
        return len(self.train.utterances) * self.setup.tracer.training.repeats // (self.size * self.micro_batches)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing is frozen: the front end is no part of the network."""

    def batches(self, epoch: int, first: int) -> Iterable[tuple[int, Any]]:
        """See `training.Task`."""
        rng = np.random.default_rng((self.seed, epoch))
        rows = draw_batches(self.train.labels, self.steps(epoch) * self.micro_batches, self.size, self.pairs, rng)
        micro = [self._items(batch, rng) for batch in rows]
        workers = self.setup.tracer.training.loader_workers
        return load(self.setup.clips_of(self.network.params), micro, first * self.micro_batches, workers, self.setup.accelerator)

    def _items(self, rows: Labels, rng: np.random.Generator) -> list[Item]:
        """A random crop of each row, starting on a whole frame."""
        ids, hop = [self.train.utterances[row] for row in rows], self.setup.cqt.hop_samples
        spare = (self.setup.stored.index.loc[ids, "samples"].to_numpy() - self.setup.audio.clip_samples) // hop
        return list(zip(ids, (rng.integers(0, spare + 1) * hop).tolist(), self.train.labels[rows].tolist(), strict=True))

    def forward(self, model: nn.Module, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """See `training.Task`."""
        return model(*(tensor.to(self.setup.accelerator.device, non_blocking=True) for tensor in batch))

    def validate(self) -> dict[str, float]:
        """Share of dev's utterances put in a wrong class and their cross-entropy, over whole utterances; each process takes its share."""
        own = slice(self.setup.accelerator.process_index, None, self.setup.accelerator.num_processes)
        labels = self.dev.labels[own]
        logits = torch.from_numpy(embed(self.network, self.setup, self.dev.utterances[own])[0])
        entropy = nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="none")
        wrong = logits.argmax(1).numpy() != labels
        means = (float(np.mean(gather_object(values))) for values in (wrong.tolist(), entropy.tolist()))
        return dict(zip(("dev/error", "dev/cross_entropy"), means, strict=True))


def train_tracer(
    seed: int, audio: AudioParams, cqt: CqtParams, front_end: FrontEndParams, tracer: TracerParams, compute: ComputeParams, *,
    protocol: Path, features: Path, hidden: Path, output: Path, member: str = "",
) -> dict[str, float]:  # fmt: skip
    """Train all members, or `member` alone: see `train`."""
    if member:
        tracer = _only(tracer, member)
    runner = accelerator(compute, tracer.training)
    return train(seed, set_up_on(Features(features), audio, cqt, front_end, tracer, runner, hidden), protocol, output)


def _only(tracer: TracerParams, member: str) -> TracerParams:
    """Settings with one member alone. Errors: InputError when there is none of that name."""
    if member not in tracer.members:
        raise InputError(f"--member {member}: tracer.members has {', '.join(tracer.members)}")
    return tracer.model_copy(update={"members": {member: tracer.members[member]}})


def train(seed: int, setup: Setup, protocol: Path, output: Path) -> dict[str, float]:
    """Train every member into `output`: <member>.safetensors, and <member>.csv of networks; return each one's figures on dev.

    Members that lie there already, of the same data and settings, are kept: another member costs its own training alone.
    Errors: InputError when train has fewer than two sources, dev none of them, or Real Emphasis no bona fide speech.
    """
    trials = Trials(select(setup.stored, read_table(protocol)), setup.tracer)
    shared, metrics = setup.tracer.model_copy(update={"members": {}}), {}
    for name, member in setup.tracer.members.items():
        rows = trials.with_bonafide("train"), trials.with_bonafide("dev")
        identifies = {"seed": seed} | identity(*rows, tracer=shared, member=member, **setup.sections)
        place = output / name
        if (found := trained(place.with_suffix(".safetensors"), identifies)) is None:
            work = Work(setup, seed, trials, place, identifies)
            found = _train_mixtures(work, member) if isinstance(member, GmmParams) else _train_network(work, member)
        metrics |= {f"{name}/{key}": value for key, value in found.items()}
    return metrics


@dataclass(frozen=True)
class Work:
    """What one member is made of beside its own settings."""

    setup: Setup
    seed: int
    trials: Trials
    place: Path
    identity: dict[str, Any]

    def rows(self, sources: tuple[str, ...]) -> tuple[Rows, Rows]:
        """Rows of train, and rows of dev with a known source."""
        train_rows, dev = (Rows.by_source(self.trials.spoofs(split), sources) for split in ("train", "dev"))
        if not len(dev.known.labels):
            raise InputError("dev has no utterance of a source of train: the tracer's best epoch cannot be chosen; give dev some")
        return train_rows, dev.known

    def save(
        self, member: Classifier | Mixtures, params: BackendParams | GmmParams, sources: tuple[str, ...], figures: dict[str, float]
    ) -> None:
        """Write the member, and say which data and settings it came of."""
        meta = {"identity": self.identity, "figures": figures}
        save_member(self.place.with_suffix(".safetensors"), member, params, sources, meta, self.setup.sections)


def _train_mixtures(work: Work, member: GmmParams) -> dict[str, float]:
    """Fit and write mixtures; return their error on dev. There is no gradient to share: every process but the first only waits."""
    sources, stored = work.trials.sources(), work.setup.stored
    train_rows, dev = work.rows(sources)
    figures = {"dev/error": 0.0}
    if work.setup.accelerator.is_main_process:
        frames = [lfcc(stored.waveform(name)) for name in track(train_rows.utterances, f"{work.place.name}: LFCC")]
        log.info("%s: fitting a common mixture and %d sources", work.place.name, len(sources))
        mixtures = Mixtures.fit(frames, train_rows.labels, member, work.seed)
        named = outputs_of(mixtures, work.setup, dev.utterances).logits.argmax(1)
        figures = {"dev/error": float(np.mean(named != dev.labels))}
        work.save(mixtures, member, sources, figures)
    return gather_object([figures])[0]  # of the first process; the others waited for it


def _train_network(work: Work, member: BackendParams) -> dict[str, float]:
    """Real Emphasis, then Fake Dispersion from its weights; write `place`.safetensors and .csv, return the best row."""
    setup, seed, trials, sources = work.setup, work.seed, work.trials, work.trials.sources()
    width, (train_rows, dev) = setup.clips_of(member).width, work.rows(sources)
    torch.manual_seed(seed)
    emphasised = Classifier(width, member, 2)
    if setup.tracer.emphasis.enabled:
        speech, both = (Rows.by_key(trials.with_bonafide(split)) for split in ("train", "dev"))
        if not (speech.labels.any() and both.labels.any()):
            raise InputError(
                "Real Emphasis needs bona fide speech in train and dev: add a corpus that has it, or set tracer.emphasis.enabled=false"
            )
        task = TracerTask(Network(emphasised, member), setup, seed, speech, both)
        _run(Emphasis(emphasised, setup.tracer.emphasis), task, work, "emphasis")
    torch.manual_seed(seed + 1)  # whether or not the first stage ran just now
    network, pairs = Classifier(width, member, len(sources)), count_pairs(train_rows, sources, setup.tracer)
    network.backend.load_state_dict(emphasised.backend.state_dict())
    objective = Dispersion(network, setup.tracer.dispersion, pairs)
    task = TracerTask(Network(network, member), setup, seed, train_rows, dev, pairs)
    state = _run(objective, task, work, "dispersion")
    figures = state.history[state.best_epoch]
    if setup.accelerator.is_main_process:
        with complete(work.place.with_suffix(".csv")) as aside:
            pd.DataFrame(state.history).to_csv(aside, index=False)
        work.save(network, member, sources, figures)
        for stage in ("emphasis", "dispersion"):
            _state_file(work, stage).unlink(missing_ok=True)
    setup.accelerator.wait_for_everyone()
    return figures


def _state_file(work: Work, stage: str) -> Path:
    return work.place.with_suffix(f".{stage}.safetensors")


def _run(objective: Emphasis | Dispersion, task: TracerTask, work: Work, stage: str) -> State:
    """Fit one stage. Its state stays, so that a run killed later finds this stage done."""
    training = work.setup.tracer.training
    groups = [{"params": list(objective.parameters()), "lr": training.lr, "base_lr": training.lr}]
    state = State(objective, torch.optim.Adam(groups, weight_decay=training.weight_decay))
    series = f"{work.place.name}/{stage}"
    fit(state, task, Runner(training, work.seed, _state_file(work, stage), work.identity, work.setup.accelerator, series))
    return state
