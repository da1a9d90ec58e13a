"""Members of the ensemble as files, and what they say of whole utterances.

Shapes: N utterances, S known sources, E embedding.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch.utils.data import DataLoader

from earmark import InputError
from earmark.corpora.protocol import SPLITS
from earmark.corpora.sources import Trials
from earmark.features.clips import Clips, Frames, mean_by_utterance, windows
from earmark.features.lfcc import lfcc
from earmark.features.shards import Features, Stored, select
from earmark.features.views import bins
from earmark.networks.classifier import Classifier
from earmark.networks.compute import processor
from earmark.networks.gmm import NAMES, Mixtures
from earmark.params import (
    AudioParams,
    BackendParams,
    ComputeParams,
    CqtParams,
    FrontEndParams,
    GmmParams,
    MemberParams,
    Section,
    TracerParams,
)
from earmark.scoring.front_end import FrontEnd
from earmark.scoring.outputs import Output, tabulate_outputs
from earmark.scoring.parts import refuse_other_params, write_parts
from earmark.storage import checkpoint
from earmark.storage.files import read_table


@dataclass(frozen=True)
class Network:
    """A trained network and its settings."""

    network: Classifier
    params: BackendParams


Member = Network | Mixtures


@dataclass(frozen=True)
class Setup:
    """What both training stages of all members, and embedding, share."""

    audio: AudioParams
    cqt: CqtParams
    front_end: FrontEndParams
    tracer: TracerParams
    stored: Stored
    clips: FrontEnd
    accelerator: Any  # accelerate's where members are trained, else a Processor

    @property
    def sections(self) -> dict[str, Section]:
        """Settings that a member's weights depend on beside its own."""
        return {"audio": self.audio, "cqt": self.cqt, "front_end": self.front_end}

    def clips_of(self, member: BackendParams) -> FrontEnd | Frames:
        """What a network reads."""
        if member.reads == "front_end":
            return self.clips
        return Frames(Clips(self.stored, self.audio, self.cqt, member.reads), bins(member.reads, self.cqt))


def set_up(
    audio: AudioParams, cqt: CqtParams, front_end: FrontEndParams, tracer: TracerParams, compute: ComputeParams,
    features: Path, hidden: Path,
) -> Setup:  # fmt: skip
    """Open stored features for trained members. Errors: InputError when they are not there."""
    return set_up_on(Features(features), audio, cqt, front_end, tracer, processor(compute), hidden)


def set_up_on(
    stored: Stored, audio: AudioParams, cqt: CqtParams, front_end: FrontEndParams, tracer: TracerParams, runner: Any, hidden: Path
) -> Setup:
    """Setup on any stored utterances and a given processor; an Accelerator to train members."""
    clips = FrontEnd(front_end, stored, audio, cqt, hidden)
    return Setup(audio, cqt, front_end, tracer, stored, clips, runner)


def embed_utterances(
    audio: AudioParams, cqt: CqtParams, front_end: FrontEndParams, tracer: TracerParams, compute: ComputeParams, *,
    protocol: Path, features: Path, hidden: Path, members: Path, output: Path, shard: str = "1/1",
) -> dict[str, float]:  # fmt: skip
    """Write what trained members say of the protocol's spoofs: see `embed_splits`."""
    return embed_splits(set_up(audio, cqt, front_end, tracer, compute, features, hidden), protocol, members, output, shard)


def embed_splits(setup: Setup, protocol: Path, members: Path, output: Path, shard: str = "1/1") -> dict[str, float]:
    """A part for each shard of features, utterance_id and <member>/logits, <member>/embedding of all spoofs that tracing is about.

    Worker i of n takes every n-th part; parts made by these very members are not made again.
    Errors: InputError when a member was trained with other params, or members differ in sources.
    """
    rows = select(setup.stored, Trials(read_table(protocol), setup.tracer).spoofs(*SPLITS))
    loaded, metas = load_members(setup.tracer.members, setup.sections, members)
    marks = {"members": digest(members, tuple(loaded)), "sources": json.dumps(agreed_sources(metas))}

    def make(part: pd.DataFrame) -> pd.DataFrame:
        return tabulate_outputs(
            part["utterance_id"].tolist(),
            {name: outputs_of(member, setup, part["utterance_id"].tolist()) for name, member in loaded.items()},
        )

    complete = write_parts(rows, setup.stored, output, marks, shard, make, "embed", setup.accelerator.is_main_process)
    return {"utterances": len(rows), "members": len(loaded), "complete": float(complete)}


