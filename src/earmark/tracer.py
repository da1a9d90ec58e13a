"""Training of the tracer: Real Emphasis, then Fake Dispersion, on the shared loop. Known sources are those of the train split.

Shapes: B batch, F frames, D feature width, E embedding, S known sources, N utterances.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from earmark import InputError, checkpoint
from earmark.corpora.protocol import SPLITS
from earmark.detector import identity
from earmark.features.clips import Clips, mean_by_utterance, windows
from earmark.features.shards import Features
from earmark.files import complete, read_table, write_table
from earmark.losses import OneClassSoftmax, mix, mixed_cross_entropy, n_pair
from earmark.networks.tracer import Tracer, cqt_features, cqt_width
from earmark.params import AudioParams, ComputeParams, CqtParams, DispersionParams, EmphasisParams, MemberParams, TracerParams
from earmark.scoring import refuse_other_views
from earmark.training import Runner, State, accelerator, fit, load

log = logging.getLogger(__name__)
Labels = NDArray[np.int64]
Item = tuple[str, int, int]  # utterance_id, first sample, label
UNSEEN = -1


class Emphasis(nn.Module):
    """Stage 1: cross-entropy of bona fide against spoof + weight · OC-softmax (METHODS section 2)."""

    def __init__(self, network: Tracer, params: EmphasisParams):
        super().__init__()
        self.network, self.weight = network, params.oc_softmax
        self.one_class = OneClassSoftmax(network.backend.embedding, params.r_real, params.r_fake, params.alpha)

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, F, D), (B,) 1 = bona fide → scalars, `loss` among them."""
        tracing = self.network(features)
        entropy, one_class = nn.functional.cross_entropy(tracing.logits, labels), self.one_class(tracing.embedding, labels)
        return {"loss": entropy + self.weight * one_class, "cross_entropy": entropy, "oc_softmax": one_class}


class Dispersion(nn.Module):
    """Stage 2: cross-entropy + η · RegMixup + λ · N-pair (METHODS section 2).

    The first 2N rows of a batch, N = `pairs`, are N anchors and then their N positives. N-pair takes them unmixed.
    """

    def __init__(self, network: Tracer, params: DispersionParams, pairs: int):
        super().__init__()
        self.network, self.params, self.pairs = network, params, pairs

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, F, D), (B,) numbers of sources → scalars, `loss` among them."""
        params, tracing = self.params, self.network(features)
        metrics = {"cross_entropy": nn.functional.cross_entropy(tracing.logits, labels)}
        loss = metrics["cross_entropy"]
        if params.regmixup:
            mixed, others, share = mix(features, labels, params.regmixup_alpha)
            metrics["regmixup"] = mixed_cross_entropy(self.network(mixed).logits, labels, others, share)
            loss = loss + params.regmixup * metrics["regmixup"]
        if params.n_pair and self.pairs:
            anchors, positives = tracing.embedding[: self.pairs], tracing.embedding[self.pairs : 2 * self.pairs]
            metrics["n_pair"] = n_pair(anchors, positives, params.n_pair_penalty)
            loss = loss + params.n_pair * metrics["n_pair"]
        return {"loss": loss} | metrics


@dataclass(frozen=True)
class Rows:
    """Utterances and the number of each one's class; UNSEEN where it has none."""

    utterances: list[str]
    labels: Labels

    @classmethod
    def by_key(cls, rows: pd.DataFrame) -> "Rows":
        """1 = bona fide, 0 = spoof."""
        return cls(rows["utterance_id"].tolist(), (rows["key"] == "bonafide").to_numpy(np.int64))

    @classmethod
    def by_source(cls, rows: pd.DataFrame, sources: tuple[str, ...]) -> "Rows":
        """Numbers of `sources`."""
        return cls(rows["utterance_id"].tolist(), pd.Index(sources).get_indexer(pd.Index(rows["source"])).astype(np.int64))

    @property
    def known(self) -> "Rows":
        """Those that have a class."""
        chosen = np.flatnonzero(self.labels != UNSEEN)
        return Rows([self.utterances[row] for row in chosen], self.labels[chosen])


