"""Evaluation, pure tables: scores and a protocol in, figures per corpus out. Corpora are never pooled."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark import InputError
from earmark.corpora.protocol import CORE
from earmark.features.parts import collect
from earmark.files import complete, write_json
from earmark.metrics import detection
from earmark.metrics.bootstrap import intervals
from earmark.metrics.detection import AsvScores, Costs, DetectionCurve
from earmark.metrics.scorefile import join
from earmark.report import figures
from earmark.tracing.report import Answers, TracingReport, draw, tracing_report

LOG = logging.getLogger(__name__)
CONDITION_VALUES = (2, 60)  # fewer values part nothing, more are no condition but a description
Embeddings = tuple[Sequence[str], NDArray]  # utterance ids and their (N, E) vectors
TYPED_CONDITIONS = ("language", "in_domain")  # core columns that are worth a breakdown


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
    trials: pd.DataFrame  # the headline trials with their cm_score


def read_embeddings(folder: Path) -> tuple[list[str], np.ndarray]:
    """N ids and embeddings (N, E) of all parts."""
    table, _ = collect(folder, "score_detector")
    return table["utterance_id"].tolist(), np.stack(table["embedding"].to_numpy())


def headline(protocol: pd.DataFrame) -> pd.DataFrame:
    """Trials that figures are reported on: split eval and, in a corpus with organisers' subsets, subset eval.

    Errors: InputError when no trial is in split eval.
    """
    chosen = (protocol["split"] == "eval").to_numpy(bool, na_value=False)
    if "subset" in protocol:
        subset, corpus = protocol["subset"], pd.Index(protocol["corpus"])
        parted = corpus.isin(corpus[subset.notna().to_numpy(bool)])
        chosen = chosen & (~parted | (subset == "eval").to_numpy(bool, na_value=False))
    if not chosen.any():
        raise InputError("the protocol has no trial in split eval: add an evaluation corpus, or mark trials `eval` in the column split")
    return protocol.take(np.flatnonzero(chosen)).reset_index(drop=True)


def detection_report(
    scores: pd.DataFrame, protocol: pd.DataFrame, asv: Mapping[str, AsvScores] | None = None, settings: Settings = Settings()
) -> DetectionReport:
    """Report on `scores` (utterance_id, cm_score: higher = more bona fide); `asv` gives verification scores by corpus.

    Errors: InputError when scores are missing or not finite, or a corpus has trials of one key alone.
    """
    trials = join(scores, headline(protocol), settings.max_missing)
    metrics: dict[str, float] = {}
    tables: dict[str, list[pd.DataFrame]] = {"headline": [], "per_source": [], "per_attack": [], "per_condition": []}
    for corpus, part in _parts(trials, "corpus"):
        rows = [_headline_row(name, subset, (asv or {}).get(corpus), settings, corpus) for name, subset in _variants(part)]
        metrics |= _flatten(corpus, rows)
        found = {"headline": pd.DataFrame(rows), **_breakdowns(part, settings.min_trials)}
        for name, table in found.items():
            if len(table):
                table.insert(0, "corpus", corpus)
                tables[name].append(table)
    whole = {name: pd.concat(found, ignore_index=True) for name, found in tables.items() if found}
    return DetectionReport(metrics, whole, _warn_of_flipped(whole["headline"]), trials)


def _parts(trials: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    for value in sorted(trials[column].dropna().unique()):
        yield str(value), trials.take(np.flatnonzero((trials[column] == value).to_numpy(bool, na_value=False)))


def _variants(trials: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All trials and, where classical engines (`origin` local) are marked, all others: such spoofs are easy and flatter the figure."""
    yield "all", trials
    if "origin" in trials:
        local = (trials["origin"] == "local").to_numpy(bool, na_value=False)
        if local.any():
            yield "without origin=local", trials.take(np.flatnonzero(~local))


