"""Scoring of whole utterances with the detector's members. Shapes: N utterances, W windows, E embedding."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from earmark.features.clips import Clips, mean_by_utterance, windows
from earmark.features.shards import Features, Utterances, select
from earmark.networks.compute import Processor, processor
from earmark.networks.detector import Detector, load_detector
from earmark.params import AudioParams, ComputeParams, CqtParams, DetectorParams, ScoringParams
from earmark.scoring.parts import collect, refuse_other_params, write_parts
from earmark.storage.files import file_digest, read_table

ORIENTATION = "cm_score: higher = more bona fide"
Floats = NDArray[np.float64]


def score_detector(
    audio: AudioParams, cqt: CqtParams, detector: DetectorParams, scoring: ScoringParams, compute: ComputeParams, *,
    protocol: Path, features: Path, detectors: Path, output: Path, shard: str = "1/1",
) -> dict[str, float]:  # fmt: skip
    """Score dev, eval and a sample of train with every member: a part for each shard of features.

    Columns utterance_id, <member>/scores, one a window, and <member>/embedding, their mean over windows.
    Worker i of n takes every n-th part; parts made by these very members are not made again.
    """
    stored, table = Features(features), read_table(protocol)
    train = table[table["split"] == "train"]
    sample = train.sample(min(scoring.train_sample, len(train)), random_state=0).sort_index()
    rows = select(stored, pd.concat([sample, table[table["split"].isin(("dev", "eval"))]]))
    paths = {name: detectors / f"{name}.safetensors" for name in detector.members}
    networks, runner = {}, processor(compute)
    for name, path in paths.items():
        network, meta = load_detector(path)
        refuse_other_params(meta, {"audio": audio, "cqt": cqt}, path)
        networks[name] = network.to(runner.device)
    marks = {"detectors": json.dumps({name: file_digest(path) for name, path in paths.items()}), "orientation": ORIENTATION}

    def make(part: pd.DataFrame) -> pd.DataFrame:
        columns = [part[["utterance_id"]].reset_index(drop=True)]
        for name, network in networks.items():
            found = score(network, stored, part, audio, cqt, scoring.batch_size, runner)
            columns.append(found[["scores", "embedding"]].add_prefix(f"{name}/"))
        return pd.concat(columns, axis=1)

    complete = write_parts(rows, stored, output, marks, shard, make, "score", runner.is_main_process)
    return {"utterances": len(rows), "complete": float(complete)}


def score(
    network: Detector, features: Utterances, rows: pd.DataFrame, audio: AudioParams, cqt: CqtParams, batch: int, runner: Processor
) -> pd.DataFrame:
    """Table utterance_id, cm_score, scores, embedding: the score of each window, and means over the windows of each utterance."""
    items = list(windows(rows, features.index, audio, cqt))
    if not items:
        return pd.DataFrame({"utterance_id": [], "cm_score": [], "scores": [], "embedding": []})
    found = np.concatenate(list(score_windows(network, Clips(features, audio, cqt, network.view), items, batch, runner)))
    owners, names = [utterance for utterance, _ in items], rows["utterance_id"].tolist()
    means = mean_by_utterance(owners, found, names)
    each = pd.Series(found[:, 0].astype(np.float64)).groupby(np.array(owners)).agg(list).loc[names]
    columns = {"cm_score": means[:, 0], "scores": each.to_list(), "embedding": list(means[:, 1:].astype(np.float32))}
    return pd.DataFrame({"utterance_id": names, **columns})


@torch.no_grad()
def score_windows(network: Detector, clips: Clips, items: list[tuple[str, int]], batch: int, runner: Processor) -> Iterator[np.ndarray]:
    """(utterance_id, first sample) of W windows → their cm_score and embedding side by side, (≤ batch, 1 + E) at a time."""
    if network.training:
        network.eval()
    chosen = [[(*item, 0) for item in items[first : first + batch]] for first in range(0, len(items), batch)]
    for waveform, spectrum, _ in DataLoader(clips, batch_sampler=chosen):  # pyright: ignore[reportArgumentType]
        with runner.autocast():
            detection = network(waveform.to(runner.device), spectrum.to(runner.device))
        yield torch.cat((detection.cm_score.float()[:, None], detection.embedding.float()), dim=1).cpu().numpy()


@dataclass(frozen=True)
class Scored:
    """What every member says of N utterances: scores of their windows, all in one row, whose utterance `owners` tells, and embeddings."""

    utterances: list[str]
    owners: NDArray[np.int64]  # (W,) row of each window's utterance
    scores: dict[str, Floats]  # (W,) by member
    embeddings: dict[str, Floats]  # (N, E) by member


def read_scores(folder: Path) -> Scored:
    """All parts. Errors: InputError when some are missing, or they were not made by the same members."""
    table, _ = collect(folder, "score_detector")
    names = [column.removesuffix("/scores") for column in table if column.endswith("/scores")]
    owners = np.repeat(np.arange(len(table)), [len(one) for one in table[f"{names[0]}/scores"]])
    scores = {name: np.concatenate(table[f"{name}/scores"].to_list()).astype(np.float64) for name in names}
    embeddings = {name: np.stack(table[f"{name}/embedding"].to_list()).astype(np.float64) for name in names}
    return Scored(table["utterance_id"].tolist(), owners, scores, embeddings)
