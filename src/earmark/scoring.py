"""Scoring of whole utterances with the detector. Shapes: N utterances, E embedding."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from rich.progress import track
from torch.utils.data import DataLoader

from earmark import InputError
from earmark.checkpoint import load_detector
from earmark.features.clips import Clips, mean_by_utterance, windows
from earmark.features.shards import Features, worker
from earmark.files import read_metadata, read_table, write_table
from earmark.networks.wavespec import WaveSpec
from earmark.params import AudioParams, ComputeParams, CqtParams, ScoringParams, TrainingParams
from earmark.training import accelerator

ORIENTATION = "cm_score: higher = more bona fide"


def score_splits(
    audio: AudioParams, cqt: CqtParams, scoring: ScoringParams, compute: ComputeParams,
    protocol: Path, features: Path, detector: Path, output: Path, shard: str = "1/1",
) -> dict[str, float]:  # fmt: skip
    """Score dev and eval: a part with scores and embeddings for each shard of features, and scores.parquet once all parts are there.

    Worker i of n takes every n-th part; parts made by this very detector are not made again.
    """
    stored, table = Features(features), read_table(protocol)
    rows = stored.select(table[table["split"].isin(("dev", "eval"))])
    network, meta = load_detector(detector / "model.safetensors")
    refuse_other_views(meta, audio, cqt, detector)
    digest = hashlib.sha256((detector / "model.safetensors").read_bytes()).hexdigest()
    runner = accelerator(compute, TrainingParams())
    network.to(runner.device)
    marks = {"detector": digest, "orientation": ORIENTATION}
    parts = {
        output / f"{number:05}.parquet": part for number, part in rows.groupby(stored.index.loc[rows["utterance_id"], "shard"].to_numpy())
    }
    first, workers = worker(shard)
    for path in track(list(parts)[first::workers], "score", disable=not runner.is_main_process):
        if not is_part(path, marks, parts[path]):
            write_table(path, score(network, stored, parts[path], audio, cqt, scoring.batch_size, runner), **marks)
    complete = all(is_part(path, marks, part) for path, part in parts.items())
    if complete:
        merged = pd.concat([read_table(path).drop(columns="embedding") for path in parts], ignore_index=True)
        write_table(output / "scores.parquet", merged, **marks)
        for surplus in set(output.glob("[0-9]*.parquet")) - set(parts):
            surplus.unlink()
    return {"utterances": len(rows), "complete": float(complete)}


def is_part(path: Path, marks: dict[str, str], rows: pd.DataFrame) -> bool:
    """Whether a part was made by this detector of these utterances."""
    try:
        return marks.items() <= read_metadata(path).items() and set(read_table(path)["utterance_id"]) == set(rows["utterance_id"])
    except InputError:  # not there, or damaged
        return False


def refuse_other_views(meta: dict, audio: AudioParams, cqt: CqtParams, detector: Path) -> None:
    """Refuse to score with a detector that was trained on other views. Errors: InputError naming the setting."""
    for name, section in (("audio", audio), ("cqt", cqt)):
        for key, value in section.model_dump(mode="json").items():
            if key != "backend" and meta[name][key] != value:
                raise InputError(
                    f"{detector} was trained with {name}.{key} {meta[name][key]}, params say {value}: train again or restore params"
                )


@torch.no_grad()
def score(
    network: WaveSpec, features: Features, rows: pd.DataFrame, audio: AudioParams, cqt: CqtParams, batch: int, accelerator: Accelerator
) -> pd.DataFrame:
    """Table utterance_id, cm_score, windows, embedding: means over the windows of each utterance."""
    network.eval()
    items = [(utterance, start, 0) for utterance, start in windows(rows, features.index, audio, cqt)]
    clips, found = Clips(features, audio, cqt), []
    for waveform, spectrum, _ in DataLoader(clips, batch_sampler=[items[first : first + batch] for first in range(0, len(items), batch)]):  # pyright: ignore
        with accelerator.autocast():
            detection = network(waveform.to(accelerator.device), spectrum.to(accelerator.device))
        found.append(torch.cat((detection.cm_score.float()[:, None], detection.embedding.float()), dim=1).cpu().numpy())
    if not found:
        return pd.DataFrame({"utterance_id": [], "cm_score": [], "windows": [], "embedding": []})
    owners = [item[0] for item in items]
    means = mean_by_utterance(owners, np.concatenate(found), rows["utterance_id"].tolist())
    counts = pd.Series(owners).value_counts().loc[rows["utterance_id"]].to_numpy()
    embeddings = list(means[:, 1:].astype(np.float32))
    return pd.DataFrame(
        {"utterance_id": rows["utterance_id"].to_numpy(), "cm_score": means[:, 0], "windows": counts, "embedding": embeddings}
    )
