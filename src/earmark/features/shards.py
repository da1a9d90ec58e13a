"""Waveforms and CQTs of a protocol in few large memory-mapped files.

A shard is `00000.safetensors` with `waveform` (samples,) int16 and `cqt` (frames, 2, K) float16, all its utterances one after the other,
and `00000.parquet`, a row an utterance that says where it lies. Both are a function of the protocol and of params alone, so many
workers can share the job and a killed one leaves complete shards behind.
"""

import hashlib
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from earmark import InputError
from earmark.audio.decode import SAMPLE_RATE, normalise_level, read, tile
from earmark.corpora.checks import refuse_unreadable
from earmark.features.cqt import Cqt
from earmark.params import AudioParams, CqtParams, DecodingParams, ShardingParams, TrialsParams
from earmark.storage.files import complete, read_metadata, read_table, write_table

log = logging.getLogger(__name__)
INT16 = 32767


def precompute_cqt(
    decoding: DecodingParams, audio: AudioParams, cqt: CqtParams, sharding: ShardingParams, trials: TrialsParams, *,
    protocol: Path, diagnosis: Path, output: Path, shard: str = "1/1",
) -> dict[str, float]:  # fmt: skip
    """Precompute shards of a protocol: see `precompute`; `diagnosis` is there when they may be.

    Errors: InputError when more recordings of a corpus cannot be read than `trials.max_unreadable` says.
    """
    table = read_table(protocol)
    index = precompute(table, decoding, audio, cqt, sharding, output, shard=shard)
    faults = index[index["error"].notna()].merge(table[["utterance_id", "corpus"]], on="utterance_id")
    refuse_unreadable(faults, table["corpus"].value_counts(), trials.max_unreadable)
    return {"utterances": len(index), "unreadable": int(index["error"].notna().sum())}


def precompute(
    protocol: pd.DataFrame,
    decoding: DecodingParams,
    audio: AudioParams,
    cqt: CqtParams,
    sharding: ShardingParams,
    output: Path,
    *,
    shard: str = "1/1",
    threads: int | None = None,
) -> pd.DataFrame:
    """Write the shards whose number falls to worker i of n (`shard` = "i/n"), skipping complete ones; return their index rows.

    Errors: InputError when the disk is too small, before anything is written.
    """
    plan = _plan(protocol, sharding)
    first, workers = worker(shard)
    mine = {number: rows for number, rows in plan.items() if number % workers == first}
    prints = {number: _fingerprint(rows, decoding, audio, cqt) for number, rows in mine.items()}
    missing = {number: rows for number, rows in mine.items() if not is_complete(output, number, prints[number])}
    _check_disk(pd.concat([protocol.iloc[:0], *missing.values()]), audio, cqt, output)
    _drop_surplus(output, plan)
    transform, before = Cqt(cqt), torch.get_num_threads()
    torch.set_num_threads(1)  # one utterance a thread: small products gain nothing from more
    try:
        with Progress() as progress, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            task = progress.add_task("precompute", total=sum(map(len, missing.values())))
            for number, rows in missing.items():
                work = pool.map(lambda path: _transform(path, decoding, audio, transform), rows["path"])
                _write(output, number, rows, [progress.advance(task) or result for result in work], prints[number])
    finally:
        torch.set_num_threads(before)
    return pd.concat([read_table(output / f"{number:05}.parquet") for number in mine], ignore_index=True) if mine else pd.DataFrame()


