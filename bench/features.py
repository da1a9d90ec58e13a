"""Throughput of precompute and of training's two ways to a CQT, against named peers on the same files. Run: python bench/features.py."""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import soundfile as sf
import torch

from earmark.audio.decode import probe
from earmark.features.clips import Clips, disturbed
from earmark.features.cqt import Cqt, reference
from earmark.features.shards import Features, precompute
from earmark.params import AudioParams, AugmentationParams, CqtParams, DecodingParams, ShardingParams
from timing import row, seconds, show

CLIPS, SECONDS, BATCH = 192, 4.04, 16
COPIES, MOST_GB = 18, 1.5  # of each clip where memory is measured: eight shards


def rows() -> list[dict[str, Any]]:
    """Precompute against three loops, and clips a second of both training paths."""
    with tempfile.TemporaryDirectory() as place:
        files = make_recordings(Path(place))
        protocol = pd.DataFrame({"utterance_id": [path.stem for path in files], "path": [str(path) for path in files]})
        protocol[["seconds", "digest"]] = [probe(path, DecodingParams()) for path in files]
        output = Path(place) / "features"
        ours = seconds(lambda: precompute_anew(protocol, output), repeats=3)
        peers = (("soundfile + nnAudio CQT2010v2 + numpy.save, file by file", nnaudio_loop, 10.0),
                 ("soundfile + librosa.cqt + numpy.save, file by file", librosa_loop, 10.0),
                 ("the same with nnAudio in batches of 16", nnaudio_batches, 4.0))  # fmt: skip
        table = [row(f"precompute {CLIPS} clips of 4 s; peer: {name}", ours, seconds(partial(peer, files), repeats=1), least=bar)
                 for name, peer, bar in peers]  # fmt: skip
        return [*table, training_paths(protocol, output)]


def memory() -> str:
    """Peak memory of a process that precomputes eight shards, as a line."""
    with tempfile.TemporaryDirectory() as place, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        files = make_recordings(Path(place)) * COPIES
        protocol = pd.DataFrame({"utterance_id": [str(number) for number in range(len(files))], "path": [str(path) for path in files]})
        protocol[["seconds", "digest"]] = [SECONDS, ""]
        peak = fresh.submit(peak_gb, protocol, Path(place) / "features").result()
    hours = len(files) * SECONDS / 3600
    return f"precompute of {hours:.1f} h of speech peaks at {peak:.2f} GB; bar ≤ {MOST_GB} GB: {'met' if peak <= MOST_GB else 'NOT MET'}"


def peak_gb(protocol: pd.DataFrame, output: Path) -> float:
    precompute(protocol, DecodingParams(), AudioParams(), CqtParams(), ShardingParams(), output, threads=2)
    # not ru_maxrss, which begins with what the parent held when it started this process
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1e6


def make_recordings(place: Path) -> list[Path]:
    """FLAC files of coloured noise: as hard to decode and transform as speech."""
    rng, files = np.random.default_rng(0), []
    for number in range(CLIPS):
        noise = np.cumsum(rng.standard_normal(round(SECONDS * 16_000)))
        files.append(place / f"{number:04}.flac")
        sf.write(files[-1], 0.3 * (noise - noise.mean()) / np.abs(noise).max(), 16_000, subtype="PCM_16")
    return files


def precompute_anew(protocol: pd.DataFrame, output: Path) -> None:
    for path in output.glob("*"):
        path.unlink()
    precompute(protocol, DecodingParams(), AudioParams(), CqtParams(), ShardingParams(), output, threads=2)


def nnaudio_loop(files: list[Path]) -> None:
    transform = reference(CqtParams(), 16_000)
    for path in files:
        save(path, torch.view_as_complex(transform(torch.from_numpy(sf.read(path, dtype="float32")[0])[None])[0].contiguous()).numpy())


def nnaudio_batches(files: list[Path]) -> None:
    transform = reference(CqtParams(), 16_000)
    for first in range(0, len(files), BATCH):
        chunk = files[first : first + BATCH]
        values = transform(torch.from_numpy(np.stack([sf.read(path, dtype="float32")[0] for path in chunk])))
        for path, value in zip(chunk, values, strict=True):
            save(path, torch.view_as_complex(value.contiguous()).numpy())


def librosa_loop(files: list[Path]) -> None:
    for path in files:
        save(path, librosa.cqt(sf.read(path, dtype="float32")[0], sr=16_000, hop_length=320, fmin=32.70, n_bins=84))


def save(path: Path, cqt: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), np.stack((np.log(np.abs(cqt) + 1e-5), np.angle(cqt))).astype(np.float16))


def training_paths(protocol: pd.DataFrame, output: Path) -> dict[str, Any]:
    """Seconds for all clips from the shards, against waveform, RawBoost and CQT anew (the path that augmented training takes)."""
    features, audio, cqt, transform = Features(output), AudioParams(), CqtParams(), Cqt(CqtParams())
    stored = Clips(features, audio, cqt, "cqt")
    bare = Clips(features, audio, cqt, "cqt", transform.margin_samples)
    items = [(utterance, 0, 0) for utterance in protocol["utterance_id"]]
    generator, augmentation = torch.Generator().manual_seed(0), AugmentationParams(rawboost=3)

    def augment() -> None:
        for first in range(0, len(items), BATCH):
            batch = torch.stack([bare[item][0] for item in items[first : first + BATCH]])
            disturbed(batch, augmentation, audio, transform, generator)

    return row(
        f"{CLIPS} training clips from shards; peer: RawBoost 3 and CQT in the batch",
        seconds(lambda: [stored[i] for i in items]),
        seconds(augment),
    )


if __name__ == "__main__":
    show(rows())
    print(memory())
