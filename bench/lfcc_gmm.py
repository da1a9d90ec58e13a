"""The classical peer: two Gaussian mixtures on LFCC with deltas (scikit-learn, torchaudio), bona fide against spoof."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchaudio
from rich.progress import track
from sklearn.mixture import GaussianMixture

from earmark.features.shards import Features

FRAMES = 120_000  # frames each mixture is fitted on, drawn at random


def train_and_score(workspace: Path, protocol: pd.DataFrame, components: int = 128, seed: int = 688) -> pd.DataFrame:
    """cm_score of every eval trial: difference of the mean log-likelihoods, higher = more bona fide. Copies are not trained on."""
    features = Features(workspace / "artifacts/features")
    train = features.select(protocol[(protocol["split"] == "train") & ~protocol["made"]])
    mixtures = [fit(features, rows, components, seed) for rows in (train[train["key"] == "bonafide"], train[train["key"] == "spoof"])]
    trials = features.select(protocol[protocol["split"] == "eval"])
    scores = []
    for utterance in track(trials["utterance_id"], "LFCC-GMM"):
        frames = lfcc(features.waveform(utterance))
        scores.append(mixtures[0].score(frames) - mixtures[1].score(frames))
    return pd.DataFrame({"utterance_id": trials["utterance_id"], "cm_score": scores})


def fit(features: Features, rows: pd.DataFrame, components: int, seed: int) -> GaussianMixture:
    frames = np.concatenate([lfcc(features.waveform(utterance)) for utterance in rows["utterance_id"]])
    chosen = np.random.default_rng(seed).permutation(len(frames))[:FRAMES]
    mixture = GaussianMixture(components, covariance_type="diag", max_iter=30, reg_covar=1e-3, init_params="k-means++", random_state=seed)
    return mixture.fit(frames[chosen])


TRANSFORM = torchaudio.transforms.LFCC(
    sample_rate=16_000, n_filter=70, n_lfcc=20, speckwargs={"n_fft": 512, "win_length": 320, "hop_length": 160}
)


def lfcc(waveform: np.ndarray) -> np.ndarray:
    """(T,) → (frames, 60): 20 coefficients, their deltas and double deltas."""
    static = TRANSFORM(torch.from_numpy(waveform))
    delta = torchaudio.functional.compute_deltas(static)
    return torch.cat((static, delta, torchaudio.functional.compute_deltas(delta))).T.numpy()