class Utterances(Protocol):
    """Utterances whose waveforms and CQTs can be read."""

    index: pd.DataFrame  # by utterance_id; samples

    def waveform(self, utterance: str, start: int = 0, samples: int | None = None) -> np.ndarray:
        """(samples,) float32 from sample `start` on, at the level of params."""
        ...

    def cqt(self, utterance: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """(2, K, frames) float32 from frame `start` on: log-magnitude and phase."""
        ...


class Stored(Utterances, Protocol):
    """Utterances in shards: a folder of them, or one recording as its own."""

    @property
    def usable(self) -> pd.DataFrame:
        """Index rows of the utterances that could be read, with their shard."""
        ...

    def fingerprint(self, number: int) -> str:
        """What a shard was made of."""
        ...


class Features:
    """Read access to a folder of shards; slices are read from the memory map, nothing else is."""

    def __init__(self, folder: Path):
        indexes = sorted(folder.glob("*.parquet"))
        if not indexes:
            raise InputError(f"{folder} holds no shards: run precompute_cqt first")
        self.folder, self._files = folder, {}
        self.index = pd.concat([read_table(path) for path in indexes], ignore_index=True).set_index("utterance_id")

    @cached_property
    def usable(self) -> pd.DataFrame:
        """Index rows of the utterances that could be read."""
        return self.index[self.index["error"].isna()]

    def fingerprint(self, number: int) -> str:
        """What a shard was made of."""
        return read_metadata(self.folder / f"{number:05}.parquet")["fingerprint"]

    def waveform(self, utterance: str, start: int = 0, samples: int | None = None) -> np.ndarray:
        """(samples,) float32 from sample `start` on, at the level of params."""
        row = self.index.loc[utterance]
        stop = int(row["samples"]) if samples is None else min(start + samples, int(row["samples"]))
        first = int(row["sample_start"])
        return self._slice(int(row["shard"]), "waveform")[first + start : first + stop].astype(np.float32) * np.float32(row["scale"])

    def cqt(self, utterance: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """(2, K, frames) float32 from frame `start` on: log-magnitude and phase."""
        row = self.index.loc[utterance]
        stop = int(row["frames"]) if frames is None else min(start + frames, int(row["frames"]))
        first = int(row["frame_start"])
        return self._slice(int(row["shard"]), "cqt")[first + start : first + stop].astype(np.float32).transpose(1, 2, 0)

    def _slice(self, number: int, name: str):
        if number not in self._files:
            self._files[number] = open_shard(self.folder / f"{number:05}.safetensors", "precompute_cqt")
        return self._files[number].get_slice(name)


def select(stored: Stored, protocol: pd.DataFrame) -> pd.DataFrame:
    """Protocol rows that have features. Errors: InputError when some were never computed (a shard is missing)."""
    unknown = ~protocol["utterance_id"].isin(stored.index.index)
    if unknown.any():
        raise InputError(
            f"the features lack {unknown.sum()} utterances of the protocol, first {protocol['utterance_id'][unknown].iloc[0]}: "
            "run precompute_cqt for all shards"
        )
    return protocol[protocol["utterance_id"].isin(stored.usable.index)].reset_index(drop=True)


def open_shard(path: Path, stage: str):
    """Memory-mapped shard. Errors: InputError when it is corrupt, naming the stage that makes it again."""
    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is corrupt ({error}): remove it and run {stage} again") from error


def _plan(protocol: pd.DataFrame, sharding: ShardingParams) -> dict[int, pd.DataFrame]:
    """Cut the protocol, in its order, into shards of about `shard_seconds` of speech."""
    numbers = (protocol["seconds"].cumsum() // sharding.shard_seconds).astype(int)
    return {number: rows for number, (_, rows) in enumerate(protocol.groupby(numbers.to_numpy(), sort=True))}


def worker(shard: str) -> tuple[int, int]:
    """Number (from 0) and count of workers of "i/n". Errors: InputError when it is not written so."""
    own, _, count = shard.partition("/")
    if not (own.isdigit() and count.isdigit() and 1 <= int(own) <= int(count)):
        raise InputError(f"--shard {shard}: write i/n with 1 ≤ i ≤ n")
    return int(own) - 1, int(count)


def _fingerprint(rows: pd.DataFrame, decoding: DecodingParams, audio: AudioParams, cqt: CqtParams) -> str:
    heard = decoding.model_dump_json(include={"max_lost_share", "channel_correlation"})
    content = [heard, audio.model_dump_json(), cqt.model_dump_json(), *rows["utterance_id"], *rows["digest"]]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def is_complete(output: Path, number: int, fingerprint: str) -> bool:
    """Whether a shard and its index are there and made of just what the fingerprint says."""
    path = output / f"{number:05}.safetensors"
    index = path.with_suffix(".parquet")
    if not path.exists() or not index.exists():
        return False
    try:
        with safe_open(path, framework="np") as file:
            found = (file.metadata() or {}).get("fingerprint"), read_metadata(index).get("fingerprint")
    except (SafetensorError, OSError, InputError):
        log.warning("%s is corrupt: it is made again", path)
        return False
    return found == (fingerprint, fingerprint)  # a job killed between the two leaves a new shard with an old index


def _drop_surplus(output: Path, plan: dict[int, pd.DataFrame]) -> None:
    """Remove shards that an earlier, longer protocol left."""
    for path in output.glob("[0-9]*"):
        if path.stem.isdigit() and int(path.stem) not in plan:
            path.unlink()


def _check_disk(rows: pd.DataFrame, audio: AudioParams, cqt: CqtParams, output: Path) -> None:
    seconds = rows["seconds"].clip(lower=audio.clip_samples / SAMPLE_RATE).sum()
    needed = int(seconds * SAMPLE_RATE * (2 + 4 * cqt.bins / cqt.hop_samples))
    place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    log.info("precompute_cqt writes %.1f MB of features for %d utterances; %.1f MB are free", needed / 1e6, len(rows), free / 1e6)
    if needed > free:
        raise InputError(f"{output}: {needed / 1e9:.1f} GB of features do not fit in the {free / 1e9:.1f} GB free there")


class Transformed(NamedTuple):
    """A recording as a shard holds it: waveform (T,) int16, its scale, CQT (F, 2, K) float16; nothing of one that cannot be used."""

    waveform: np.ndarray = np.zeros(0, np.int16)
    cqt: np.ndarray | None = None
    scale: float = 1.0
    decoder: str | None = None
    error: str | None = None

    @property
    def frames(self) -> int:
        """Frames of the CQT."""
        return 0 if self.cqt is None else len(self.cqt)


def _transform(path: str, decoding: DecodingParams, audio: AudioParams, transform: Cqt) -> Transformed:
    """A recording, decoded and transformed."""
    try:
        waveform, found = read(path, decoding)
    except InputError as error:
        return Transformed(error=str(error))
    waveform = normalise_level(tile(waveform, audio.clip_samples), audio.level_dbfs)
    scale = np.float32(np.abs(waveform).max() / INT16)
    quantised = np.rint(waveform * (1 / scale)).astype(np.int16)
    # the CQT is that of the stored waveform, so that what training computes from it is what lies here
    stored = torch.from_numpy(quantised.astype(np.float32) * scale)
    frames = transform(stored[None])[0].permute(2, 0, 1).half().contiguous()  # safetensors writes memory as it lies
    return Transformed(quantised, frames.numpy(), float(scale), found.decoder)


def _write(output: Path, number: int, rows: pd.DataFrame, results: list[Transformed], fingerprint: str) -> None:
    frames = [one.frames for one in results]
    samples = [len(one.waveform) for one in results]
    index = pd.DataFrame(
        {
            "utterance_id": rows["utterance_id"].to_numpy(),
            "shard": number,
            "sample_start": np.cumsum([0, *samples[:-1]]),
            "samples": samples,
            "frame_start": np.cumsum([0, *frames[:-1]]),
            "frames": frames,
            "scale": [one.scale for one in results],
            "decoder": pd.array([one.decoder for one in results], dtype="str"),
            "error": pd.array([one.error for one in results], dtype="str"),
        }
    )
    cqts = [one.cqt for one in results if one.cqt is not None]
    tensors: dict[str, np.ndarray] = {"waveform": np.concatenate([one.waveform for one in results])}
    results.clear()  # an hour of speech need not lie in memory twice
    tensors["cqt"] = np.concatenate(cqts) if cqts else np.zeros((0, 2, 1), np.float16)
    cqts.clear()
    with complete(output / f"{number:05}.safetensors") as aside:
        save_file(tensors, aside, metadata={"fingerprint": fingerprint})
    write_table(output / f"{number:05}.parquet", index, fingerprint=fingerprint)
