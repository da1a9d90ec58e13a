"""Times of the metrics against named peers, in one process. Run: python bench/metrics.py."""

from functools import partial
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_curve

from earmark.metrics.bootstrap import Clusters, difference, draws, intervals
from earmark.metrics.detection import Ranked, act_dcf, cllr, eer, min_cllr, min_dcf
from earmark.metrics.tracing import Traced
from timing import row, seconds, show

TRIALS, BONAFIDE = 600_000, 60_000
RESAMPLED, SPEAKERS, SOURCES, RESAMPLES = 71_000, 67, 13, 1_000
PEER_RESAMPLES = 20  # a peer's time is measured on these and scaled


def rows() -> list[dict[str, Any]]:
    """One row a measurement."""
    return [_metric_set(), _bootstrap(), _costs(), _traced(), _paired()]


def _metric_set() -> dict[str, Any]:
    scores, key = _trials(TRIALS, BONAFIDE)
    ours = seconds(lambda: _figures(Ranked.of(scores, key)))
    peer = seconds(lambda: _sklearn_eer(key, scores))
    return row("EER, minDCF, Cllr, DET of 600,000 trials; peer: EER alone by sklearn roc_curve", ours, peer, longest=1.0)


def _bootstrap() -> dict[str, Any]:
    scores, key = _trials(RESAMPLED, RESAMPLED // 10)
    generator = np.random.default_rng(1)
    speakers, sources = _clusters(generator, len(key))
    ours = seconds(lambda: _intervals(scores, key, speakers, sources), repeats=1)
    weights = generator.integers(1, 4, size=len(key))
    peer = seconds(lambda: [_sklearn_eer(key, scores, weights) for _ in range(PEER_RESAMPLES)], repeats=1) * RESAMPLES / PEER_RESAMPLES
    return row("bootstrap, 1,000 × 71,000 trials; peer: EER alone by weighted sklearn roc_curve, scaled", ours, peer, longest=30.0)


def _costs() -> dict[str, Any]:
    """What a report has beside EER, minDCF and Cllr."""
    scores, key = _trials(RESAMPLED, RESAMPLED // 10)
    speakers, sources = _clusters(np.random.default_rng(1), len(key))
    ours = seconds(lambda: intervals(partial(_cost_figures, Ranked.of(scores, key)), Clusters.of(key, speakers, sources), RESAMPLES), 1)
    weights = np.random.default_rng(1).integers(1, 4, size=len(key))
    model = IsotonicRegression(y_min=0, y_max=1)
    peer = seconds(lambda: [model.fit(scores, key, weights).predict(scores) for _ in range(PEER_RESAMPLES)], repeats=1)
    name = "the same of actDCF, calibrated Cllr and least Cllr; peer: sklearn's isotonic regression for the last, scaled"
    return row(name, ours, peer * RESAMPLES / PEER_RESAMPLES, longest=30.0)


def _traced() -> dict[str, Any]:
    """All of tracing's figures."""
    generator = np.random.default_rng(1)
    speakers, sources = _clusters(generator, RESAMPLED)
    known = np.array([int(source) < SOURCES // 2 for source in sources])
    answers = [source if lucky else "0" for source, lucky in zip(sources, generator.random(RESAMPLED) < 0.8, strict=True)]
    scores, alone = ~known + generator.normal(size=RESAMPLED), np.zeros(RESAMPLED, bool)
    ours = seconds(
        lambda: intervals(Traced.of(sources, answers, scores, known).figures, Clusters.of(alone, speakers, sources), RESAMPLES), repeats=1
    )
    return row("the same of tracing's eight figures", ours, float("nan"), longest=30.0)


def _clusters(generator: np.random.Generator, count: int) -> list[list[str]]:
    """Speakers and sources of so many trials."""
    return [list(generator.integers(number, size=count).astype(str)) for number in (SPEAKERS, SOURCES)]


def _paired() -> dict[str, Any]:
    """Two models on the same resamples; the peer makes two single bootstraps, which tell less."""
    scores, key = _trials(RESAMPLED, RESAMPLED // 10)
    generator = np.random.default_rng(1)
    other = scores + generator.normal(scale=0.3, size=len(key))
    speakers, sources = _clusters(generator, len(key))
    ours = seconds(lambda: _paired_draws(scores, other, key, speakers, sources), repeats=1)
    peer = seconds(lambda: [_intervals(part, key, speakers, sources) for part in (scores, other)], repeats=1)
    return row("paired bootstrap of two models, 1,000 × 71,000 trials; peer: two single ones", ours, peer, longest=30.0)


def _trials(count: int, bonafide: int) -> tuple[np.ndarray, np.ndarray]:
    key = np.arange(count) < bonafide
    return np.random.default_rng(0).normal(size=count) + 2 * key, key


def _figures(ranked: Ranked, weights: np.ndarray | None = None) -> dict[str, float]:
    curve = ranked.curve(weights)
    return {"eer": eer(curve), "min_dcf": min_dcf(curve), "cllr": cllr(curve)}


def _cost_figures(ranked: Ranked, weights: np.ndarray) -> dict[str, float]:
    curve = ranked.curve(weights)
    return {"act_dcf": act_dcf(curve), "cllr_calibrated": cllr(curve), "cllr_min": min_cllr(curve)}


def _intervals(scores: np.ndarray, key: np.ndarray, speakers: list[str], sources: list[str]) -> dict[str, tuple[float, float]]:
    return intervals(partial(_figures, Ranked.of(scores, key)), Clusters.of(key, speakers, sources), RESAMPLES)


def _paired_draws(scores: np.ndarray, other: np.ndarray, key: np.ndarray, speakers: list[str], sources: list[str]) -> dict[str, np.ndarray]:
    champion, challenger = (partial(_figures, Ranked.of(part, key)) for part in (scores, other))
    return draws(difference(champion, challenger), Clusters.of(key, speakers, sources), RESAMPLES)


def _sklearn_eer(key: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    false_alarm, hit, _ = roc_curve(key, scores, sample_weight=weights)
    at = np.argmin(np.abs(1 - hit - false_alarm))
    return float((1 - hit[at] + false_alarm[at]) / 2)


if __name__ == "__main__":
    show(rows())
