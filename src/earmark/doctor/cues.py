"""How far what no one needs to listen for (level, silence, file form) tells bona fide from spoof, cue by cue and together.

A detector takes the easiest way: what separates the keys here is what it may learn instead of speech. Copies that earmark makes of the
recordings are compared apart from the spoofs that the corpora bring. What file handling could spoil in them is judged; what a vocoder does
to band, peaks and pauses is a trace that a detector is meant to find, and is shown only. r trials.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer

from earmark.corpora.protocol import SPLITS
from earmark.doctor.bounds import BOUNDS
from earmark.doctor.findings import Finding, judge
from earmark.metrics.bootstrap import Clusters, intervals
from earmark.metrics.detection import Ranked, auroc
from earmark.params.doctor import DoctorParams

MEASURED = ("level_dbfs", "peak_dbfs", "leading_silence", "trailing_silence", "silence_share", "duration", "bandwidth_hz")
FORM = ("rate", "container", "coding")
TOGETHER = "together"
JUDGED_IN_COPIES = ("level_dbfs", "leading_silence", "trailing_silence", "duration")
FOLDS = 5
ADVICE = {
    "level_dbfs": "nothing to do for training: every utterance is brought to audio.level_dbfs; other detectors would learn it",
    "peak_dbfs": "level is taken away by earmark, crest is not: look whether one key was limited or compressed",
    "leading_silence": "cut or pad the beginnings of both keys alike",
    "trailing_silence": "cut or pad the ends of both keys alike",
    "silence_share": "cut long pauses alike, or record how both keys were cut before",
    "duration": "cut both keys to like lengths; the detector sees clips of audio.clip_samples, and short ones repeated",
    "bandwidth_hz": "low-pass both keys at the lower of the two bands, or bring recordings of the same band",
    "rate": "resample both keys from the same rate: the upper band tells them apart",
    "container": "store both keys in one form; transcode bona fide and spoof through the same codecs",
    "coding": "store both keys in one form; transcode bona fide and spoof through the same codecs",
    TOGETHER: "mend the strongest cues first; read a detector's error rate beside this AUC",
}
HISTORY_ADVICE = "bring both keys through the same rates and codecs, or report figures by this column"


@dataclass(frozen=True)
class Trials:
    """Trials of a split whose keys are compared: all bona fide ones with spoofs of one origin, and the cues that are judged."""

    name: str
    rows: pd.DataFrame
    judged: tuple[str, ...] | None = None  # None: all

    @property
    def is_bonafide(self) -> NDArray[np.bool_]:
        """(r,) truth."""
        return (self.rows["key"] == "bonafide").to_numpy()

    @property
    def enough(self) -> int:
        """Trials of the rarer key."""
        return int(min(np.count_nonzero(self.is_bonafide), np.count_nonzero(~self.is_bonafide)))

    @cached_property
    def tied(self) -> NDArray[np.int64]:
        """(r,) numbers of trials that rise and fall together: of a speaker, else of a group, else each alone; either key has some."""
        for column in ("speaker", "group"):
            names = self.rows[column]
            if names.notna().all() and names.groupby(self.is_bonafide).nunique().min() > 1:
                return names.factorize()[0]
        return np.arange(len(self.rows))


def check_cues(table: pd.DataFrame, settings: DoctorParams, seed: int) -> tuple[Finding, pd.DataFrame]:
    """AUC of every cue in every split, and what separates; copies of earmark's own making are compared apart from the corpus's spoofs."""
    usable = table[table["error"].isna()]
    parts = [part for part in list_trials(usable) if part.enough >= BOUNDS.min_trials]
    shown = track(parts, "cheap cues", disable=not parts, console=Console(stderr=True))
    cues = pd.DataFrame([row for part in shown for row in measure(part, settings, seed)], columns=list(COLUMNS))
    found = cues[cues["separates"].astype(bool)].drop(columns=["judged", "separates"])
    named = ", ".join(found["cue"].unique())
    what = f"{named}: AUC of {BOUNDS.max_auc:g} or more without listening to speech"
    advice = "\n".join(f"{cue}: {ADVICE.get(cue, HISTORY_ADVICE)}" for cue in found["cue"].unique())
    finding = judge("cheap_cues", settings.cheap_cues, found, what, advice, unit="cues")
    if not parts:
        finding = replace(finding, status="not judged", summary=f"no split has {BOUNDS.min_trials} trials of both keys")
    return finding, cues


COLUMNS = ("trials", "cue", "bonafide", "spoof", "median_bonafide", "median_spoof", "auc", "low", "high", "judged", "separates")


def list_trials(table: pd.DataFrame) -> list[Trials]:
    """Bona fide trials of each split beside the spoofs that the corpora bring, and beside copies made of its recordings."""
    found = []
    for split in SPLITS:
        rows = table[table["split"] == split]
        bonafide, spoof = rows["key"] == "bonafide", rows["key"] == "spoof"
        found.append(Trials(split, rows[bonafide | (spoof & ~rows["copied"])]))
        found.append(Trials(f"{split}, copies", rows[bonafide | (spoof & rows["copied"])], JUDGED_IN_COPIES))
    return found


def measure(trials: Trials, settings: DoctorParams, seed: int) -> list[dict[str, object]]:
    """Rows of the table of cues: each measured one, each of the file's form and history, and all together."""
    history = [name for name in settings.history if name in trials.rows and trials.rows[name].notna().any()]
    forms = [name for name in (*FORM, *history) if trials.rows[name].fillna("unknown").nunique() > 1]
    rows = [_row(trials, cue, trials.rows[cue].to_numpy(float), seed, either_way=True) for cue in MEASURED]
    for cue in forms:
        rows.append(_row(trials, cue, predict(trials, [], [cue]), seed))
    rows.append(_row(trials, TOGETHER, predict(trials, list(MEASURED), forms), seed))
    return rows


