"""The gate's rules: each turns tables of trials into findings, one a figure and place that it judged.

A table of trials has the columns utterance_id, digest, corpus, key, speaker, source, conditions, and llr (higher = more bona fide); traced
trials have answer, ood_score (higher = more likely unseen) and known.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from earmark.metrics import detection
from earmark.metrics.bootstrap import Clusters, Floats, difference, draws, interval
from earmark.metrics.detection import MissingKey, Ranked
from earmark.metrics.tracing import Traced
from earmark.params import GateParams

HIGHER_IS_BETTER = ("accuracy", "auroc")
Span = tuple[float | None, float | None]
NONE: Span = (None, None)
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
        what = ", ".join(word for word in (self.place, self.figure) if word)
        amount = "" if self.missed_by is None else f" by {self.missed_by:.4g}"
        return f"{self.rule} ({what}) failed{amount}{self.note and ': ' + self.note}"


def bounded(
    rule: str, place: str, figure: str, value: float, bound: float, old: float | None = None, span: Span = NONE, over: float | None = None
) -> Finding:
    """A figure that may not be larger than its bound: it, or what is given as `over`, less the bound may not be above 0."""
    missed = (value if over is None else over) - bound
    return Finding(rule, place, figure, missed <= 0, value, old, *span, bound, missed if missed > 0 else None)


def corpora(trials: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Corpora that have trials of both keys; they are never pooled."""
    for name, part in trials.groupby("corpus"):
        if part["key"].nunique() == 2:
            yield str(name), part


def ranked(trials: pd.DataFrame) -> Ranked:
    """Trials by their llr."""
    return Ranked.of(trials["llr"], (trials["key"] == "bonafide").to_numpy(bool))


def absolute(trials: pd.DataFrame, gate: GateParams, *, first: bool) -> Iterator[Finding]:
    """Bounds of the calibrated score, and of what better calibration would save; a `first` champion has bounds of its own."""
    for name, part in corpora(trials):
        curve = ranked(part).curve()
        eer, cllr = detection.eer(curve), detection.cllr(curve)
        yield bounded("calibration", name, "cllr", cllr, gate.calibration.cllr)
        yield bounded("calibration", name, "calibration_loss", cllr - detection.min_cllr(curve), gate.calibration.loss)
        if first:
            yield bounded("first", name, "eer", eer, gate.first.eer)
            yield bounded("first", name, "cllr", cllr, gate.first.cllr)


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
    yield bounded("robustness", place, "eer", value, gate.robustness_eer, span=(low, high), over=low)


def same_trials(challenger: pd.DataFrame, champion: pd.DataFrame) -> Finding:
    """Both models were evaluated on the same recordings with the same keys."""
    new, old = (set(trials[IDENTITY].astype("str").itertuples(index=False, name=None)) for trials in (challenger, champion))
    if new == old:
        return Finding("same trials", "", "", True)
    example = min(new ^ old)[0]
    note = f"{len(new - old)} trials of the challenger alone and {len(old - new)} of the champion alone, such as {example}"
    return Finding("same trials", "", "", False, missed_by=float(len(new ^ old)), note=f"{note}: evaluate both on the same trials")


def align(champion: pd.DataFrame, challenger: pd.DataFrame) -> pd.DataFrame:
    """The champion's trials in the order and with the index of the challenger's, which are the same."""
    return champion.set_index("utterance_id").loc[challenger["utterance_id"]].reset_index().set_axis(challenger.index)


def traced(trials: pd.DataFrame) -> np.ndarray:
    """(r,) whether a source was named, where the table says so."""
    return trials["answer"].notna().to_numpy(bool) if "answer" in trials else np.zeros(len(trials), bool)


def comparable(new: pd.DataFrame, old: pd.DataFrame) -> np.ndarray:
    """(r,) aligned trials that both models traced and whose source is known, or unseen, to both."""
    both = traced(new) & traced(old)
    if both.any():
        both &= (new["known"].astype("boolean") == old["known"].astype("boolean")).to_numpy(bool, na_value=False)
    return both


def same_tracing(new: pd.DataFrame, old: pd.DataFrame) -> Finding:
    """The challenger names sources wherever the champion does; else a figure that it must hold would not be asked for."""
    lost = int(np.count_nonzero(traced(old) & ~traced(new)))
    none = traced(old).any() and not comparable(new, old).any()
    note = f"{lost} trials that the champion traces are not traced" if lost else "no source is known, or unseen, to both" if none else ""
    return Finding("same tracing", "", "", not note, missed_by=float(lost) if lost else None, note=note)


