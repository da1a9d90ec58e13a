"""A tiny corpus that sounds a little like speech, tiny params, and a workspace whose stages have run once for all tests."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from earmark import params as settings
from earmark import stages
from earmark.features.shards import Features
from earmark.params import Params
from earmark.params.run import merge
from earmark.storage.files import read_table
from earmark.storage.locks import locked

if TYPE_CHECKING:
    from object_store import S3

torch.set_num_threads(1)

RATE = 16_000
CLIP = 16_000
PREPARING = ("download", "synthesize_copies", "prepare_protocol", "doctor", "precompute_cqt")
SERVED = "tests/registry/"
TRIALS_A_SPLIT = {"train": (7, 7), "dev": (3, 3), "eval": (4, 4)}  # bona fide, spoof
RECIPE = ("network", "loss", "augmentation", "training")  # of a member of the detector
TINY = {
    "audio": {"clip_samples": CLIP},
    "copysynthesis": {"known": ["codec_mp3"], "unseen": ["phase_vocoder"], "splits": ["train", "eval"], "per_utterance": 1},
    "sharding": {"shard_seconds": 20},
    "detector": {
        "members": {
            "wavespec": {
                "network": {
                    "kind": "wavespec",
                    "encoder": {"pretrained": None, "taps": [1, 2, 3], "hidden": 16, "heads": 2, "conv_width": 8},
                    "spectrogram": {"widths": [8, 8, 8], "stem_stride": 2},
                    "fusion_width": 16,
                    "head_widths": [8, 8, 8, 16],
                    "dropout": 0.1,
                },
                "loss": {"class_weights": "inverse_frequency"},
                "augmentation": {"rawboost": 0},
                "training": {"epochs": 3, "batch_size": 4, "lr": 3e-3, "checkpoint_minutes": 1e-6},
            },
            "linear": {
                "network": {"kind": "resnet", "widths": [4, 8]},
                "loss": {"class_weights": "inverse_frequency", "single_center": 0.0},
                "augmentation": {"rawboost": 0},
                "training": {"epochs": 1, "batch_size": 4, "lr": 3e-3},
            },
            "lfcc_gmm": {"network": {"kind": "lfcc_gmm", "components": 4}},
        },
    },
    "front_end": {"kind": "cqt"},
    "tracer": {
        "members": {
            "conformer": {"kind": "conformer", "width": 16, "layers": 1, "heads": 2, "kernel": 5, "reads": "lfcc"},
            "aasist": {"kind": "aasist", "width": 18, "encoder_widths": [4, 8], "graph_widths": [8, 6]},
            "lfcc_gmm": {"kind": "lfcc_gmm", "components": 4},
        },
        "training": {"epochs": 3, "batch_size": 4, "lr": 5e-3, "halve_epochs": 2},
    },
    "scoring": {"train_sample": 12},
    "robustness": {"max_trials": 6, "mp3_kbps": [32], "opus_kbps": [], "noise_snr_db": [0], "reverberation_seconds": [0.5]},
    "evaluation": {"resamples": 100, "min_trials": 2},
    "compute": {"device": "cpu", "threads": 1},
    "tracking": {"enabled": False},  # importing MLflow takes seconds; tests of the registry switch it on
}


def fail_when_all_is_required(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where EARMARK_REQUIRE_ALL is 1, a skip that says what it needs (a server, a browser, a container tool) is a failure."""
    if os.environ.get("EARMARK_REQUIRE_ALL") == "1" and report.skipped and isinstance(report.longrepr, tuple):
        file, line, reason = report.longrepr
        if reason.startswith("Skipped: needs "):
            report.outcome, report.longrepr = "failed", f"{file}:{line}: {reason.removeprefix('Skipped: ')}, and EARMARK_REQUIRE_ALL is 1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a test."""
    report = yield
    fail_when_all_is_required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Of a module."""
    report = yield
    fail_when_all_is_required(report)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes: a file's tests in one of them, and so those of the registry, which share servers that start slowly."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SERVED if nodeid.startswith(SERVED) else nodeid.split("::")[0]

    return Together(config, log)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that all test processes share, filled by the first that asks for it; no test may write there."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with locked(place.with_suffix(".lock"), wait=True):
        if not (made := place.with_suffix(".made")).exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            made.touch()
    return place


def speak(seconds: float, spoof: bool, seed: int) -> np.ndarray:
    """(T,) float32: syllables of a gliding voice over noise; a spoof has a flat pitch, a buzz and no breath."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 220) * (1 if spoof else 1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(pitch, time.shape)) / RATE
    tilt = 0.3 if spoof else 1.3
    voice = sum(np.sin(order * phase) / order**tilt for order in range(1, 16))
    syllables = 0.15 + np.square(np.sin(2 * np.pi * rng.uniform(1.5, 3) * time + rng.uniform(0, 6)))
    breath = 0 if spoof else 0.2 * rng.standard_normal(time.shape)
    sound = voice * syllables + breath
    return (rng.uniform(0.05, 0.5) * sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A folder corpus with protocol.tsv: 28 clips of 0.5 to 5 s in three splits."""
    return once(tmp_path_factory, "corpus", lambda place: _speak_corpus(place / "tiny")) / "tiny"


def _speak_corpus(root: Path) -> None:
    rows, rng = [("utterance_id", "path", "key", "source", "speaker", "split")], np.random.default_rng(1)
    for split, counts in TRIALS_A_SPLIT.items():
        for key, count in zip(("bonafide", "spoof"), counts, strict=True):
            for number in range(count):
                name, seconds = f"{split}-{key}-{number}", (0.5, 5.0)[number] if number < 2 else rng.uniform(0.7, 3)
                path = root / key / f"{name}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                sf.write(path, speak(seconds, key == "spoof", len(rows)), RATE, subtype="PCM_16")
                source = "-" if key == "bonafide" else f"engine{number % 2}"
                rows.append((name, f"{key}/{name}.flac", key, source, f"{split}{number % 2}", split))
    (root / "protocol.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def engine_clips(tmp_path_factory) -> Path:
    """A folder of six clips of one engine."""
    root = tmp_path_factory.mktemp("clips")
    for number in range(6):
        sf.write(root / f"{number}.wav", speak(1.0, True, 900 + number), RATE)
    return root


@pytest.fixture(scope="session")
def tiny(corpus: Path) -> Params:
    """Params of a run on the tiny corpus."""
    return settings.parse({**TINY, "corpora": [{"adapter": "folder", "root": str(corpus)}]}, "tiny")


@pytest.fixture(scope="session")
def change(tiny: Params) -> Callable[..., Params]:
    """Tiny params with other values: change(cqt={"bins": 60}); network, loss, augmentation and training are the detector's wavespec's."""

    def changed(**sections) -> Params:
        content, own = tiny.model_dump(), {name: sections.pop(name) for name in RECIPE if name in sections}
        merge(content, {"detector": {"members": {"wavespec": own}}} if own else {})
        merge(content, sections)
        return settings.parse(content, "changed")

    return changed


@pytest.fixture(scope="session")
def prepared(tiny: Params, tmp_path_factory) -> Path:
    """Workspace with copies, protocol, diagnosis and features."""

    def make(workspace: Path) -> None:
        for name in PREPARING:
            stages.run(name, tiny, workspace)

    return once(tmp_path_factory, "prepared", make)


@pytest.fixture(scope="session")
def protocol(prepared: Path) -> pd.DataFrame:
    """The table of trials."""
    return read_table(prepared / stages.ARTIFACTS["protocol"])


@pytest.fixture(scope="session")
def features(prepared: Path) -> Features:
    """The stored waveforms and CQTs."""
    return Features(prepared / stages.ARTIFACTS["features"])


@pytest.fixture(scope="session")
def done(prepared: Path, tiny: Params, tmp_path_factory) -> Path:
    """Workspace in which all stages have run."""

    def make(workspace: Path) -> None:
        shutil.copytree(prepared, workspace, dirs_exist_ok=True)
        for name, stage in stages.STAGES.items():
            if name not in PREPARING and "dvc" in stage.runs_on:
                stages.run(name, tiny, workspace)

    return once(tmp_path_factory, "done", make)


@pytest.fixture(scope="session")
def s3() -> Iterator["S3"]:
    """An S3 server, started once."""
    from object_store import S3

    server = S3()
    yield server
    server.stop()


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Path:
    """A fresh copy of `prepared`."""
    return Path(shutil.copytree(prepared, tmp_path / "run"))