def load_members(names: Iterable[str], sections: dict[str, Section], folder: Path) -> tuple[dict[str, Member], dict[str, dict[str, Any]]]:
    """Members by name, and their checkpoints' dicts. Errors: InputError when one was trained with other params."""
    found = {name: load_member(folder / f"{name}.safetensors", sections) for name in names}
    return {name: member for name, (member, _) in found.items()}, {name: meta for name, (_, meta) in found.items()}


def digest(folder: Path, members: tuple[str, ...]) -> str:
    """SHA-256 of the members' files, in their order."""
    whole = hashlib.sha256()
    for name in members:
        whole.update((folder / f"{name}.safetensors").read_bytes())
    return whole.hexdigest()


def agreed_sources(metas: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """The members' one list of sources. Errors: InputError when they differ."""
    (first, meta), *others = metas.items()
    for name, other in others:
        if other["sources"] != meta["sources"]:
            differing = ", ".join(sorted({*other["sources"]} ^ {*meta["sources"]})) or "their order"
            raise InputError(f"members {first} and {name} differ in sources ({differing}): train both on one protocol")
    return tuple(meta["sources"])


def outputs_of(member: Member, setup: Setup, utterances: list[str]) -> Output:
    """What a member says of whole utterances."""
    if isinstance(member, Mixtures):
        logits = np.concatenate([member(torch.from_numpy(lfcc(setup.stored.waveform(name)))[None]).numpy() for name in utterances])
        return Output(logits, logits - logits.mean(1, keepdims=True))  # how like each source an utterance is, and how unlike the others
    return Output(*embed(member, setup, utterances))


@torch.no_grad()
def embed(member: Network, setup: Setup, utterances: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits (N, S) and embeddings (N, E) of whole utterances: means over windows of clip length, hop half."""
    network = member.network.to(setup.accelerator.device).eval()
    starts = windows(pd.DataFrame({"utterance_id": utterances}), setup.stored.index, setup.audio, setup.cqt)
    items, size, found = [(name, start, 0) for name, start in starts], setup.tracer.embedding_batch, []
    chosen: Any = [items[first : first + size] for first in range(0, len(items), size)]
    for features, _ in DataLoader(setup.clips_of(member.params), batch_sampler=chosen):
        with setup.accelerator.autocast():
            tracing = network(features.to(setup.accelerator.device))
        found.append(torch.cat((tracing.logits.float(), tracing.embedding.float()), dim=1).cpu().numpy())
    means = mean_by_utterance([item[0] for item in items], np.concatenate(found), utterances)
    classes = network.head.out_features
    return means[:, :classes], means[:, classes:]


def save_member(
    path: Path, member: Classifier | Mixtures, params: BackendParams | GmmParams, sources: tuple[str, ...], meta: dict[str, Any],
    sections: dict[str, Section],
) -> None:  # fmt: skip
    """Weights with the params they came of and the sources they know."""
    if isinstance(member, Classifier):
        tensors, meta = dict(member.state_dict()), meta | {"features": member.features}
    else:
        tensors = dict(member.state_dict())
    described = {name: json.loads(section.model_dump_json()) for name, section in {"member": params, **sections}.items()}
    checkpoint.save(path, tensors, meta | described | {"sources": sources})


def load_member(path: Path, sections: dict[str, Section]) -> tuple[Member, dict[str, Any]]:
    """Member in evaluation mode, and the checkpoint's dict.

    Errors: InputError when the file holds none, or one that was trained with other params.
    """
    tensors, meta = checkpoint.load(path)
    if "sources" not in meta:
        raise InputError(f"{path} holds no tracer")
    refuse_other_params(meta, sections, path)
    params = TypeAdapter(MemberParams).validate_python(meta["member"])
    if isinstance(params, GmmParams):
        return Mixtures(**{name: tensors[name] for name in NAMES}), meta
    network = Classifier(meta["features"], params, len(meta["sources"]))
    network.load_state_dict(tensors, strict=True)
    return Network(network.eval(), params), meta
