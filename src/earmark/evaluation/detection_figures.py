"""All pictures of detection, corpus by corpus."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.evaluation import calibration_figures
from earmark.evaluation.breakdowns import by_key, parts
from earmark.metrics.detection import DetectionCurve, eer_point
from earmark.report import figures

Embeddings = tuple[Sequence[str], NDArray]  # utterance ids and their (N, E) vectors


def draw(
    out: Path,
    trials: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    embeddings: Embeddings | None,
    histories: Mapping[str, pd.DataFrame],
    seed: int,
) -> None:
    """Write out/figures/*.png, and the curves behind them for DVC's plots; `trials` have cm_score and, where calibrated, llr."""
    curves = {corpus: DetectionCurve.of(*by_key(part)) for corpus, part in parts(trials, "corpus")}
    figures.write_plots_data(out, curves, histories)
    folder = out / "figures"
    if curves:
        figures.draw_det(folder / "det.png", curves)
    for corpus, part in parts(trials, "corpus"):
        figures.draw_score_histogram(folder / f"scores_{corpus}.png", *by_key(part), eer_point(curves[corpus])[1], corpus)
        table = tables.get("per_source", pd.DataFrame(columns=["corpus"]))
        rows = table.take(np.flatnonzero(table["corpus"] == corpus))
        if len(rows):
            figures.draw_source_bars(folder / f"sources_{corpus}.png", rows, corpus)
        if embeddings is not None:
            _draw_embeddings(folder / f"embeddings_{corpus}.png", part, embeddings, seed)
        if "llr" in part:
            before, after = by_key(part), by_key(part, "llr")
            calibration_figures.draw_reliability(folder / f"reliability_{corpus}.png", before, after, corpus)
            calibration_figures.draw_tippett(folder / f"tippett_{corpus}.png", before, after, corpus)
    for member, history in histories.items():
        figures.draw_training(folder / f"training_{member}.png", history)


def _draw_embeddings(path: Path, trials: pd.DataFrame, embeddings: Embeddings, seed: int) -> None:
    ids, vectors = embeddings
    chosen = trials.take(figures.sample_rows(len(trials), seed))  # before reading vectors: there may be gigabytes of them
    places = pd.Index(ids).get_indexer(pd.Index(chosen["utterance_id"]))
    chosen = chosen.take(np.flatnonzero(places >= 0))
    figures.draw_embeddings(path, vectors[places[places >= 0]], list(chosen["key"]), list(chosen["source"]), seed)