@dataclass(frozen=True)
class Setup:
    """What both stages of all members share."""

    seed: int
    audio: AudioParams
    cqt: CqtParams
    tracer: TracerParams
    features: Features
    table: pd.DataFrame  # rows of the protocol that have features
    accelerator: Accelerator

    def spoofs(self, split: str) -> pd.DataFrame:
        """Spoofs that tracing is about: those with a source, copies among them only if `made_sources`."""
        rows = self.table[(self.table["split"] == split) & (self.table["key"] == "spoof") & self.table["source"].notna()]
        return rows if self.tracer.made_sources else rows[~rows["made"].astype(bool)]

    def with_bonafide(self, split: str) -> pd.DataFrame:
        """Those spoofs and the bona fide speech of any corpus."""
        return pd.concat([self.table[(self.table["split"] == split) & (self.table["key"] == "bonafide")], self.spoofs(split)])

    def sources(self) -> tuple[str, ...]:
        """Sources of the train split, sorted. Errors: InputError when there are fewer than two."""
        sources = tuple(sorted(self.spoofs("train")["source"].unique()))
        if len(sources) < 2:
            found = f"only {sources[0]}" if sources else "none"
            raise InputError(f"tracing needs two sources in train, there is {found}: add spoofs with a source, or set tracer.made_sources")
        return sources


@dataclass
class TracerTask:
    """A stage of the tracer on the shared loop: see `training.Task`."""

    criterion: ClassVar = "dev/error"
    network: Tracer
    setup: Setup
    train: Rows
    dev: Rows
    pairs: int = 0  # N of N-pair; 0: plain sampling
    clips: Clips = field(init=False)

    def __post_init__(self):
        """A batch is whole: small corpora have smaller ones."""
        setup = self.setup
        self.clips = Clips(setup.features, setup.audio, setup.cqt)
        self.micro_batches = setup.accelerator.num_processes * setup.tracer.training.accumulation
        self.size = batch_size(self.train, setup.tracer) // self.micro_batches

    def steps(self, epoch: int) -> int:
        """Whole batches alone."""
        return len(self.train.utterances) * self.setup.tracer.training.repeats // (self.size * self.micro_batches)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing is frozen: the front end is no part of the network."""

    def batches(self, epoch: int, first: int) -> Iterable[tuple[int, Any]]:
        """See `training.Task`."""
        rng = np.random.default_rng((self.setup.seed, epoch))
        rows = draw_batches(self.train.labels, self.steps(epoch) * self.micro_batches, self.size, self.pairs, rng)
        micro = [self._items(batch, rng) for batch in rows]
        return load(self.clips, micro, first * self.micro_batches, self.setup.tracer.training.loader_workers, self.setup.accelerator)

    def _items(self, rows: Labels, rng: np.random.Generator) -> list[Item]:
        """A random crop of each row, starting on a whole frame."""
        ids, hop = [self.train.utterances[row] for row in rows], self.setup.cqt.hop_samples
        spare = (self.setup.features.index.loc[ids, "samples"].to_numpy() - self.setup.audio.clip_samples) // hop
        return list(zip(ids, (rng.integers(0, spare + 1) * hop).tolist(), self.train.labels[rows].tolist(), strict=True))

    def forward(self, model: nn.Module, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """See `training.Task`."""
        _, cqt, labels = (tensor.to(self.setup.accelerator.device, non_blocking=True) for tensor in batch)
        return model(cqt_features(cqt, self.setup.tracer.phase), labels)

    def validate(self) -> dict[str, float]:
        """Share of dev's utterances put in a wrong class and their cross-entropy, over whole utterances; each process takes its share."""
        own = slice(self.setup.accelerator.process_index, None, self.setup.accelerator.num_processes)
        labels = self.dev.labels[own]
        logits = torch.from_numpy(embed(self.network, self.setup, self.dev.utterances[own])[0])
        entropy = nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="none")
        wrong = logits.argmax(1).numpy() != labels
        means = (float(np.mean(gather_object(values))) for values in (wrong.tolist(), entropy.tolist()))
        return dict(zip(("dev/error", "dev/cross_entropy"), means, strict=True))


