"""The gate's rules: each turns tables of trials into findings, one a figure and place that it judged.

A table of trials has the columns utterance_id, digest, corpus, key, speaker, source, conditions, and llr (higher = more bona fide); traced
trials have answer, ood_score (higher = more likely unseen) and known.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from earmark.metrics import detection
from earmark.metrics.bootstrap import Clusters, Floats, difference, draws, interval
from earmark.metrics.detection import MissingKey, Ranked
from earmark.metrics.tracing import Traced
from earmark.params import GateParams

HIGHER_IS_BETTER = ("accuracy", "auroc")
IDENTITY = ["utterance_id", "digest", "corpus", "key"]


@dataclass(frozen=True)
class Finding:
    """What a rule found: figures of both models, what was allowed, and by how much it is missed."""

    rule: str
    place: str
    figure: str
    passed: bool
    challenger: float | None = None
    champion: float | None = None
    low: float | None = None  # interval of challenger − champion, or, of a degradation, of the challenger's own figure
    high: float | None = None
    bound: float | None = None
    missed_by: float | None = None
    note: str = ""

    def __str__(self) -> str:
        """One line for people."""
        amount = "" if self.missed_by is None else f" by {self.missed_by:.4g}"
        return (
            f"{self.rule} ({', '.join(word for word in (self.place, self.figure) if word)}) failed{amount}{self.note and ': ' + self.note}"
        )


def bounded(rule: str, place: str, figure: str, value: float, bound: float) -> Finding:
    """A figure that may not be larger than its bound."""
    passed = value <= bound
    return Finding(rule, place, figure, passed, value, bound=bound, missed_by=None if passed else value - bound)


def corpora(trials: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Corpora that have trials of both keys; they are never pooled."""
    for name, part in trials.groupby("corpus"):
        if part["key"].nunique() == 2:
            yield str(name), part


def ranked(trials: pd.DataFrame) -> Ranked:
    """Trials by their llr."""
    return Ranked.of(trials["llr"], (trials["key"] == "bonafide").to_numpy(bool))


def first_bounds(trials: pd.DataFrame, gate: GateParams) -> Iterator[Finding]:
    """Absolute bounds, in place of a champion."""
    for name, part in corpora(trials):
        curve = ranked(part).curve()
        yield bounded("first", name, "eer", detection.eer(curve), gate.first.eer)
        yield bounded("first", name, "cllr", detection.cllr(curve), gate.first.cllr)


def calibration(trials: pd.DataFrame, gate: GateParams) -> Iterator[Finding]:
    """The calibrated score is worth something, and little would be saved by calibrating it better."""
    for name, part in corpora(trials):
        curve = ranked(part).curve()
        actual = detection.cllr(curve)
        yield bounded("calibration", name, "cllr", actual, gate.calibration.cllr)
        yield bounded("calibration", name, "calibration_loss", actual - detection.min_cllr(curve), gate.calibration.loss)


def robustness(table: pd.DataFrame, gate: GateParams) -> Iterator[Finding]:
    """The mean over a corpus's degradations, and the worst of all; `table` has a row a corpus, degradation and level.

    A mean above the bound is refused: many degradations of few trials tell chance from hearing. The worst is refused where its whole
    interval lies above the bound: one degradation of 40 trials cannot tell .5 from .4, and the worst of many is always unlucky. A table
    whose rows all have fewer than `robustness_trials` of either key, or no interval, answers nothing and is refused.
    """
    if gate.robustness_eer is None:
        return
    enough = table[table[["trials_bonafide", "trials_spoof"]].min(axis=1) >= gate.robustness_trials]
    if enough["eer_low"].dropna().empty:
        yield Finding("robustness", "", "eer", False, bound=gate.robustness_eer, note="not measured on enough trials")
        return
    for name, rows in enough.groupby("corpus"):
        mean = float(rows["eer"].mean())
        yield bounded("robustness", f"{name}, mean of {len(rows)} degradations", "eer", mean, gate.robustness_eer)
    worst = enough.loc[enough["eer_low"].idxmax()]
    place = f"{worst['corpus']}, {worst['degradation']} {worst['level']}"
    value, low, high = (float(worst[name]) for name in ("eer", "eer_low", "eer_high"))
    missed = low - gate.robustness_eer if low > gate.robustness_eer else None
    yield Finding("robustness", place, "eer", missed is None, value, None, low, high, gate.robustness_eer, missed)


