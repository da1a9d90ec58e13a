"""What the tracer reads: features of a clip, of the stored CQT or of a frozen wav2vec 2.0 that ran once over every utterance.

Shapes: T samples, F frames (50 Hz), K CQT bins, D feature width.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from safetensors.numpy import save_file
from torch import Tensor
from torch.utils.data import Dataset

from earmark import InputError
from earmark.audio.decode import SAMPLE_RATE
from earmark.features.clips import clip_frames
from earmark.features.cqt import cqt_features, cqt_width
from earmark.features.shards import Features, Stored, is_complete, open_shard, worker
from earmark.networks.compute import processor
from earmark.networks.wav2vec2 import TappedWav2Vec2, configuration
from earmark.params import AudioParams, ComputeParams, CqtFrontEndParams, CqtParams, FrontEndParams, Wav2Vec2FrontEndParams
from earmark.storage.files import complete, read_table, write_table

HOP, RECEPTIVE = 320, 400  # samples between frames of wav2vec 2.0, and samples that a frame sees


def precompute_front_end(
    front_end: FrontEndParams, compute: ComputeParams, *, features: Path, output: Path, shard: str = "1/1"
) -> dict[str, float]:
    """Precompute shards of stored features: see `precompute`."""
    return {"shards": precompute(front_end, compute, Features(features), output, shard)}


def precompute(
    front_end: FrontEndParams, compute: ComputeParams, stored: Stored, output: Path, shard: str = "1/1",
    network: TappedWav2Vec2 | None = None, show: bool = True,
) -> int:  # fmt: skip
    """Run a wav2vec 2.0 front end over all stored waveforms: for each shard of `stored` one of float16 features here. Return how many.

    The CQT front end needs nothing: its folder stays empty. Shards that are there already are kept. Without `network` it is loaded.
    """
    output.mkdir(parents=True, exist_ok=True)
    if isinstance(front_end, CqtFrontEndParams):
        return 0
    first, workers = worker(shard)
    plan = {int(number): rows for number, rows in stored.usable.groupby("shard") if int(number) % workers == first}  # pyright: ignore
    prints = {number: f"{stored.fingerprint(number)} {front_end.model_dump_json()}" for number in plan}
    missing = {number: rows for number, rows in plan.items() if not is_complete(output, number, prints[number])}
    if missing:
        runner = processor(compute)
        network = (network or load(front_end)).to(runner.device)
        with Progress(disable=not (show and runner.is_main_process)) as progress:
            task = progress.add_task("front end", total=sum(map(len, missing.values())))
            for number, rows in missing.items():
                found = []
                for name in rows.index:
                    with runner.autocast():
                        found.append(_features(network, stored.waveform(name), front_end.chunk_seconds))
                    progress.advance(task)
                _write(output, number, list(rows.index), found, prints[number])
    return len(plan)


def load(front_end: Wav2Vec2FrontEndParams) -> TappedWav2Vec2:
    """The encoder up to the layer that is read, in evaluation mode."""
    torch.manual_seed(0)  # of random weights, which tests and the bench use
    network = TappedWav2Vec2(configuration(front_end, front_end.layer), (front_end.layer,))
    if front_end.pretrained is not None:
        network.load_pretrained(front_end)
    return network.eval()


@torch.no_grad()
def _features(network: TappedWav2Vec2, waveform: np.ndarray, chunk_seconds: float) -> np.ndarray:
    """(T,) → (F, D) float16. Chunks overlap by what a frame sees beyond its hop, so that they join on one grid."""
    size = int(chunk_seconds * SAMPLE_RATE) // HOP * HOP
    device = next(network.parameters()).device
    parts = []
    for start in range(0, max(len(waveform) - RECEPTIVE + 1, 1), size):
        piece = torch.from_numpy(waveform[start : start + size + RECEPTIVE - HOP]).to(device)
        parts.append(network(piece[None])[0][0].float().cpu())
    return torch.cat(parts).half().numpy()


def _write(output: Path, number: int, names: list[str], found: list[np.ndarray], fingerprint: str) -> None:
    frames = [len(features) for features in found]
    starts = np.cumsum([0, *frames[:-1]])
    index = pd.DataFrame({"utterance_id": names, "shard": number, "frame_start": starts, "frames": frames})
    with complete(output / f"{number:05}.safetensors") as aside:
        save_file({"features": np.ascontiguousarray(np.concatenate(found))}, aside, metadata={"fingerprint": fingerprint})
    write_table(output / f"{number:05}.parquet", index, fingerprint=fingerprint)


class FrontEnd(Dataset):
    """Features of clips: item (utterance_id, first sample, label) → ((F, D) float32, label). The first sample lies on a frame."""

    def __init__(self, params: FrontEndParams, stored: Stored, audio: AudioParams, cqt: CqtParams, folder: Path):
        self.params, self.stored, self.cqt = params, stored, cqt
        self.frames = clip_frames(audio.clip_samples)
        self.folder, self._files = folder, {}
        if isinstance(params, CqtFrontEndParams):
            self.width = cqt_width(cqt, params.phase)
            return
        indexes = sorted(folder.glob("*.parquet"))
        if not indexes:
            raise InputError(f"{folder} holds no features of the wav2vec 2.0 front end: run precompute_front_end first")
        self.index = pd.concat([read_table(path) for path in indexes], ignore_index=True).set_index("utterance_id")
        lacking = stored.usable.index.difference(self.index.index)
        if len(lacking):
            raise InputError(f"{folder} lacks {len(lacking)} utterances, first {lacking[0]}: run precompute_front_end for all shards")
        self.width = int(self._open(int(self.index["shard"].iloc[0])).get_slice("features").get_shape()[1])

    def __getitem__(self, item: tuple[str, int, int]) -> tuple[Tensor, int]:
        """See the class."""
        utterance, start, label = item
        if isinstance(self.params, CqtFrontEndParams):
            cqt = torch.from_numpy(self.stored.cqt(utterance, start // self.cqt.hop_samples, self.frames).copy())
            return cqt_features(cqt[None], self.params.phase)[0], label
        row = self.index.loc[utterance]
        # the last frames are the last ones that there are: a clip may end a few samples before the next
        first = int(row["frame_start"]) + min(start // HOP, int(row["frames"]) - self.frames)
        return torch.from_numpy(self._open(int(row["shard"])).get_slice("features")[first : first + self.frames].astype(np.float32)), label

    def _open(self, number: int):
        if number not in self._files:
            self._files[number] = open_shard(self.folder / f"{number:05}.safetensors", "precompute_front_end")
        return self._files[number]