@torch.no_grad()
def embed(network: Tracer, setup: Setup, utterances: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits (N, S) and embeddings (N, E) of whole utterances: means over windows of clip length, hop half."""
    network.eval()
    items = [
        (name, start, 0)
        for name, start in windows(pd.DataFrame({"utterance_id": utterances}), setup.features.index, setup.audio, setup.cqt)
    ]
    size, found = setup.tracer.embedding_batch, []
    chosen: Any = [items[first : first + size] for first in range(0, len(items), size)]
    for _, spectrum, _ in DataLoader(Clips(setup.features, setup.audio, setup.cqt), batch_sampler=chosen):
        with setup.accelerator.autocast():
            tracing = network(cqt_features(spectrum.to(setup.accelerator.device), setup.tracer.phase))
        found.append(torch.cat((tracing.logits.float(), tracing.embedding.float()), dim=1).cpu().numpy())
    means = mean_by_utterance([item[0] for item in items], np.concatenate(found), utterances)
    classes = network.head.out_features
    return means[:, :classes], means[:, classes:]


def draw_batches(labels: Labels, count: int, size: int, pairs: int, rng: np.random.Generator) -> list[Labels]:
    """Row numbers of `count` batches: one utterance each of `pairs` sources, another of each, and plain sampling up to `size`.

    Plain sampling takes every row once before any a second time. Sources with one utterance have no pair.
    """
    places = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    paired = [label for label, rows in places.items() if len(rows) > 1]
    rest = size - 2 * pairs
    plain = np.concatenate([rng.permutation(len(labels)) for _ in range(-(-count * rest // len(labels)) or 1)])
    batches = []
    for batch in range(count):
        chosen = rng.permutation(paired)[:pairs]
        two = np.array([rng.permutation(places[label])[:2] for label in chosen], dtype=np.int64).reshape(-1, 2)
        batches.append(np.concatenate([two[:, 0], two[:, 1], plain[batch * rest : (batch + 1) * rest]]))
    return batches


def batch_size(train: Rows, tracer: TracerParams) -> int:
    """The batch that params ask for, or all rows where there are fewer."""
    return min(tracer.training.batch_size, len(train.utterances))


def count_pairs(train: Rows, sources: tuple[str, ...], tracer: TracerParams) -> int:
    """N of N-pair: sources in a batch with a pair. Those with one utterance have none, and are named in the log."""
    counts = np.bincount(train.labels, minlength=len(sources))
    if lonely := [source for source, count in zip(sources, counts, strict=True) if count < 2]:
        log.warning("no N-pair for sources with one utterance: %s", ", ".join(lonely))
    most = min(len(sources) - len(lonely), tracer.dispersion.n_pair_sources, batch_size(train, tracer) // 2)
    return most if tracer.dispersion.n_pair and most > 1 else 0


def train(
    seed: int, audio: AudioParams, cqt: CqtParams, tracer: TracerParams, compute: ComputeParams,
    protocol: Path, features: Path, output: Path,
) -> dict[str, float]:  # fmt: skip
    """Train every member into `output`: <member>.safetensors and <member>.csv; return each one's best row.

    Errors: InputError when train has fewer than two sources, dev none of them, or Real Emphasis no bona fide speech.
    """
    stored = Features(features)
    setup = Setup(seed, audio, cqt, tracer, stored, stored.select(read_table(protocol)), accelerator(compute, tracer.training))
    found = {name: train_member(setup, member, output / name) for name, member in tracer.members.items()}
    return {f"{name}/{key}": value for name, row in found.items() for key, value in row.items()}


def train_member(setup: Setup, member: MemberParams, place: Path) -> dict[str, float]:
    """Real Emphasis, then Fake Dispersion from its weights; write `place`.safetensors and .csv, return the best row."""
    sources, width = setup.sources(), cqt_width(setup.cqt, setup.tracer.phase)
    train_rows, dev = (Rows.by_source(setup.spoofs(split), sources) for split in ("train", "dev"))
    if not len(dev.known.labels):
        raise InputError("dev has no utterance of a source of train: the tracer's best epoch cannot be chosen; give dev some")
    torch.manual_seed(setup.seed)
    emphasised = Tracer(width, member, 2)
    if setup.tracer.emphasis.enabled:
        speech, trials = (Rows.by_key(setup.with_bonafide(split)) for split in ("train", "dev"))
        if not (speech.labels.any() and trials.labels.any()):
            raise InputError(
                "Real Emphasis needs bona fide speech in train and dev: add a corpus that has it, or set tracer.emphasis.enabled=false"
            )
        _run(Emphasis(emphasised, setup.tracer.emphasis), setup, member, speech, trials, 0, place.with_suffix(".emphasis.safetensors"))
    torch.manual_seed(setup.seed + 1)  # whether or not the first stage ran just now
    network, pairs = Tracer(width, member, len(sources)), count_pairs(train_rows, sources, setup.tracer)
    network.backend.load_state_dict(emphasised.backend.state_dict())
    objective = Dispersion(network, setup.tracer.dispersion, pairs)
    state = _run(objective, setup, member, train_rows, dev.known, pairs, place.with_suffix(".dispersion.safetensors"))
    if setup.accelerator.is_main_process:
        _write(network, state, setup, member, sources, place)
    setup.accelerator.wait_for_everyone()
    return state.history[state.best_epoch]


def _run(
    objective: Emphasis | Dispersion, setup: Setup, member: MemberParams, train_rows: Rows, dev: Rows, pairs: int, state_file: Path
) -> State:
    """Fit one stage. Its state stays in `state_file`, so that a run killed later finds this stage done."""
    training = setup.tracer.training
    groups = [{"params": list(objective.parameters()), "lr": training.lr, "base_lr": training.lr}]
    state = State(objective, torch.optim.Adam(groups, weight_decay=training.weight_decay))
    task = TracerTask(objective.network, setup, train_rows, dev, pairs)
    rows = setup.with_bonafide("train"), setup.with_bonafide("dev")
    identifies = {"seed": setup.seed} | identity(*rows, audio=setup.audio, cqt=setup.cqt, tracer=setup.tracer, member=member)
    fit(state, task, Runner(training, setup.seed, state_file, identifies, setup.accelerator))
    return state


def _write(network: Tracer, state: State, setup: Setup, member: MemberParams, sources: tuple[str, ...], place: Path) -> None:
    with complete(place.with_suffix(".csv")) as aside:
        pd.DataFrame(state.history).to_csv(aside, index=False)
    sections = {"audio": setup.audio, "cqt": setup.cqt, "tracer": setup.tracer, "member": member}
    meta = {name: json.loads(section.model_dump_json()) for name, section in sections.items()} | {"sources": sources}
    checkpoint.save(place.with_suffix(".safetensors"), dict(network.state_dict()), meta)
    for stage in ("emphasis", "dispersion"):
        place.with_suffix(f".{stage}.safetensors").unlink(missing_ok=True)


def load_tracer(path: Path) -> tuple[Tracer, dict[str, Any]]:
    """Network in evaluation mode, and the checkpoint's dict. Errors: InputError when the file holds no tracer."""
    tensors, meta = checkpoint.load(path)
    if "sources" not in meta:
        raise InputError(f"{path} holds no tracer")
    member = TypeAdapter(MemberParams).validate_python(meta["member"])
    cqt, tracer = CqtParams.model_validate(meta["cqt"]), TracerParams.model_validate(meta["tracer"])
    network = Tracer(cqt_width(cqt, tracer.phase), member, len(meta["sources"]))
    network.load_state_dict(tensors, strict=True)
    return network.eval(), meta


def embed_all(
    audio: AudioParams, cqt: CqtParams, tracer: TracerParams, compute: ComputeParams,
    protocol: Path, features: Path, members: Path, output: Path,
) -> dict[str, float]:  # fmt: skip
    """Table `output`/<member>.parquet for every member: utterance_id, logits, embedding of all spoofs that tracing is about.

    Errors: InputError when a member was trained with other params.
    """
    stored, runner = Features(features), accelerator(compute, tracer.training)
    setup = Setup(0, audio, cqt, tracer, stored, stored.select(read_table(protocol)), runner)
    utterances = pd.concat([setup.spoofs(split) for split in SPLITS])["utterance_id"].tolist()
    for name in track(tracer.members, "embed", disable=not runner.is_main_process):
        network, meta = load_tracer(members / f"{name}.safetensors")
        refuse_other_views(meta, audio, cqt, members / f"{name}.safetensors")
        logits, embeddings = embed(network.to(runner.device), setup, utterances)
        table = pd.DataFrame({"utterance_id": utterances, "logits": list(logits), "embedding": list(embeddings)})
        write_table(output / f"{name}.parquet", table, sources=json.dumps(meta["sources"]))
    return {"utterances": len(utterances), "members": len(tracer.members)}
