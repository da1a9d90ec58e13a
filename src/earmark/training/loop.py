"""The training loop of every network.

Nothing drawn depends on what was drawn before: each forward pass is seeded by (seed, epoch, number of the micro-batch), so a run killed
anywhere goes on from its checkpoint to the same bits, and two processes see what one that accumulates gradients sees.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from earmark import InputError
from earmark.params import TrainingParams
from earmark.storage import checkpoint

log = logging.getLogger(__name__)


@dataclass
class State:
    """Training in progress; `objective` maps a batch to metrics, and holds `network` and the loss's own parameters."""

    objective: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0  # optimiser steps done in this epoch
    best_value: float = math.inf  # criterion of the epoch that is kept, of the best the least of any
    best_epoch: int = -1
    totals: dict[str, float] = field(default_factory=dict)  # sums over this epoch's steps
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # the network's weights after that epoch

    COUNTERS: ClassVar = ("epoch", "step", "best_value", "best_epoch", "totals", "history")

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write everything that `resume` needs as one file."""
        tensors = checkpoint.prefixed(self.objective.state_dict(), "objective") | checkpoint.prefixed(self.best, "best")
        counters = {name: getattr(self, name) for name in self.COUNTERS}
        checkpoint.save(path, tensors | checkpoint.optimizer_tensors(self.optimizer), {"identity": identity, "counters": counters})

    def resume(self, path: Path, identity: dict[str, Any]) -> None:
        """Take up a checkpoint. Errors: InputError naming the settings that differ from this run's."""
        tensors, meta = checkpoint.load(path)
        other = meta["identity"]
        if differing := sorted(key for key in {*identity, *other} if identity.get(key) != other.get(key)):
            raise InputError(f"{path} is of a run with other {', '.join(differing)}: restore them, or remove that file to start again")
        self.objective.load_state_dict(checkpoint.unprefixed(tensors, "objective"))
        checkpoint.restore_optimizer(self.optimizer, tensors)
        self.best = checkpoint.unprefixed(tensors, "best")
        for name, value in meta["counters"].items():
            setattr(self, name, value)
        log.info("resumed %s at epoch %d, step %d", path, self.epoch + 1, self.step)


