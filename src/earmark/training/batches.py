"""What a batch is drawn from: epochs of the detector, batches with pairs of the tracer. All draws are seeded."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from earmark.corpora.sources import Labels, Rows
from earmark.params import AudioParams, CqtParams, TracerParams, TrainingParams

log = logging.getLogger(__name__)


def draw(rows: pd.DataFrame, index: pd.DataFrame, audio: AudioParams, cqt: CqtParams, training: TrainingParams, seed: Any) -> list:
    """One epoch's items in order: every row once a pass, or balanced draws; a random crop each, starting on a whole frame."""
    rng = np.random.default_rng(seed)
    passes = [_balanced(rows, training, rng) if training.balance else rng.permutation(len(rows)) for _ in range(training.repeats)]
    order = np.concatenate(passes)
    ids, labels = rows["utterance_id"].to_numpy()[order], (rows["key"] == "bonafide").to_numpy()[order].astype(int)
    spare = (index.loc[ids, "samples"].to_numpy() - audio.clip_samples) // cqt.hop_samples
    starts = rng.integers(0, spare + 1) * cqt.hop_samples
    return list(zip(ids.tolist(), starts.tolist(), labels.tolist(), strict=True))


def _balanced(rows: pd.DataFrame, training: TrainingParams, rng: np.random.Generator) -> np.ndarray:
    """Row numbers, twice as many as bona fide rows: half bona fide, and spoofs split between made ones and others."""
    bonafide, made = (rows["key"] == "bonafide").to_numpy(), rows["copied"].to_numpy(bool)
    count = int(bonafide.sum())
    copies = round(count * training.copy_share) if made.any() else 0
    copies = count if not (~bonafide & ~made).any() else copies
    parts = [rng.permutation(np.flatnonzero(bonafide))]
    for chosen, size in ((~bonafide & made, copies), (~bonafide & ~made, count - copies)):
        numbers = np.flatnonzero(chosen)
        if training.sources_alike and size:
            parts.append(_by_source(numbers, rows["source"].fillna("-").to_numpy()[numbers], size, rng))
        else:
            parts.append(_cycle(numbers, size, rng))
    return rng.permutation(np.concatenate(parts))


def _by_source(numbers: np.ndarray, sources: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of the numbers, the next of every source before any has another turn; a source's numbers recur when all were taken."""
    turns = -(-size // len(set(sources)))
    found = []
    for source in sorted(set(sources)):
        own = _cycle(numbers[sources == source], turns, rng)
        found.append(np.stack([np.arange(turns) + rng.random(turns) / 2, own]))
    place, taken = np.concatenate(found, axis=1)
    return taken[np.argsort(place, kind="stable")][:size].astype(np.int64)


def _cycle(numbers: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of the numbers, none a second time before all were taken once."""
    rounds = [rng.permutation(numbers) for _ in range(-(-size // len(numbers)))] if size else []
    return np.concatenate(rounds)[:size] if rounds else numbers[:0]


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
    """Rows a batch: `batch_size` of params, or all rows where they are fewer."""
    return min(tracer.training.batch_size, len(train.utterances))


def count_pairs(train: Rows, sources: tuple[str, ...], tracer: TracerParams) -> int:
    """N of N-pair: sources in a batch with a pair. Those with one utterance have none, and are named in the log."""
    counts = np.bincount(train.labels, minlength=len(sources))
    if lonely := [source for source, count in zip(sources, counts, strict=True) if count < 2]:
        log.warning("no N-pair for sources with one utterance: %s", ", ".join(lonely))
    most = min(len(sources) - len(lonely), tracer.dispersion.n_pair_sources, batch_size(train, tracer) // 2)
    return most if tracer.dispersion.n_pair and most > 1 else 0
