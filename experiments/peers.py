"""Peers on the same trials: Gaussian mixtures on LFCC (scikit-learn), and the cheap cues that no detector may live on."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from earmark.audio.decode import read
from earmark.features.lfcc import lfcc
from earmark.features.shards import Features, select
from earmark.params import DecodingParams

FRAMES = 120_000  # frames each mixture is fitted on, drawn at random


def lfcc_gmm(workspace: Path, protocol: pd.DataFrame, components: int = 128, seed: int = 688) -> pd.DataFrame:
    """Two mixtures, bona fide and spoof, fitted without copies; cm_score is the difference of the mean log-likelihoods."""
    features = Features(workspace / "artifacts/features")
    train = select(features, protocol[(protocol["split"] == "train") & ~protocol["copied"]])
    mixtures = [fit(features, rows, components, seed) for rows in (train[train["key"] == "bonafide"], train[train["key"] == "spoof"])]
    trials = select(features, protocol[protocol["split"] == "eval"])
    scores = []
    for utterance in track(trials["utterance_id"], "LFCC-GMM"):
        frames = lfcc(features.waveform(utterance))
        scores.append(mixtures[0].score(frames) - mixtures[1].score(frames))
    return pd.DataFrame({"utterance_id": trials["utterance_id"], "cm_score": scores})


def cheap_cues(workspace: Path, protocol: pd.DataFrame) -> pd.DataFrame:
    """Logistic regression on level, share of silence, silence at both ends and duration of the files as they are."""
    rows = protocol[~protocol["copied"]]
    cues = np.stack([cues_of(workspace / path) for path in track(rows["path"], "cheap cues")])
    train, trials = (rows["split"] == "train").to_numpy(), (rows["split"] == "eval").to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(cues[train], (rows["key"] == "bonafide").to_numpy()[train])
    return pd.DataFrame({"utterance_id": rows["utterance_id"][trials], "cm_score": model.decision_function(cues[trials])})


def cues_of(path: Path) -> np.ndarray:
    """(5,): level in dB, share of silent frames of 20 ms, seconds of silence before and after, seconds in all."""
    waveform, _ = read(path, DecodingParams())
    frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
    level = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-10)
    loud = np.flatnonzero(level > level.max() - 40)
    return np.array([level.mean(), 1 - len(loud) / len(level), loud[0] / 50, (len(level) - 1 - loud[-1]) / 50, len(level) / 50])


def fit(features: Features, rows: pd.DataFrame, components: int, seed: int) -> GaussianMixture:
    frames = np.concatenate([lfcc(features.waveform(utterance)) for utterance in rows["utterance_id"]])
    chosen = np.random.default_rng(seed).permutation(len(frames))[:FRAMES]
    mixture = GaussianMixture(components, covariance_type="diag", max_iter=30, reg_covar=1e-3, init_params="k-means++", random_state=seed)
    return mixture.fit(frames[chosen])
