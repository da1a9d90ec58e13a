"""Hand-made bundles and score tables."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from earmark.model.manifest import SCHEMA
from earmark.storage.files import write_table


def make_bundle(folder: Path, seed: int, licence: str = "CC-BY-4.0", passed: bool = True, weights: Path | None = None) -> Path:
    """A packaged model of the contract, with weights of its own or a trained detector's."""
    for part in ("detector", "tracer"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        save_file({"weight": torch.full((4,), float(seed))}, folder / part / "model.safetensors")
    if weights:
        shutil.copy(weights, folder / "detector/model.safetensors")
    files = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.safetensors"))}
    manifest = {
        "schema": SCHEMA,
        "files": files,
        "orientation": {"cm_score": "higher = more bona fide"},
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "sources": ["engine0", "engine1"],
        "corpora": [
            {
                "name": "tiny",
                "adapter": "folder",
                "licence": licence,
                "splits": ["train", "dev"],
                "trials": {"train": 12, "dev": 8},
                "digest": "ab",
            },
            {"name": "judge", "adapter": "folder", "licence": "research only", "splits": ["eval"], "trials": {"eval": 20}, "digest": "cd"},
        ],
        "params": {"seed": seed},
        "code": {"version": "0.1.0", "commit": "c0ffee", "dvc": {"tiny": {"dvc://repository@c0ffee/data": "ab"}}},
        "self_test": {"passed": passed},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))
    return folder


def make_trials(rows: int = 1200, quality: float = 2.0, seed: int = 0, corpora: tuple[str, ...] = ("tiny",)) -> pd.DataFrame:
    """Trials that are the same for every quality and seed; their scores part the keys by `quality` standard deviations.

    The scores of two seeds share most of their noise, as those of two models on the same recordings do.
    """
    fixed, own = np.random.default_rng(7), np.random.default_rng(seed)
    bonafide = np.arange(rows) % 3 == 0
    noise = 0.9 * fixed.normal(size=rows) + 0.44 * own.normal(size=rows)
    score = noise + np.where(bonafide, quality / 2, -quality / 2)
    source = np.where(bonafide, None, fixed.choice(["engine0", "engine1", "engine2"], rows).astype(object))
    known = pd.Series(source).isin(["engine0", "engine1"]).to_numpy()
    wrong = own.random(rows) > 0.5 + quality / 8
    named = np.where(wrong, "engine0", source)
    return pd.DataFrame(
        {
            "utterance_id": [f"u{row}" for row in range(rows)],
            "digest": [f"{row:08x}" for row in range(rows)],
            "corpus": fixed.choice(corpora, rows),
            "key": np.where(bonafide, "bonafide", "spoof"),
            "speaker": fixed.choice([f"s{number}" for number in range(30)], rows),
            "source": source,
            "codec": fixed.choice(["none", "mp3"], rows),
            "language": fixed.choice(["en", "de"], rows),
            "cm_score": score,
            "llr": quality * score,
            "answer": np.where(bonafide, None, named),
            "ood_score": np.where(bonafide, np.nan, own.normal(size=rows) + quality * ~known),
            "known": known,
        }
    )


def make_robustness(eer: float = 0.2) -> pd.DataFrame:
    """Two degradations, and one of too few trials to be judged; intervals reach .05 to either side."""
    rows = [("tiny", "noise", 10.0, 100, 200, eer / 2), ("tiny", "mp3", 32.0, 100, 200, eer), ("tiny", "clipping", 0.5, 2, 3, 0.9)]
    table = pd.DataFrame(rows, columns=["corpus", "degradation", "level", "trials_bonafide", "trials_spoof", "eer"])
    return table.assign(eer_low=table["eer"] - 0.05, eer_high=table["eer"] + 0.05)


def write_evaluation(folder: Path, trials: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "trials.parquet", trials)
    return folder


def write_robustness(folder: Path, eer: float = 0.2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "robustness.parquet", make_robustness(eer))
    return folder
