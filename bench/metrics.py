"""Times of the metrics against named peers, in one process. Run: python bench/metrics.py."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_curve
from timing import row, seconds, show

from earmark.metrics.bootstrap import intervals, paired_draws
from earmark.metrics.detection import DetectionCurve, cllr, eer, min_dcf

TRIALS, BONAFIDE = 600_000, 60_000
RESAMPLED, SPEAKERS, SOURCES, RESAMPLES = 71_000, 67, 13, 1_000
PEER_RESAMPLES = 20  # a peer's time is measured on these and scaled


def rows() -> list[dict[str, Any]]:
    """One row a measurement."""
    return [_metric_set(), _bootstrap(), _paired()]


def _metric_set() -> dict[str, Any]:
    scores, key = _trials(TRIALS, BONAFIDE)
    ours = seconds(lambda: _figures(scores[key], scores[~key]))
    peer = seconds(lambda: _sklearn_eer(key, scores))
    return row("EER, minDCF, Cllr, DET of 600,000 trials; peer: EER alone by sklearn roc_curve", ours, peer, longest=1.0)


def _bootstrap() -> dict[str, Any]:
    scores, key = _trials(RESAMPLED, RESAMPLED // 10)
    generator = np.random.default_rng(1)
    speakers, sources = generator.integers(SPEAKERS, size=len(key)).astype(str), generator.integers(SOURCES, size=len(key)).astype(str)
    ours = seconds(lambda: intervals(scores, key, list(speakers), list(sources), resamples=RESAMPLES), repeats=1)
    weights = generator.integers(1, 4, size=len(key))
    peer = seconds(lambda: [_sklearn_eer(key, scores, weights) for _ in range(PEER_RESAMPLES)], repeats=1) * RESAMPLES / PEER_RESAMPLES
    return row("bootstrap, 1,000 × 71,000 trials; peer: EER alone by weighted sklearn roc_curve, scaled", ours, peer, longest=30.0)


def _paired() -> dict[str, Any]:
    """Two models on the same resamples; the peer makes two single bootstraps, which tell less."""
    scores, key = _trials(RESAMPLED, RESAMPLED // 10)
    generator = np.random.default_rng(1)
    other = scores + generator.normal(scale=0.3, size=len(key))
    speakers, sources = (list(generator.integers(number, size=len(key)).astype(str)) for number in (SPEAKERS, SOURCES))
    ours = seconds(lambda: paired_draws(scores, other, key, speakers, sources, resamples=RESAMPLES), repeats=1)
    peer = seconds(lambda: [intervals(part, key, speakers, sources, resamples=RESAMPLES) for part in (scores, other)], repeats=1)
    return row("paired bootstrap of two models, 1,000 × 71,000 trials; peer: two single ones", ours, peer, longest=30.0)


def _trials(count: int, bonafide: int) -> tuple[np.ndarray, np.ndarray]:
    key = np.arange(count) < bonafide
    return np.random.default_rng(0).normal(size=count) + 2 * key, key


def _figures(bonafide: np.ndarray, spoof: np.ndarray) -> tuple[float, float, float]:
    curve = DetectionCurve.of(bonafide, spoof)
    return eer(curve), min_dcf(curve), cllr(bonafide, spoof)


def _sklearn_eer(key: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    false_alarm, hit, _ = roc_curve(key, scores, sample_weight=weights)
    at = np.argmin(np.abs(1 - hit - false_alarm))
    return float((1 - hit[at] + false_alarm[at]) / 2)


if __name__ == "__main__":
    show(rows())