class Task(Protocol):
    """What the loop is given."""

    criterion: ClassVar[str]  # metric of `validate` that the best epoch has least of

    def steps(self, epoch: int) -> int:
        """Optimiser steps of an epoch."""
        ...

    def begin_epoch(self, epoch: int) -> None:
        """Freeze or release parts."""
        ...

    def batches(self, epoch: int, first: int) -> Iterable[tuple[int, Any]]:
        """(micro-batch number, batch) for this process, from optimiser step `first` on."""
        ...

    def forward(self, model: nn.Module, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalar metrics of a micro-batch, `loss` among them."""
        ...

    def validate(self) -> dict[str, float]:
        """Flat metrics on dev, the criterion among them."""
        ...


@dataclass(frozen=True)
class Runner:
    """Settings and place of a run."""

    training: TrainingParams
    seed: int
    checkpoint: Path
    identity: dict[str, Any]  # settings and data: a checkpoint of others is refused
    accelerator: Accelerator
    series: str = ""  # what the figures of the epochs are called by whoever listens to the log


def load(clips: Dataset, micro: list[list[Any]], first: int, workers: int, accelerator: Accelerator) -> Iterable[tuple[int, Any]]:
    """(number, batch) of this process's micro-batches from number `first` on; micro-batch m belongs to process m modulo their number."""
    numbers = range(first, len(micro))
    mine = [number for number in numbers if number % accelerator.num_processes == accelerator.process_index]
    chosen: Any = [micro[number] for number in mine]  # batch samplers may yield any item
    pinned = accelerator.device.type == "cuda"
    return zip(mine, DataLoader(clips, batch_sampler=chosen, num_workers=workers, pin_memory=pinned), strict=True)


def fit(state: State, task: Task, runner: Runner) -> list[dict[str, float]]:
    """Train to the last epoch or until the criterion stops falling; return a row an epoch. The network ends with the weights of the best
    epoch, or of the last where `keep` says so.

    A checkpoint is written every `checkpoint_minutes` and after each epoch; one that is there is taken up.
    Errors: InputError when the loss is not finite, naming epoch and step, or when the checkpoint is of other settings.
    """
    training, main = runner.training, runner.accelerator.is_main_process
    state.objective.to(runner.accelerator.device)
    if runner.checkpoint.exists():
        state.resume(runner.checkpoint, runner.identity)
    total = sum(map(task.steps, range(training.epochs)))
    with _bar(disable=not main) as bar:
        shown = bar.add_task("train", total=total, note="")
        while state.epoch < training.epochs and state.epoch - 1 - state.best_epoch < training.patience:
            _epoch(state, task, runner, total, lambda done, note: bar.update(shown, completed=done, note=note))
            _average_buffers(state.objective, runner.accelerator)
            _close_epoch(state, task, training.keep)
            _tell(state, runner.series)
            if main:
                state.save(runner.checkpoint, runner.identity)
            runner.accelerator.wait_for_everyone()
    network(state).load_state_dict(state.best)
    return state.history


def _tell(state: State, series: str) -> None:
    """Log the last epoch's row, for readers and, in the record's `extra`, for handlers that track figures."""
    row = state.history[-1]
    figures = {name: value for name, value in row.items() if name != "epoch"}
    text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    log.info("epoch %d: %s", state.epoch, text, extra={"metrics": figures, "step": state.epoch, "series": series})


def network(state: State) -> nn.Module:
    """The network inside the objective."""
    return state.objective.get_submodule("network")


def _epoch(state: State, task: Task, runner: Runner, total: int, show: Callable[[int, str], None]) -> None:
    """The optimiser steps of one epoch that are still to do."""
    state.objective.train()
    task.begin_epoch(state.epoch)
    model = runner.accelerator.prepare_model(state.objective)  # anew each epoch, since what is frozen may have changed
    before, steps = sum(map(task.steps, range(state.epoch))), task.steps(state.epoch)
    batches, saved, clock = iter(task.batches(state.epoch, state.step)), time.monotonic(), _Clock()
    while state.step < steps:
        _set_rates(state.optimizer, runner.training, before + state.step, total, state.epoch)
        for name, value in _step(state, model, task, runner, batches, clock).items():
            state.totals[name] = state.totals.get(name, 0.0) + value
        state.step += 1
        last = f", {task.criterion} {state.history[-1][task.criterion]:.2%}" if state.history else ""
        show(
            before + state.step,
            f"loss {state.totals['loss'] / state.step:.4f}{last}, {clock.rate(runner.training.batch_size):.0f} utterances/s",
        )
        if runner.accelerator.is_main_process and time.monotonic() - saved > 60 * runner.training.checkpoint_minutes:
            state.save(runner.checkpoint, runner.identity)
            saved = time.monotonic()
    runner.accelerator.free_memory()
    log.info("%.1f %% of the epoch was spent waiting for data", 100 * clock.waited_share)


class _Clock:
    """Time of a run of steps, and the part of it spent waiting for data."""

    def __init__(self):
        self.started, self.waited, self.steps = time.monotonic(), 0.0, 0

    def rate(self, batch_size: int) -> float:
        return self.steps * batch_size / (time.monotonic() - self.started)

    @property
    def waited_share(self) -> float:
        return self.waited / max(time.monotonic() - self.started, 1e-9)


def _step(state: State, model: nn.Module, task: Task, runner: Runner, batches: Any, clock: _Clock) -> dict[str, float]:
    """One optimiser step: mean metrics over its micro-batches and processes."""
    sums: dict[str, Tensor] = {}
    for _ in range(runner.training.accumulation):
        asked = time.monotonic()
        number, batch = next(batches)
        clock.waited += time.monotonic() - asked
        generator = _seed(runner.seed, state.epoch, number)
        with runner.accelerator.accumulate(model):
            with runner.accelerator.autocast():
                metrics = task.forward(model, batch, generator)
            runner.accelerator.backward(metrics["loss"])
        sums = {name: sums.get(name, 0) + value.detach() / runner.training.accumulation for name, value in metrics.items()}
    means = runner.accelerator.reduce(torch.stack([value.float() for value in sums.values()]), reduction="mean")
    values = dict(zip(sums, torch.as_tensor(means).tolist(), strict=True))
    if not math.isfinite(values["loss"]):
        raise InputError(f"the loss is {values['loss']} in epoch {state.epoch + 1}, step {state.step + 1}: lower training.lr")
    nn.utils.clip_grad_norm_(state.objective.parameters(), runner.training.clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    clock.steps += 1
    return values


def _close_epoch(state: State, task: Task, keep: str) -> None:
    """Validate, keep the weights if they are the best yet or the last are wanted, and begin the next epoch's counters."""
    state.objective.eval()
    row = {"epoch": state.epoch + 1, **{name: total / state.step for name, total in state.totals.items()}, **task.validate()}
    if keep == "last" or row[task.criterion] < state.best_value:
        state.best_value, state.best_epoch = row[task.criterion], state.epoch
        state.best = {name: tensor.detach().cpu().clone() for name, tensor in network(state).state_dict().items()}
    state.history.append(row)
    state.epoch, state.step, state.totals = state.epoch + 1, 0, {}


def _set_rates(optimizer: torch.optim.Optimizer, training: TrainingParams, step: int, total: int, epoch: int) -> None:
    """Linear warm-up, then a cosine to 0 or a half every so many epochs, times each group's own `base_lr`."""
    warm = min(1.0, (step + 1) / (training.warmup_steps + 1))
    fall = 0.5 ** (epoch // training.halve_epochs) if training.halve_epochs else 0.5 * (1 + math.cos(math.pi * step / total))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * warm * fall


def _seed(*parts: int) -> torch.Generator:
    """Seed torch (dropout) and return a CPU generator (augmentation), both a function of `parts` alone."""
    first, second = np.random.SeedSequence(parts).generate_state(2, np.uint64).tolist()
    torch.manual_seed(first)
    return torch.Generator().manual_seed(second)


def _average_buffers(objective: nn.Module, accelerator: Accelerator) -> None:
    """Batch statistics are each process's own: their mean serves all."""
    if accelerator.num_processes > 1:
        for buffer in objective.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.as_tensor(accelerator.reduce(buffer, reduction="mean")))


def _bar(disable: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, disable=disable)


def identity(train: pd.DataFrame, dev: pd.DataFrame, **sections: Any) -> dict[str, Any]:
    """What a checkpoint must agree with: every setting by its path, and the digest of the data."""
    rows = pd.concat([train, dev])[["utterance_id", "key", "source", "digest"]].fillna("-")
    content = "\n".join(rows.agg(" ".join, axis=1))
    flat = {"training data": hashlib.sha256(content.encode()).hexdigest()}
    for name, section in sections.items():
        flat |= dict(_flatten(json.loads(section.model_dump_json()), name))
    return flat


def _flatten(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every setting by its whole path."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def trained(path: Path, identifies: dict[str, Any]) -> dict[str, float] | None:
    """Figures of the member that lies there, if it came of just these data and settings."""
    try:
        _, meta = checkpoint.load(path)
    except InputError:  # not there, or damaged
        return None
    return meta["figures"] if meta.get("identity") == identifies else None