def _row(trials: Trials, cue: str, scores: NDArray[np.float64], seed: int, either_way: bool = False) -> dict[str, object]:
    """A cue's AUC with its interval; `either_way`: whichever key has more of it."""
    key = trials.is_bonafide
    auc, low, high = area(scores, trials, seed)
    if either_way and auc < 0.5:
        auc, low, high = 1 - auc, 1 - high, 1 - low
    medians = [float(np.median(scores[part])) for part in (key, ~key)] if cue in MEASURED else [None, None]
    judged = trials.judged is None or cue in trials.judged
    separates = judged and auc >= BOUNDS.max_auc and low > 0.5
    cells = (trials.name, cue, int(key.sum()), int((~key).sum()), *medians, auc, low, high, judged, separates)
    return dict(zip(COLUMNS, cells, strict=True))


def area(scores: NDArray[np.float64], trials: Trials, seed: int) -> tuple[float, float, float]:
    """AUC of (r,) scores, higher = more bona fide, with an interval over speakers and sources."""
    order = np.argsort(scores, kind="stable")  # speakers and sources are numbered as they come up, so that resamples follow the order
    ranked = Ranked.of(scores[order], trials.is_bonafide[order])
    clusters = Clusters.of(ranked.is_bonafide, trials.tied[order].tolist(), trials.rows["source"].iloc[order].tolist())

    def figures(weights: NDArray[np.float64]) -> dict[str, float]:
        return {"auc": auroc(ranked.curve(weights))}

    found = intervals(figures, clusters, BOUNDS.resamples, seed, BOUNDS.confidence)
    return auroc(ranked.curve()), *found.get("auc", (0.0, 1.0))


def predict(trials: Trials, measured: list[str], forms: list[str]) -> NDArray[np.float64]:
    """(r,) log-odds of bona fide by logistic regression on splines and categories, each fold's from the others."""
    groups, key = trials.tied, trials.is_bonafide
    folds = min(FOLDS, *(len(np.unique(groups[part])) for part in (key, ~key)))
    columns = trials.rows[[*measured, *forms]].astype(dict.fromkeys(forms, "str")).fillna(dict.fromkeys(forms, "unknown"))
    model = make_pipeline(
        make_column_transformer(
            (SplineTransformer(4, degree=2, knots="quantile"), measured),
            (OneHotEncoder(handle_unknown="ignore"), forms),
        ),
        LogisticRegression(class_weight="balanced", max_iter=1_000),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cross_val_predict(
            model, columns, key, groups=groups, cv=StratifiedGroupKFold(folds, shuffle=True, random_state=0), method="decision_function"
        )
