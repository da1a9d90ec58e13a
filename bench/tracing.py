"""The tracer's costs: a tapped encoder against the whole one, cached features, Fréchet distance, unseen-source scores, an epoch.

Run: python bench/tracing.py.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.linalg import sqrtm
from transformers import Wav2Vec2Config, Wav2Vec2Model

from earmark.corpora.sources import UNSEEN, Rows
from earmark.ensemble.enrolment import Enrolled
from earmark.ensemble.fusion import Ensemble
from earmark.ensemble.unseen import Bank, nearest, nsd
from earmark.features.shards import precompute
from earmark.metrics.frechet import frechet_distance, root_trace
from earmark.networks.classifier import Classifier
from earmark.networks.wav2vec2 import TappedWav2Vec2, configuration
from earmark.params import (
    AudioParams,
    ComputeParams,
    ConformerParams,
    CqtFrontEndParams,
    CqtParams,
    DecodingParams,
    DispersionParams,
    ShardingParams,
    TracerParams,
    TrainingParams,
    Wav2Vec2FrontEndParams,
)
from earmark.scoring.embedding import Network, Setup, set_up
from earmark.scoring.outputs import Output
from earmark.training.loop import Runner, State, fit
from earmark.training.objectives import Dispersion
from earmark.training.trace import TracerTask
from scoring import SAMPLES, XLSR
from timing import row, seconds, show

LAYER, CLIPS = 5, 4
TRAIN, ASKED, WIDTH, SOURCES = 11_100, 34_000, 304, 24  # MLAAD's source tracing, embeddings of both networks


def rows() -> list[dict[str, Any]]:
    """All measurements."""
    return [*encoder(), *frechet(), *unseen(), *epoch()]


@torch.no_grad()
def encoder() -> list[dict[str, Any]]:
    """XLS-R-size weights at random: layers above the tap are not built; what is kept is read instead of computed."""
    torch.manual_seed(0)
    params = Wav2Vec2FrontEndParams(pretrained=None, layer=LAYER)
    config = configuration(params, LAYER) | XLSR
    whole = Wav2Vec2Model(Wav2Vec2Config(**{**config, "num_hidden_layers": 24})).eval()
    tapped = TappedWav2Vec2(config, (LAYER,)).eval()
    tapped.model.load_state_dict(whole.state_dict(), strict=False)
    waveform = torch.randn(CLIPS, SAMPLES)
    standard = (waveform - waveform.mean(1, keepdim=True)) / (waveform.var(1, keepdim=True, correction=0) + 1e-7).sqrt()
    apart = (tapped(waveform)[0] - whole(standard, output_hidden_states=True).hidden_states[LAYER]).abs().max().item()
    ours, peer = seconds(lambda: tapped(waveform), repeats=3), seconds(lambda: whole(standard, output_hidden_states=True), repeats=3)
    found = row(f"XLS-R to layer {LAYER}, {CLIPS} clips of 4 s (outputs differ by {apart:.0e}); peer: all 24 layers", ours, peer, least=3.0)
    frames = tapped(waveform[:1])[0].half()
    megabytes = frames.nbytes / (SAMPLES / 16_000) * 3600 / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "features.npy")
        np.save(path, np.tile(frames[0].numpy(), (64, 1)))
        kept = np.load(path, mmap_mode="r")
        read = seconds(lambda: torch.from_numpy(kept[: CLIPS * 201].astype(np.float32)))
    cached = row(f"the same from kept float16 features, {megabytes:.0f} MB an hour of speech; peer: XLS-R to layer {LAYER}", read, ours)
    return [found | {"met": found["met"] and apart < 1e-5}, cached]


def frechet() -> list[dict[str, Any]]:
    """Two sets of the size of MLAAD's eval."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5
    first, second = rng.standard_normal((ASKED, WIDTH)) @ mix, rng.standard_normal((ASKED, WIDTH)) @ mix.T + 0.1
    covariances = np.cov(first.T), np.cov(second.T)
    expected = float(np.real(np.trace(np.asarray(sqrtm(covariances[0] @ covariances[1])))))
    apart = abs(root_trace(*covariances) / expected - 1)
    whole = seconds(lambda: frechet_distance(first, second), repeats=3)
    ours = seconds(lambda: root_trace(*covariances), repeats=3)
    peer = seconds(lambda: np.trace(np.asarray(sqrtm(covariances[0] @ covariances[1]))), repeats=3)
    found = row(f"trace term of the Fréchet distance (relative difference {apart:.0e}); peer: scipy sqrtm", ours, peer, least=3.0)
    return [
        row(f"Fréchet distance of two sets of {ASKED:,} × {WIDTH}; peer: its trace term by scipy sqrtm", whole, peer, longest=2.0),
        found | {"met": found["met"] and apart < 1e-6},
    ]


