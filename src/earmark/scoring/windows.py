"""Scoring of whole utterances with the detector. Shapes: N utterances, W windows, E embedding."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from earmark.features.clips import Clips, mean_by_utterance, windows
from earmark.features.shards import Features, Utterances, select
from earmark.networks.compute import Processor, processor
from earmark.networks.wavespec import WaveSpec, load_detector
from earmark.params import AudioParams, ComputeParams, CqtParams, ScoringParams
from earmark.scoring.parts import collect, refuse_other_params, write_parts
from earmark.storage.files import file_digest, read_table

ORIENTATION = "cm_score: higher = more bona fide"


def score_detector(
    audio: AudioParams, cqt: CqtParams, scoring: ScoringParams, compute: ComputeParams, *,
    protocol: Path, features: Path, detector: Path, output: Path, shard: str = "1/1",
) -> dict[str, float]:  # fmt: skip
    """Score dev, eval and a sample of train: a part with scores and embeddings for each shard of features.

    Worker i of n takes every n-th part; parts made by this very detector are not made again.
    """
    stored, table = Features(features), read_table(protocol)
    train = table[table["split"] == "train"]
    sample = train.sample(min(scoring.train_sample, len(train)), random_state=0).sort_index()
    rows = select(stored, pd.concat([sample, table[table["split"].isin(("dev", "eval"))]]))
    network, meta = load_detector(detector / "model.safetensors")
    refuse_other_params(meta, {"audio": audio, "cqt": cqt}, detector)
    runner = processor(compute)
    network.to(runner.device)
    marks = {"detector": file_digest(detector / "model.safetensors"), "orientation": ORIENTATION}

    def make(part: pd.DataFrame) -> pd.DataFrame:
        return score(network, stored, part, audio, cqt, scoring.batch_size, runner)

    complete = write_parts(rows, stored, output, marks, shard, make, "score", runner.is_main_process)
    return {"utterances": len(rows), "complete": float(complete)}


def score(
    network: WaveSpec, features: Utterances, rows: pd.DataFrame, audio: AudioParams, cqt: CqtParams, batch: int, runner: Processor
) -> pd.DataFrame:
    """Table utterance_id, cm_score, lowest, windows, embedding: means over the windows of each utterance, and the lowest score of one."""
    items = list(windows(rows, features.index, audio, cqt))
    if not items:
        return pd.DataFrame({"utterance_id": [], "cm_score": [], "lowest": [], "windows": [], "embedding": []})
    found = np.concatenate(list(score_windows(network, Clips(features, audio, cqt, network.params.spectrogram), items, batch, runner)))
    owners = [utterance for utterance, _ in items]
    means = mean_by_utterance(owners, found, rows["utterance_id"].tolist())
    windowed = pd.Series(found[:, 0].astype(np.float64)).groupby(np.array(owners)).agg(["min", "size"]).loc[rows["utterance_id"]]
    embeddings = list(means[:, 1:].astype(np.float32))
    columns = {"cm_score": means[:, 0], "lowest": windowed["min"].to_numpy(), "windows": windowed["size"].to_numpy()}
    return pd.DataFrame({"utterance_id": rows["utterance_id"].to_numpy(), **columns, "embedding": embeddings})


@torch.no_grad()
def score_windows(network: WaveSpec, clips: Clips, items: list[tuple[str, int]], batch: int, runner: Processor) -> Iterator[np.ndarray]:
    """(utterance_id, first sample) of W windows → their cm_score and embedding side by side, (≤ batch, 1 + E) at a time."""
    if network.training:
        network.eval()
    chosen = [[(*item, 0) for item in items[first : first + batch]] for first in range(0, len(items), batch)]
    for waveform, spectrum, _ in DataLoader(clips, batch_sampler=chosen):  # pyright: ignore[reportArgumentType]
        with runner.autocast():
            detection = network(waveform.to(runner.device), spectrum.to(runner.device))
        yield torch.cat((detection.cm_score.float()[:, None], detection.embedding.float()), dim=1).cpu().numpy()


def read_scores(folder: Path) -> pd.DataFrame:
    """utterance_id, cm_score, lowest and windows of all parts."""
    return collect(folder, "score_detector")[0].drop(columns="embedding")


def read_embeddings(folder: Path) -> tuple[list[str], np.ndarray]:
    """N ids and embeddings (N, E) of all parts."""
    table, _ = collect(folder, "score_detector")
    return table["utterance_id"].tolist(), np.stack(table["embedding"].to_numpy())