def same_trials(challenger: pd.DataFrame, champion: pd.DataFrame) -> Finding:
    """Both models were evaluated on the same recordings with the same keys."""
    new, old = (set(trials[IDENTITY].astype("str").itertuples(index=False, name=None)) for trials in (challenger, champion))
    if new == old:
        return Finding("same trials", "", "", True)
    example = min(new ^ old)[0]
    note = f"{len(new - old)} trials of the challenger alone and {len(old - new)} of the champion alone, such as {example}"
    return Finding("same trials", "", "", False, missed_by=float(len(new ^ old)), note=f"{note}: evaluate both on the same trials")


@dataclass(frozen=True)
class Compared:
    """One figure of both models on one corpus, and draws of their difference."""

    challenger: float
    champion: float
    draws: Floats


def compare(challenger: pd.DataFrame, champion: pd.DataFrame, gate: GateParams, seed: int) -> dict[str, dict[str, Compared]]:
    """Figures that the rules ask for, by figure and corpus; those that the trials cannot give are left out."""
    aligned = champion.set_index("utterance_id").loc[challenger["utterance_id"]].reset_index()
    found: dict[str, dict[str, Compared]] = {}
    for number, (name, part) in enumerate(challenger.groupby("corpus")):
        old = aligned[(aligned["corpus"] == name).to_numpy()]
        figures = _detection(part, old, gate, seed + number) if part["key"].nunique() == 2 else {}
        for figure, compared in (figures | _tracing(part, old, gate, seed + number)).items():
            if figure in (*gate.win, *gate.hold) and np.isfinite(compared.draws).any():
                found.setdefault(figure, {})[str(name)] = compared
    return found


def _detection(new: pd.DataFrame, old: pd.DataFrame, gate: GateParams, seed: int) -> dict[str, Compared]:
    clusters = Clusters.of((new["key"] == "bonafide").to_numpy(bool), list(new["speaker"]), list(new["source"]))
    return _compared(partial(_detection_figures, ranked(new)), partial(_detection_figures, ranked(old)), clusters, gate, seed)


def _detection_figures(trials: Ranked, weights: Floats | None = None) -> dict[str, float]:
    curve = trials.curve(weights)
    return {"eer": detection.eer(curve), "min_dcf": detection.min_dcf(curve), "cllr": detection.cllr(curve)}


def _compared(
    new: Callable[..., dict[str, float]], old: Callable[..., dict[str, float]], clusters: Clusters, gate: GateParams, seed: int
) -> dict[str, Compared]:
    ours, theirs = new(), old()
    drawn = draws(difference(old, new), clusters, gate.resamples, seed)
    return {figure: Compared(ours[figure], theirs[figure], drawn[figure]) for figure in ours if figure in drawn}


def traced(trials: pd.DataFrame) -> np.ndarray:
    """(r,) whether a source was named, where the table says so."""
    return trials["answer"].notna().to_numpy(bool) if "answer" in trials else np.zeros(len(trials), bool)


def comparable(new: pd.DataFrame, old: pd.DataFrame) -> np.ndarray:
    """(r,) trials that both models traced and whose source is known, or unseen, to both."""
    both = traced(new) & traced(old)
    if both.any():
        both &= (new["known"].astype("boolean") == old["known"].astype("boolean")).to_numpy(bool, na_value=False)
    return both


def same_tracing(challenger: pd.DataFrame, champion: pd.DataFrame) -> Finding:
    """The challenger names sources wherever the champion does; else a figure that it must hold would not be asked for."""
    old = champion.set_index("utterance_id").loc[challenger["utterance_id"]].reset_index()
    lost = int(np.count_nonzero(traced(old) & ~traced(challenger)))
    none = traced(old).any() and not comparable(challenger, old).any()
    note = f"{lost} trials that the champion traces are not traced" if lost else "no source is known, or unseen, to both" if none else ""
    return Finding("same tracing", "", "", not note, missed_by=float(lost) if lost else None, note=note)


