"""Detection's figures, pure tables: scores and a protocol in, figures per corpus out. Corpora are never pooled."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark import InputError
from earmark.corpora.protocol import headline
from earmark.evaluation.breakdowns import breakdowns, decisions, parts, variants
from earmark.evaluation.join import join
from earmark.metrics import detection
from earmark.metrics.bootstrap import Clusters, Figures, intervals
from earmark.metrics.detection import AsvScores, Costs, Ranked, TandemCost
from earmark.model.calibration import Calibration

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How to report; every number comes from params or the command line."""

    resamples: int = 1000  # 0: no intervals
    seed: int = 0
    min_trials: int = 20  # of either key, below which a row shows its counts alone
    threshold: float | None = None  # of actDCF; None: the one that is right for log-likelihood ratios
    costs: Costs = Costs()  # noqa: RUF009 - frozen
    max_missing: float = 0.0  # share of trials that may lack a score


@dataclass(frozen=True)
class DetectionReport:
    """Flat metrics (`<corpus>/<figure>`, fractions and bits), tables by name, and what a reader must be warned of."""

    metrics: dict[str, float]
    tables: dict[str, pd.DataFrame]
    warnings: list[str]
    trials: pd.DataFrame  # the headline trials with their cm_score and, where calibrated, llr


def detection_report(
    scores: pd.DataFrame,
    protocol: pd.DataFrame,
    asv: Mapping[str, AsvScores] | None = None,
    settings: Settings = Settings(),
    calibration: Calibration | None = None,
) -> DetectionReport:
    """Report on `scores` (utterance_id, cm_score: higher = more bona fide); `asv` gives verification scores by corpus.

    With a calibration, figures of the llr that it makes of them stand beside those of the scores as they are.
    Errors: InputError when scores are missing or not finite, or a corpus has trials of one key alone.
    """
    trials = join(scores, headline(protocol), settings.max_missing)
    if calibration:
        trials["llr"] = calibration.llr(trials["cm_score"])
    metrics: dict[str, float] = {}
    tables: dict[str, list[pd.DataFrame]] = {"headline": [], "per_source": [], "per_attack": [], "per_condition": []}
    for corpus, part in parts(trials, "corpus"):
        rows = [_headline_row(name, subset, (asv or {}).get(corpus), settings, corpus) for name, subset in variants(part)]
        metrics |= _flatten(corpus, rows)
        found = {"headline": pd.DataFrame(rows), **breakdowns(part, settings.min_trials)}
        found |= {"decisions": decisions(part, calibration)} if calibration else {}
        for name, table in found.items():
            if len(table):
                table.insert(0, "corpus", corpus)
                tables.setdefault(name, []).append(table)
    whole = {name: pd.concat(found, ignore_index=True) for name, found in tables.items() if found}
    return DetectionReport(metrics, whole, list(_warnings(whole["headline"])), trials)


def _headline_row(name: str, trials: pd.DataFrame, asv: AsvScores | None, settings: Settings, corpus: str) -> dict[str, Any]:
    key = (trials["key"] == "bonafide").to_numpy(bool)
    try:
        rankings = {score: Ranked.of(trials[score], key) for score in ("cm_score", "llr") if score in trials}
        error_rate, threshold = detection.eer_point(rankings["cm_score"].curve())
    except InputError as error:
        raise InputError(f"corpus {corpus}, {name}: {error}") from None
    tandem = {"min_tdcf_legacy": detection.tandem_legacy(asv), "min_tdcf_2021": detection.tandem_2021(asv)} if asv else {}
    figures = partial(_figures, rankings, tandem, settings)
    row: dict[str, Any] = {"trials": name, "bonafide": int(key.sum()), "spoof": int((~key).sum())}
    row |= {"eer": error_rate, "eer_threshold": threshold, **figures()}
    if settings.resamples:
        speakers, sources = (list(trials[name]) if name in trials else None for name in ("speaker", "source"))
        row |= _interval_columns(figures, Clusters.of(key, speakers, sources), settings)
    return row


def _figures(
    rankings: Mapping[str, Ranked], tandem: Mapping[str, TandemCost], settings: Settings, weights: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Figures of all trials, or of a resample that holds each as often as its weight (r,) says."""
    curve = rankings["cm_score"].curve(weights)
    found = {
        "eer": detection.eer(curve),
        "min_dcf": detection.min_dcf(curve, settings.costs),
        "act_dcf": detection.act_dcf(curve, settings.costs, settings.threshold),
        "cllr": detection.cllr(curve),
        "cllr_min": detection.min_cllr(curve),
    }
    if "llr" in rankings:
        calibrated = rankings["llr"].curve(weights)
        found["act_dcf_calibrated"] = detection.act_dcf(calibrated, settings.costs)
        found["cllr_calibrated"] = detection.cllr(calibrated)
    return found | {name: cost.least(curve.miss, curve.false_alarm) for name, cost in tandem.items()}


def _interval_columns(figures: Figures, clusters: Clusters, settings: Settings) -> dict[str, float]:
    found = intervals(figures, clusters, settings.resamples, settings.seed)
    if not found:
        raise InputError("no resample holds both keys: too few speakers or sources for an interval, set the number of resamples to 0")
    return {f"{figure}_{end}": value for figure, pair in found.items() for end, value in zip(("low", "high"), pair, strict=True)}


def _flatten(corpus: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Metric names without blanks or signs, as trackers want them."""
    place = {"all": corpus, "without origin=local": f"{corpus}/without_local"}
    return {f"{place[row['trials']]}/{name}": value for row in rows for name, value in row.items() if name != "trials"}


def _warnings(table: pd.DataFrame) -> Iterator[str]:
    """Flipped scores, and a calibration that misleads; said in the log too."""
    for row in table.to_dict("records"):
        place, found = f"{row['corpus']}, {row['trials']}", []
        if row["eer"] > 0.5:
            found.append(f"EER {row['eer']:.2%} is above 50 %: THE SCORES LOOK FLIPPED (higher must be more bona fide; try --negate)")
        if (bits := row.get("cllr_calibrated", 0)) > 1:
            found.append(f"calibrated Cllr {bits:.2f} is above 1: the posteriors mislead, take none at its word on such recordings")
        for text in found:
            LOG.warning("%s: %s", place, text)
            yield f"{place}: {text}"
