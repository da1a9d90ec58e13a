"""Figures of calibration: what a log-likelihood ratio promises against what happens. Shapes: b bona fide, s spoofed trials."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from earmark.metrics.odds import expit
from earmark.report.figures import BLUE, GREY, KEY_COLOURS, KEY_NAMES, RED, STYLE, panels, save

Scores = NDArray[np.float64]
Pair = tuple[Scores, Scores]  # of bona fide (b,) and of spoofed trials (s,)
BINS = 10
WIDEST = 12.0  # of the Tippett plot: a likelihood ratio of e^12 = 160,000 either way; the rest is beyond doubt or beyond help


def reliability(pair: Pair) -> tuple[Scores, Scores, NDArray[np.int64]]:
    """Mean posterior, observed share of bona fide and trials of either key (2, n), for the n bins of posterior that hold trials.

    Posterior and share are at prior one half: both keys weigh alike however many trials they have.
    """
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    posteriors = [expit(scores) for scores in pair]
    places = [np.digitize(values, edges) for values in posteriors]
    counts = np.stack([np.bincount(place, minlength=BINS) for place in places])
    shares = counts / np.array([[len(scores)] for scores in pair])
    sums = np.stack([np.bincount(place, values, BINS) / len(values) for place, values in zip(places, posteriors, strict=True)])
    held = shares.sum(0) > 0
    return sums.sum(0)[held] / shares.sum(0)[held], shares[0][held] / shares.sum(0)[held], counts[:, held]


@mpl.rc_context(STYLE)
def draw_reliability(path: Path, before: Pair, after: Pair, name: str) -> None:
    """Observed share of bona fide against posterior at prior one half, before and after calibration; larger marks hold more trials."""
    figure = Figure(figsize=(5.6, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    for pair, colour, marker, label in ((before, GREY, "o", "cm_score as it is"), (after, BLUE, "s", "calibrated llr")):
        promised, observed, counts = reliability(pair)
        upper.plot(promised, observed, lw=1.4, color=colour)
        full = sum(map(len, pair)) / BINS  # trials of a bin, were all alike full
        upper.scatter(promised, observed, 8 + 60 * np.minimum(counts.sum(0) / full, 1), color=colour, marker=marker, label=label, zorder=3)
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed share of bona fide", title=f"Reliability: {name}")
    upper.legend(loc="upper left")
    _draw_counts(lower, after)
    save(figure, path)


def _draw_counts(axes: Axes, pair: Pair) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    for key, scores, shift in (("bonafide", pair[0], 0.0), ("spoof", pair[1], 0.5)):
        counts = np.histogram(expit(scores), edges)[0]
        axes.bar(edges[:-1] + (0.27 + shift) / BINS, counts, width=0.42 / BINS, color=KEY_COLOURS[key], label=KEY_NAMES[key])
    axes.set(xlabel="calibrated posterior of bona fide, prior ½", ylabel="trials")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.legend(ncols=2, fontsize=8, loc="upper center")


@mpl.rc_context(STYLE)
def draw_tippett(path: Path, before: Pair, after: Pair, name: str) -> None:
    """Share of each key's trials whose llr lies above x, of scores read as they are and calibrated (Meuwly 2001)."""
    figure, (axes,) = panels(1, 5.6, 4.6)
    everything = np.concatenate([*before, *after])
    reach = float(np.clip(1.05 * np.abs(everything).max(), 1, WIDEST))
    places = np.linspace(-reach, reach, 801)
    axes.axvline(0, color=GREY, lw=0.8, ls=":")
    for pair, style, words in ((before, "--", "as it is"), (after, "-", "calibrated")):
        for key, scores, colour in zip(KEY_NAMES, pair, (BLUE, RED), strict=True):
            wrong = np.mean(scores <= 0) if key == "bonafide" else np.mean(scores > 0)
            above = 100 * (1 - np.searchsorted(np.sort(scores), places, side="right") / len(scores))
            label = f"{KEY_NAMES[key]}, {words}: {wrong:.1%} misled"
            axes.plot(places, above, style, color=colour, lw=1.8 if style == "-" else 1.1, alpha=1 if style == "-" else 0.7, label=label)
    axes.set(xlim=(-reach, reach), ylim=(0, 101), xlabel="llr (natural logarithm)", ylabel="trials with a greater llr, %")
    axes.set_title(f"Tippett plot: {name}")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    save(figure, path)