def unseen() -> list[dict[str, Any]]:
    """NSD, nearest neighbours and enrolment of all of MLAAD's eval, on one core."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, SOURCES, TRAIN)
    centres = rng.standard_normal((SOURCES, WIDTH))
    train, asked = centres[labels] + rng.standard_normal((TRAIN, WIDTH)), rng.standard_normal((ASKED, WIDTH))
    logits = asked[:, :SOURCES]
    bank = Bank.fit(train[:, :SOURCES], train, labels)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours = seconds(lambda: nsd(bank, logits, asked), repeats=2)
    start = time.perf_counter()
    pairs_of(train, asked[:100], labels)
    peer = (time.perf_counter() - start) * ASKED / 100
    found = [row(f"NSD of {ASKED:,} utterances; peer: all pairs with {TRAIN:,}, scaled from 100", ours, peer, longest=2.0)]
    ours = seconds(lambda: nearest(bank, logits, asked), repeats=2)
    peer = seconds(lambda: brute_force(train, asked), repeats=1)
    found.append(row(f"nearest neighbours of the same; peer: all {TRAIN:,} in float64 with numpy", ours, peer, longest=2.0))
    dev = np.concatenate([labels[:2000], np.full(500, UNSEEN)])
    heard = Output(np.concatenate([train[:2000, :SOURCES], logits[:500]]), np.concatenate([train[:2000], asked[:500]]))
    names = tuple(f"s{number}" for number in range(SOURCES))
    ensemble = Ensemble.fit(names, {"one": Output(train[:, :SOURCES], train)}, labels, {"one": heard}, dev)
    unit = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    clips = {str(number): "" for number in range(5)}
    ours = seconds(lambda: Enrolled("").add("new", unit[:5], clips, ensemble).claim(unit, ensemble), repeats=2)
    found.append(row(f"enrolment of a source and asking {ASKED:,} utterances for it", ours, float("nan"), longest=2.0))
    torch.set_num_threads(threads)
    return found


def pairs_of(train: np.ndarray, asked: np.ndarray, labels: np.ndarray) -> np.ndarray:
    energy, own = np.logaddexp.reduce(train[:, :SOURCES], axis=1), np.logaddexp.reduce(asked[:, :SOURCES], axis=1)
    unit, heard = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (train, asked))
    return np.array([np.mean(e * energy * (unit @ f)) for e, f in zip(own, heard, strict=True)])


def brute_force(train: np.ndarray, asked: np.ndarray) -> np.ndarray:
    unit, heard = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (train, asked))
    return np.concatenate([np.partition(heard[first : first + 4096] @ unit.T, -5, axis=1)[:, -5] for first in range(0, ASKED, 4096)])


def epoch() -> list[dict[str, Any]]:
    """One epoch of Fake Dispersion on stored features, on our loop and as a plain PyTorch loop over the same batches in memory."""
    with tempfile.TemporaryDirectory() as folder:
        setup, table = stored(Path(folder))
        labels = np.arange(len(table)) % 8
        everything = Rows(table["utterance_id"].tolist(), labels)
        training, pairs = setup.tracer.training, 8
        network = Classifier(setup.clips.width, ConformerParams(), 8)
        task = TracerTask(Network(network, ConformerParams()), setup, 0, everything, Rows(everything.utterances[:1], labels[:1]), pairs)
        objective = Dispersion(network, DispersionParams(), pairs)
        batches = [batch for _, batch in task.batches(0, 0)]
        count = len(batches) * task.size

        def ours() -> None:
            state = State(objective, torch.optim.Adam([{"params": list(objective.parameters()), "lr": 1e-4, "base_lr": 1e-4}]))
            runner = Runner(training, 0, Path(folder, f"{time.perf_counter_ns()}.safetensors"), {}, setup.accelerator)
            fit(state, task, runner)

        def plain() -> None:
            optimizer = torch.optim.Adam(objective.parameters(), 1e-4)
            objective.train()
            for features, label in batches:
                optimizer.zero_grad()
                objective(features, label)["loss"].backward()
                torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
                optimizer.step()

        ours_s, peer_s = seconds(ours, repeats=2), seconds(plain, repeats=2)
    return [
        row(f"an epoch of Fake Dispersion, {count} clips, with its dev and checkpoint; peer: a plain loop", ours_s, peer_s, least=1 / 1.1)
    ]


def stored(folder: Path) -> tuple[Setup, pd.DataFrame]:
    """Features of 256 noise clips of 4 s."""
    import soundfile as sf

    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.wav" for number in range(256)]
    for path in paths:
        sf.write(path, 0.1 * rng.standard_normal(SAMPLES), 16_000)
    table = pd.DataFrame({"utterance_id": [path.stem for path in paths], "path": list(map(str, paths)), "digest": "", "seconds": 4.04})
    training = TrainingParams(epochs=1, batch_size=32, clip_norm=1.0)
    audio, cqt, tracer = AudioParams(), CqtParams(), TracerParams(training=training)
    precompute(table, DecodingParams(), audio, cqt, ShardingParams(), folder / "features")
    compute, hidden = ComputeParams(device="cpu"), folder / "hidden"
    return set_up(audio, cqt, CqtFrontEndParams(), tracer, compute, folder / "features", hidden), table


if __name__ == "__main__":
    show(rows())
