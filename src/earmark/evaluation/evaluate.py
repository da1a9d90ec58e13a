"""Evaluation: scores, answers and a protocol in; figures, tables, pictures and a page out. Nothing is computed from audio here."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from earmark.corpora.protocol import headline
from earmark.ensemble.detection import DETECTORS, SCORES
from earmark.evaluation.detection import DetectionReport, Settings, detection_report
from earmark.evaluation.detection_figures import Embeddings
from earmark.evaluation.detection_figures import draw as draw_detection
from earmark.evaluation.detectors import compare
from earmark.evaluation.page import Findings, evaluation_page
from earmark.evaluation.scorefile import read_asv_scores
from earmark.evaluation.tracing import Answers, TracingReport, read_answers, tracing_report
from earmark.evaluation.tracing import draw as draw_tracing
from earmark.evaluation.trial_table import trial_table
from earmark.metrics.detection import AsvScores
from earmark.model.calibration import Calibration
from earmark.model.manifest import read_manifest
from earmark.params import EvaluationParams, TrialsParams
from earmark.storage.files import complete, read_table, write_json, write_table

LOG = logging.getLogger(__name__)


def evaluate(
    seed: int, trials: TrialsParams, evaluation: EvaluationParams, *,
    protocol: Path, detectors: Path, answers: Path, model: Path, robustness: Path, output: Path,
) -> dict[str, float]:  # fmt: skip
    """Evaluate what other stages wrote: see `evaluate_tables`."""
    table, scored, systems = read_table(protocol), read_table(answers / SCORES), read_table(answers / DETECTORS)
    of_eval = table[table["split"] == "eval"]
    settings = Settings(evaluation.resamples, seed, evaluation.min_trials, max_missing=trials.max_unreadable)
    return evaluate_tables(
        output,
        scored[scored["utterance_id"].isin(of_eval["utterance_id"])],
        of_eval,
        embeddings=(scored["utterance_id"].tolist(), np.stack(scored["embedding"].to_list())),
        detectors=systems,
        histories={path.stem: pd.read_csv(path) for path in sorted(detectors.glob("*.csv")) if path.stem in set(systems["system"])},
        asv={corpus: read_asv_scores(Path(path)) for corpus, path in evaluation.asv_scores.items()},
        tracing=read_answers(answers, table),
        manifest=read_manifest(model),
        robustness=read_table(robustness / "robustness.parquet"),
        settings=settings,
    )


def evaluate_tables(
    out: Path,
    scores: pd.DataFrame,
    protocol: pd.DataFrame,
    *,
    embeddings: Embeddings | None = None,
    detectors: pd.DataFrame | None = None,
    histories: Mapping[str, pd.DataFrame] | None = None,
    asv: Mapping[str, AsvScores] | None = None,
    tracing: Answers | None = None,
    manifest: dict[str, Any] | None = None,
    robustness: pd.DataFrame | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> dict[str, float]:
    """Write report.html, metrics.json, trials.parquet, tables and curves as CSV, figures/*.png into the folder `out`; return the metrics.

    `embeddings` are ids and (N, E) vectors, `detectors` scores of parts of the ensemble (system, utterance_id, cm_score), `histories` a row
    an epoch by network, `tracing` is what the ensemble answered, `manifest` is of the packaged model, whose calibration is applied,
    `robustness` has a row a corpus, degradation and level. `out` is replaced as a whole.
    """
    calibration, trials = Calibration(**manifest["calibration"]) if manifest else None, headline(protocol)
    with Console(stderr=True).status("tracing's figures") as status, complete(out) as aside:
        (aside / "figures").mkdir(parents=True)
        traced = tracing_report(tracing, trials, settings.resamples, settings.seed) if tracing else TracingReport({}, {}, {})
        status.update("detection's figures")
        report = _detect(scores, protocol, traced, asv, settings, calibration)
        if detectors is not None and len(report.trials):
            report.tables["detectors"] = compare(report.trials, detectors, settings)
        table = trial_table(trials, scores, calibration, traced.trials)
        _write(aside, report, traced, table)
        status.update("pictures")
        draw_detection(aside, report.trials, report.tables, embeddings, histories or {}, settings.seed)
        if tracing:
            draw_tracing(aside / "figures", traced, tracing, settings.seed)
        whole = report.tables | traced.tables
        findings = Findings(
            report.metrics | traced.metrics, whole, report.warnings, table, aside / "figures", settings, robustness, manifest
        )
        (aside / "report.html").write_text(evaluation_page(findings))
    return report.metrics | traced.metrics


def _detect(
    scores: pd.DataFrame, protocol: pd.DataFrame, traced: TracingReport, asv: Mapping[str, AsvScores] | None, settings: Settings,
    calibration: Calibration | None,
) -> DetectionReport:  # fmt: skip
    """Detection on corpora with bona fide trials; a warning names corpora of spoofs alone, such as MLAAD, which have none."""
    trials = headline(protocol)
    alone = sorted(set(traced.trials) - set(trials["corpus"][trials["key"] == "bonafide"]))
    warnings = [f"{corpus}: no bona fide trial, so only tracing is reported on" for corpus in alone]
    for warning in warnings:
        LOG.warning("%s", warning)
    kept = trials.take(np.flatnonzero(~trials["corpus"].isin(alone)))
    if not len(kept):
        return DetectionReport({}, {}, warnings, kept)
    report = detection_report(scores, kept, asv, settings, calibration)
    return DetectionReport(report.metrics, report.tables, [*report.warnings, *warnings], report.trials)


def _write(folder: Path, report: DetectionReport, traced: TracingReport, trials: pd.DataFrame) -> None:
    write_json(folder / "metrics.json", report.metrics | traced.metrics)
    write_table(folder / "trials.parquet", trials)
    for name, table in (report.tables | traced.tables).items():
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "warnings.txt").write_text("".join(f"{warning}\n" for warning in report.warnings))