def _split(trials: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores, bonafide = trials["cm_score"].to_numpy(np.float64), (trials["key"] == "bonafide").to_numpy(bool)
    return scores[bonafide], scores[~bonafide]


def _headline_row(name: str, trials: pd.DataFrame, asv: AsvScores | None, settings: Settings, corpus: str) -> dict[str, Any]:
    bonafide, spoof = _split(trials)
    try:
        curve = DetectionCurve.of(bonafide, spoof)
    except InputError as error:
        raise InputError(f"corpus {corpus}, {name}: {error}") from None
    error_rate, threshold = detection.eer_point(curve)
    row: dict[str, Any] = {"trials": name, "bonafide": bonafide.size, "spoof": spoof.size, "eer": error_rate, "eer_threshold": threshold}
    row["min_dcf"] = detection.min_dcf(curve, settings.costs)
    row["act_dcf"] = detection.act_dcf(bonafide, spoof, settings.costs, settings.threshold)
    row["cllr"] = detection.cllr(bonafide, spoof)
    if asv is not None:
        row["min_tdcf_legacy"] = detection.min_tdcf_legacy(curve, asv)
        row["min_tdcf_2021"] = detection.min_tdcf_2021(curve, asv)
    return row | (_interval_columns(trials, settings) if settings.resamples else {})


def _interval_columns(trials: pd.DataFrame, settings: Settings) -> dict[str, float]:
    found = intervals(
        trials["cm_score"].to_numpy(np.float64),
        (trials["key"] == "bonafide").to_numpy(bool),
        list(trials["speaker"]) if "speaker" in trials else None,
        list(trials["source"]) if "source" in trials else None,
        resamples=settings.resamples,
        seed=settings.seed,
        costs=settings.costs,
    )
    return {f"{figure}_{end}": value for figure, pair in found.items() for end, value in zip(("low", "high"), pair, strict=True)}


def _flatten(corpus: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Metric names without blanks or signs, as trackers want them."""
    place = {"all": corpus, "without origin=local": f"{corpus}/without_local"}
    return {f"{place[row['trials']]}/{name}": value for row in rows for name, value in row.items() if name != "trials"}


def _breakdowns(trials: pd.DataFrame, min_trials: int) -> dict[str, pd.DataFrame]:
    tables = {f"per_{name}": _breakdown(trials, name, min_trials) for name in ("source", "attack") if name in trials}
    conditions = {name: _breakdown(trials, name, min_trials) for name in _conditions(trials)}
    if conditions:
        table = pd.concat(list(conditions.values()), keys=list(conditions), names=["condition", "row"])
        tables["per_condition"] = table.reset_index().drop(columns="row")
    return tables


def _conditions(trials: pd.DataFrame) -> list[str]:
    low, high = CONDITION_VALUES
    own = [name for name in trials.columns if name not in CORE and name != "cm_score" and trials[name].dtype.kind != "f"]
    names = [name for name in (*TYPED_CONDITIONS, *own) if name in trials]
    return [name for name in names if low <= len(trials[name].dropna().unique()) <= high]


def _breakdown(trials: pd.DataFrame, column: str, min_trials: int) -> pd.DataFrame:
    """EER of each value: its bona fide against its spoofs, or its spoofs against all bona fide where it has spoofs alone."""
    everyone, _ = _split(trials)
    rows = []
    for value, part in _parts(trials, column):
        own, spoof = _split(part)
        bonafide = own if own.size else everyone
        enough = min(bonafide.size, spoof.size) >= min_trials
        rate = detection.eer(DetectionCurve.of(bonafide, spoof)) if enough else float("nan")
        against = "own" if own.size else "all"
        rows.append({"value": value, "bonafide": bonafide.size, "spoof": spoof.size, "against": against, "eer": rate})
    return pd.DataFrame(rows)


def _warn_of_flipped(table: pd.DataFrame) -> list[str]:
    warnings = []
    for row in table.to_dict("records"):
        if row["eer"] > 0.5:
            place = f"{row['corpus']}, {row['trials']}"
            text = f"{place}: EER {row['eer']:.2%} is above 50 %: THE SCORES LOOK FLIPPED (higher must be more bona fide; try --negate)"
            LOG.warning("%s", text)
            warnings.append(text)
    return warnings


def evaluate_tables(
    out: Path,
    scores: pd.DataFrame,
    protocol: pd.DataFrame,
    *,
    embeddings: Embeddings | None = None,
    history: pd.DataFrame | None = None,
    asv: Mapping[str, AsvScores] | None = None,
    tracing: Answers | None = None,
    settings: Settings = Settings(),
) -> dict[str, float]:
    """Write metrics.json, tables and curves as CSV, and figures/*.png into the folder `out`; return the flat metrics.

    `embeddings` are ids and (N, E) vectors, `history` has one row an epoch, `tracing` is what the ensemble answered.
    A corpus of traced spoofs alone, such as MLAAD, has no detection figures. `out` is replaced as a whole.
    """
    traced = tracing_report(tracing, headline(protocol)) if tracing else TracingReport({}, {}, {})
    detected = _leave_spoofs_alone(protocol, traced)
    report = detection_report(scores, detected, asv, settings) if len(detected) else DetectionReport({}, {}, [], protocol.iloc[:0])
    metrics = report.metrics | traced.metrics
    with complete(out) as aside:
        (aside / "figures").mkdir(parents=True)
        write_json(aside / "metrics.json", metrics)
        for name, table in (report.tables | traced.tables).items():
            table.to_csv(aside / f"{name}.csv", index=False)
        (aside / "warnings.txt").write_text("".join(f"{warning}\n" for warning in report.warnings))
        _draw(aside, report, embeddings, history, settings)
        if tracing:
            draw(aside / "figures", traced, tracing, settings.seed)
    return metrics


def _leave_spoofs_alone(protocol: pd.DataFrame, traced: TracingReport) -> pd.DataFrame:
    """The protocol without corpora that have no bona fide trial and are reported on as traced; that is said."""
    trials = headline(protocol)
    alone = sorted(set(traced.trials) - set(trials["corpus"][trials["key"] == "bonafide"]))
    if alone:
        LOG.warning("%s: no bona fide trial, so only tracing is reported on", ", ".join(alone))
    return protocol.take(np.flatnonzero(~protocol["corpus"].isin(alone)))


def _draw(out: Path, report: DetectionReport, embeddings: Embeddings | None, history: pd.DataFrame | None, settings: Settings) -> None:
    curves = {corpus: DetectionCurve.of(*_split(part)) for corpus, part in _parts(report.trials, "corpus")}
    figures.write_plots_data(out, curves, history)
    if curves:
        figures.draw_det(out / "figures/det.png", curves)
    for corpus, part in _parts(report.trials, "corpus"):
        figures.draw_score_histogram(out / f"figures/scores_{corpus}.png", *_split(part), detection.eer_point(curves[corpus])[1], corpus)
        table = report.tables.get("per_source", pd.DataFrame(columns=["corpus"]))
        rows = table.take(np.flatnonzero(table["corpus"] == corpus))
        if len(rows):
            figures.draw_source_bars(out / f"figures/sources_{corpus}.png", rows, corpus)
        if embeddings is not None:
            _draw_embeddings(out / f"figures/embeddings_{corpus}.png", part, embeddings, settings.seed)
    if history is not None and len(history):
        figures.draw_training(out / "figures/training.png", history)


def _draw_embeddings(path: Path, trials: pd.DataFrame, embeddings: Embeddings, seed: int) -> None:
    ids, vectors = embeddings
    chosen = trials.take(figures.sample_rows(len(trials), seed))  # before reading vectors: there may be gigabytes of them
    places = pd.Index(ids).get_indexer(pd.Index(chosen["utterance_id"]))
    chosen = chosen.take(np.flatnonzero(places >= 0))
    figures.draw_embeddings(path, vectors[places[places >= 0]], list(chosen["key"]), list(chosen["source"]), seed)