class Compared(NamedTuple):
    """One figure of both models on the same trials, and (resamples,) draws of challenger − champion."""

    challenger: float
    champion: float
    draws: Floats

    def worse(self, figure: str, level: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Interval of challenger − champion, and of by how much the challenger is the worse."""
        low, high = interval(self.draws, level)
        return (low, high), (-high, -low) if figure in HIGHER_IS_BETTER else (low, high)


def compare(new: pd.DataFrame, old: pd.DataFrame, gate: GateParams, seed: int) -> dict[str, dict[str, Compared]]:
    """Figures that the rules ask for, by figure and corpus, of aligned trials; those that the trials cannot give are left out."""
    found: dict[str, dict[str, Compared]] = {}
    for number, (name, ours) in enumerate(new.groupby("corpus")):
        theirs = old.loc[ours.index]
        both, figures = comparable(ours, theirs), {}
        if ours["key"].nunique() == 2:
            figures |= _compared(_detection, ranked(ours), ranked(theirs), ours, gate, seed + number)
        if both.any():
            figures |= _compared(_tracing, _named(ours[both]), _named(theirs[both]), ours[both], gate, seed + number)
        for figure, compared in figures.items():
            if figure in (*gate.win, *gate.hold) and np.isfinite(compared.draws).any():
                found.setdefault(figure, {})[str(name)] = compared
    return found


def _compared(
    measure: Callable[[Any, Floats], dict[str, float]], new: Any, old: Any, trials: pd.DataFrame, gate: GateParams, seed: int
) -> dict[str, Compared]:
    clusters = Clusters.of((trials["key"] == "bonafide").to_numpy(bool), list(trials["speaker"]), list(trials["source"]))
    drawn = draws(difference(partial(measure, old), partial(measure, new)), clusters, gate.resamples, seed)
    ours, theirs = (measure(model, np.ones(len(trials))) for model in (new, old))
    return {figure: Compared(ours[figure], theirs[figure], drawn[figure]) for figure in ours if figure in drawn}


def _detection(trials: Ranked, weights: Floats) -> dict[str, float]:
    curve = trials.curve(weights)
    return {"eer": detection.eer(curve), "min_dcf": detection.min_dcf(curve), "cllr": detection.cllr(curve)}


def _named(trials: pd.DataFrame) -> Traced:
    return Traced.of(list(trials["source"]), list(trials["answer"]), trials["ood_score"], trials["known"])


def _tracing(trials: Traced, weights: Floats) -> dict[str, float]:
    found = trials.naming(weights)
    with suppress(MissingKey):
        found["auroc"] = detection.auroc(trials.ranked.curve(weights))
    return found


def win(compared: dict[str, dict[str, Compared]], gate: GateParams) -> Iterator[Finding]:
    """Figures whose mean over corpora must be better: the interval of the difference excludes 0."""
    for figure in gate.win:
        place, parts = "mean over corpora", list(compared.get(figure, {}).values())
        if not parts:
            yield Finding("win", place, figure, False, note="not measured")
            continue
        mean = Compared(*(np.mean(values, axis=0) for values in zip(*parts, strict=True)))
        span, (_, most) = mean.worse(figure, gate.level)
        note, missed = ("", None) if most < 0 else ("the interval of the difference reaches 0", most)
        yield Finding("win", place, figure, most < 0, float(mean.challenger), float(mean.champion), *span, 0.0, missed, note)


def hold(compared: dict[str, dict[str, Compared]], gate: GateParams) -> Iterator[Finding]:
    """Figures that must not be worse on any corpus: the interval of the difference does not lie wholly beyond the margin."""
    for figure in gate.hold:
        for name, part in compared.get(figure, {}).items():
            span, (least, _) = part.worse(figure, gate.level)
            yield bounded("hold", name, figure, part.challenger, gate.margins.get(figure, 0.0), part.champion, span, least)


def slices(new: pd.DataFrame, old: pd.DataFrame, gate: GateParams) -> Iterator[Finding]:
    """EER of every codec, language and so on that has enough trials: no higher than the champion's and a margin.

    A slice of spoofs alone, such as a source, is told from all bona fide speech.
    """
    for name, part in corpora(new):
        bonafide = part[part["key"] == "bonafide"]
        for column, margin in gate.slices.items():
            for value, rows in part.groupby(column) if column in part else ():
                judged = rows if (rows["key"] == "bonafide").any() else pd.concat([bonafide, rows])
                if min(np.count_nonzero(judged["key"] == key) for key in ("bonafide", "spoof")) >= gate.slice_trials:
                    ours, theirs = (detection.eer(ranked(trials).curve()) for trials in (judged, old.loc[judged.index]))
                    yield bounded("slice", f"{name}, {column}={value}", "eer", ours, margin, theirs, over=ours - theirs)