def _tracing(new: pd.DataFrame, old: pd.DataFrame, gate: GateParams, seed: int) -> dict[str, Compared]:
    chosen = comparable(new, old)
    if not chosen.any():
        return {}
    ours, theirs = (
        Traced.of(list(part["source"]), list(part["answer"]), part["ood_score"], part["known"]) for part in (new[chosen], old[chosen])
    )
    clusters = Clusters.of(np.zeros(np.count_nonzero(chosen), bool), list(new["speaker"][chosen]), list(new["source"][chosen]))
    return _compared(partial(_tracing_figures, ours), partial(_tracing_figures, theirs), clusters, gate, seed)


def _tracing_figures(model: Traced, weights: Floats | None = None) -> dict[str, float]:
    found = model.naming(weights)
    with suppress(MissingKey):
        found["auroc"] = detection.auroc(model.ranked.curve(weights))
    return found


def win(compared: dict[str, dict[str, Compared]], gate: GateParams) -> Iterator[Finding]:
    """Figures whose mean over corpora must be better: the interval of the difference excludes 0."""
    for figure in gate.win:
        parts = list(compared.get(figure, {}).values())
        if not parts:
            yield Finding("win", "mean over corpora", figure, False, note="not measured")
            continue
        low, high = interval(np.mean([part.draws for part in parts], axis=0), gate.level)
        over = -low if figure in HIGHER_IS_BETTER else high
        ours, theirs = (float(np.mean(values)) for values in zip(*((part.challenger, part.champion) for part in parts), strict=True))
        missed = None if over < 0 else over
        yield Finding(
            "win",
            "mean over corpora",
            figure,
            over < 0,
            ours,
            theirs,
            low,
            high,
            0.0,
            missed,
            "" if missed is None else "the interval of the difference reaches 0",
        )


def hold(compared: dict[str, dict[str, Compared]], gate: GateParams) -> Iterator[Finding]:
    """Figures that must not be worse on any corpus: the interval of the difference does not lie wholly beyond the margin."""
    for figure in gate.hold:
        margin = gate.margins.get(figure, 0.0)
        for name, part in compared.get(figure, {}).items():
            low, high = interval(part.draws, gate.level)
            over = (-high if figure in HIGHER_IS_BETTER else low) - margin
            missed = over if over > 0 else None
            yield Finding("hold", name, figure, over <= 0, part.challenger, part.champion, low, high, margin, missed)


def slices(challenger: pd.DataFrame, champion: pd.DataFrame, gate: GateParams) -> Iterator[Finding]:
    """EER of every codec, language and so on that has enough trials: no higher than the champion's and a margin."""
    aligned = champion.set_index("utterance_id").loc[challenger["utterance_id"]]
    table = challenger.assign(champion_llr=aligned["llr"].to_numpy())
    for name, part in corpora(table):
        for column, margin in gate.slices.items():
            for value in sorted(part[column].dropna().astype("str").unique()) if column in part else ():
                rows = _slice(part, (part[column].astype("str") == value).to_numpy(bool, na_value=False))
                if rows["key"].value_counts().reindex(["bonafide", "spoof"], fill_value=0).min() < gate.slice_trials:
                    continue
                new, old = _eer(rows), _eer(rows.assign(llr=rows["champion_llr"]))
                rise = new - old
                missed = rise - margin if rise > margin else None
                yield Finding("slice", f"{name}, {column}={value}", "eer", missed is None, new, old, bound=margin, missed_by=missed)


def _slice(part: pd.DataFrame, inside: np.ndarray) -> pd.DataFrame:
    """A slice's trials; one of spoofs alone, such as a source, is told from all bona fide speech."""
    bonafide = (part["key"] == "bonafide").to_numpy(bool)
    return part[inside | bonafide] if not (inside & bonafide).any() else part[inside]


def _eer(rows: pd.DataFrame) -> float:
    return detection.eer(ranked(rows).curve())
