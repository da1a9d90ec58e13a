"""Trials parted by corpus, variant, source, attack and condition, and the detection figures of each part."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.corpora.protocol import CORE
from earmark.metrics import detection
from earmark.metrics.detection import DetectionCurve
from earmark.model.calibration import Calibration

CONDITION_VALUES = (2, 60)  # fewer values part nothing, more are no condition but a description
TYPED_CONDITIONS = ("language", "in_domain")  # core columns that are worth a breakdown
NO_CONDITIONS = (*CORE, "digest")  # beside numbers: what tells a trial from all others
Scores = NDArray[np.float64]


def parts(trials: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each value of a column, sorted, and its trials."""
    for value in sorted(trials[column].dropna().unique()):
        yield str(value), trials.take(np.flatnonzero((trials[column] == value).to_numpy(bool, na_value=False)))


def variants(trials: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All trials and, where classical engines (`origin` local) are marked, all others: such spoofs are easy and flatter the figure."""
    yield "all", trials
    if "origin" in trials:
        local = (trials["origin"] == "local").to_numpy(bool, na_value=False)
        if local.any():
            yield "without origin=local", trials.take(np.flatnonzero(~local))


def by_key(trials: pd.DataFrame, column: str = "cm_score") -> tuple[Scores, Scores]:
    """Scores of the bona fide and of the spoofed trials."""
    scores, bonafide = trials[column].to_numpy(np.float64), (trials["key"] == "bonafide").to_numpy(bool)
    return scores[bonafide], scores[~bonafide]


def conditions(trials: pd.DataFrame) -> list[str]:
    """Columns that part one corpus's trials by how they were made or recorded."""
    low, high = CONDITION_VALUES
    own = [name for name in trials.columns if name not in NO_CONDITIONS and trials[name].dtype.kind != "f"]
    names = [name for name in (*TYPED_CONDITIONS, *own) if name in trials]
    return [name for name in names if low <= len(trials[name].dropna().unique()) <= high]


def breakdowns(trials: pd.DataFrame, min_trials: int) -> dict[str, pd.DataFrame]:
    """Tables per_source, per_attack and per_condition of one corpus, those that its trials can fill."""
    tables = {f"per_{name}": breakdown(trials, name, min_trials) for name in ("source", "attack") if name in trials}
    parted = {name: breakdown(trials, name, min_trials) for name in conditions(trials)}
    if parted:
        table = pd.concat(list(parted.values()), keys=list(parted), names=["condition", "row"])
        tables["per_condition"] = table.reset_index().drop(columns="row")
    return tables


def breakdown(trials: pd.DataFrame, column: str, min_trials: int) -> pd.DataFrame:
    """Figures of each value: its bona fide against its spoofs, or its spoofs against all bona fide where it has spoofs alone.

    Of either key `min_trials` are needed; fewer are counted, and the figures NaN. Cllr is given of cm_score read as it is and of the llr.
    """
    read = {"cllr": "cm_score"} | ({"cllr_calibrated": "llr"} if "llr" in trials else {})
    rows = []
    for value, part in parts(trials, column):
        against = "own" if (part["key"] == "bonafide").any() else "all"
        other = part if against == "own" else trials
        bonafide, spoof = by_key(other)[0], by_key(part)[1]
        row: dict[str, Any] = {"value": value, "bonafide": bonafide.size, "spoof": spoof.size, "against": against}
        enough = min(bonafide.size, spoof.size) >= min_trials
        row["eer"] = detection.eer(DetectionCurve.of(bonafide, spoof)) if enough else float("nan")
        for figure, score in read.items():
            both = by_key(other, score)[0], by_key(part, score)[1]
            row[figure] = detection.cllr(DetectionCurve.of(*both)) if enough else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def decisions(trials: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Shares of decisions on the trials of either key of one corpus, at a prior of one half; they sum to 1."""
    rows = []
    for key, part in parts(trials, "key"):
        decided = np.array([calibration.decide(value) for value in part["llr"]])
        shares = {name: float(np.mean(decided == name)) for name in ("bonafide", "inconclusive", "spoof")}
        rows.append({"key": key, "trials": len(part), **shares})
    return pd.DataFrame(rows)
