"""Figures and the tables behind them: drawn without a screen, the same input gives the same bytes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.special import ndtri

from earmark.metrics.detection import DetectionCurve, eer, eer_point
from earmark.storage.files import complete

# Okabe and Ito's colours, which colour-blind readers tell apart
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
GREY, PALE = "#8A8A8A", "#CFCFCF"
CYCLE = (BLUE, RED, GREEN, ORANGE, PINK, SKY)
MARKERS = "osD^vP"
KEY_COLOURS = {"bonafide": BLUE, "spoof": RED}
KEY_NAMES = {"bonafide": "bona fide", "spoof": "spoof"}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "axes.edgecolor": "#666666",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
DET_TICKS = np.array([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9])
DET_POINTS = 500
TSNE_POINTS = 2000
NAMED_SOURCES = 12  # in a legend; the others share grey
MOST_BARS = 60


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, and its axes side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")  # without pyplot: no screen, no global state
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, complete or absent."""
    with complete(path) as aside:
        figure.savefig(aside, format="png", dpi=150, metadata={"Software": None})  # a version in the file would change its bytes


@mpl.rc_context(STYLE)
def draw_det(path: Path, curves: Mapping[str, DetectionCurve]) -> None:
    """Detection error trade-off of named systems or corpora on normal-deviate axes (Martin et al. 1997), their EER marked."""
    figure, (axes,) = panels(1, 5.6, 5.4)
    floor, ceiling = 0.0005, 0.95
    for i, (name, curve) in enumerate(curves.items()):
        miss, false_alarm = (ndtri(np.clip(rate, floor / 2, 1 - floor / 2)) for rate in (curve.miss, curve.false_alarm))
        rate, colour = eer(curve), CYCLE[i % len(CYCLE)]
        style = "-" if i < len(CYCLE) else "--"
        axes.step(false_alarm, miss, style, where="post", color=colour, lw=1.8, label=f"{name}: EER {rate:.2%}")
        point = ndtri(np.clip(rate, floor, ceiling))
        axes.plot(point, point, MARKERS[i % len(MARKERS)], color=colour, ms=7, mec="white", zorder=3)
    ticks, limits = ndtri(DET_TICKS), ndtri([floor, ceiling])
    axes.plot(limits, limits, color=GREY, lw=0.8, ls=":")
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="spoof accepted (false alarm), %", ylabel="bona fide rejected (miss), %")
    axes.set_xticks(ticks, [f"{100 * tick:g}" for tick in DET_TICKS])
    axes.set_yticks(ticks, [f"{100 * tick:g}" for tick in DET_TICKS])
    axes.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none")
    axes.set_title("Detection error trade-off")
    save(figure, path)


@mpl.rc_context(STYLE)
def draw_score_histogram(path: Path, bonafide: NDArray, spoof: NDArray, threshold: float, name: str) -> None:
    """Densities of the scores of both keys, (b,) and (s,), with the decision threshold."""
    figure, (axes,) = panels(1, 6.4, 3.6)
    both = np.concatenate([bonafide, spoof])
    edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-9), 61)
    for key, scores in (("spoof", spoof), ("bonafide", bonafide)):
        label = f"{KEY_NAMES[key]} ({len(scores):,})"
        axes.hist(scores, edges, weights=np.full(len(scores), 100 / len(scores)), color=KEY_COLOURS[key], alpha=0.55, label=label)
    axes.axvline(threshold, color="black", lw=1.2, ls="--", label=f"threshold at EER: {threshold:.3g}")
    axes.set(xlabel="cm_score (higher = more bona fide)", ylabel="share of the key's trials, %", title=f"Scores: {name}")
    axes.legend()
    save(figure, path)


@mpl.rc_context(STYLE)
def draw_embeddings(path: Path, embeddings: NDArray, keys: Sequence[str], sources: Sequence[object], seed: int) -> None:
    """t-SNE (van der Maaten and Hinton 2008) of (N, E) embeddings, coloured by key and by source; at most 2,000 points."""
    rows = sample_rows(len(embeddings), seed)
    key = np.array(keys, dtype=object)[rows]
    source = np.array(["bona fide" if keys[row] == "bonafide" else str(sources[row]) for row in rows], dtype=object)
    place = project(embeddings[rows], seed)
    figure, (left, right) = panels(2, 11, 4.6)
    for label, colour in KEY_COLOURS.items():
        at = place[key == label]
        left.scatter(at[:, 0], at[:, 1], s=9, color=colour, alpha=0.7, lw=0, label=f"{KEY_NAMES[label]} ({len(at):,})")
    scatter_sources(right, place, source)
    for axes, title in ((left, "Embeddings (t-SNE) by key"), (right, "by source")):
        axes.set(xticks=[], yticks=[], title=title)
        axes.spines[:].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, markerscale=2)
    save(figure, path)


def sample_rows(count: int, seed: int) -> NDArray:
    """At most 2,000 row numbers out of `count`, in rising order: what t-SNE can place in seconds."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:TSNE_POINTS])


def project(embeddings: NDArray, seed: int) -> NDArray:
    """(N, 2) places; with fewer than 4 points, where t-SNE has nothing to say, a row of dots."""
    count = len(embeddings)
    if count < 4:
        return np.column_stack([np.arange(count), np.zeros(count)])
    from sklearn.manifold import TSNE  # a second to import, and tables alone never need it
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (count - 1) / 3)
    with threadpool_limits(1):  # the order of its sums, and so the picture, follows the number of threads
        return TSNE(perplexity=perplexity, init="random", random_state=seed, n_jobs=1).fit_transform(np.asarray(embeddings, np.float32))


def scatter_sources(axes: Axes, place: NDArray, source: NDArray) -> None:
    """Points of (N,) sources: the most frequent ones named, the others in grey, bona fide speech first where there is some."""
    counts = Counter(source[source != "bona fide"])
    named = sorted(counts, key=lambda name: (-counts[name], name))[:NAMED_SOURCES]
    others = ~np.isin(source.astype(str), [*named, "bona fide"])
    if others.any():
        label = f"{len(counts) - len(named)} more ({others.sum()})"
        axes.scatter(place[others, 0], place[others, 1], s=9, color=PALE, lw=0, label=label)
    for i, name in enumerate(["bona fide", *named]):
        at = place[source == name]
        if not len(at):
            continue
        colour, marker = CYCLE[i % len(CYCLE)], MARKERS[i // len(CYCLE)]
        axes.scatter(at[:, 0], at[:, 1], s=11, color=colour, marker=marker, alpha=0.8, lw=0, label=f"{name[:28]} ({len(at)})")


@mpl.rc_context(STYLE)
def draw_training(path: Path, history: pd.DataFrame) -> None:
    """Losses (columns named *loss*) and error rates (*eer*) by epoch; the best dev EER is marked."""
    figure, (left, right) = panels(2, 9, 3.4)
    for axes, word, title, scale in ((left, "loss", "Loss", 1), (right, "eer", "EER, %", 100)):
        names = [str(name) for name in history.columns if word in str(name)]
        for i, name in enumerate(names):
            axes.plot(history["epoch"], scale * history[name], marker=".", color=CYCLE[i % len(CYCLE)], lw=1.6, label=name)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        if names:
            axes.legend()
    if "dev/eer" in history:
        _mark_best(right, history["epoch"].to_numpy(np.float64), 100 * history["dev/eer"].to_numpy(np.float64))
    save(figure, path)


def _mark_best(axes: Axes, epochs: NDArray, rates: NDArray) -> None:
    if np.isfinite(rates).any():
        best = int(np.nanargmin(rates))
        axes.plot(epochs[best], rates[best], "o", ms=9, mfc="none", mec="black")
        axes.set_title(f"EER, % (best dev {rates[best]:.2f} in epoch {epochs[best]:g})")


@mpl.rc_context(STYLE)
def draw_source_bars(path: Path, table: pd.DataFrame, name: str) -> None:
    """EER of each source with its count of spoofs, hardest first; `table` has value, spoof and eer (NaN: too few trials)."""
    known = table.dropna(subset="eer").sort_values(["eer", "value"], ascending=[False, True], kind="stable")
    rows = known.head(MOST_BARS)
    labels = [f"{value} ({count:,})" for value, count in zip(rows["value"], rows["spoof"], strict=True)]
    figure, (axes,) = panels(1, 6.6, 1.6 + 0.24 * len(rows))
    places, rates = np.arange(len(rows)), 100 * rows["eer"].to_numpy(np.float64)
    axes.barh(places, rates, color=BLUE, height=0.7)
    axes.set_yticks(places, labels, fontsize=8)
    for place, rate in zip(places, rates, strict=True):
        axes.annotate(f"{rate:.1f}", (rate, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12, y=0.02)
    axes.set_xlim(left=0)
    axes.set(xlabel="EER against all bona fide, %", title=f"Sources (spoofs): {name}")
    _say_what_is_hidden(figure, len(known) - len(rows), int(np.isnan(table["eer"].to_numpy(np.float64)).sum()))
    save(figure, path)


def _say_what_is_hidden(figure: Figure, easy: int, few: int) -> None:
    reasons = [f"{count} {why}" for count, why in ((easy, "easier"), (few, "of too few trials")) if count]
    if reasons:
        figure.supxlabel(f"not drawn, in the table alone: {' and '.join(reasons)}", fontsize=8, color=GREY)


def write_plots_data(folder: Path, curves: Mapping[str, DetectionCurve], histories: Mapping[str, pd.DataFrame]) -> None:
    """Write det.csv (corpus, threshold, false_alarm, miss; at most 500 points a curve) and training.csv (member, epoch, dev/eer …)."""
    parts = [pd.DataFrame(columns=["corpus", "threshold", "false_alarm", "miss"])]
    for name, curve in curves.items():
        rows = _thin(curve)
        found = {"threshold": curve.thresholds[rows], "false_alarm": curve.false_alarm[rows], "miss": curve.miss[rows]}
        parts.append(pd.DataFrame({"corpus": name, **found}))
    with complete(folder / "det.csv") as aside:
        pd.concat(parts).to_csv(aside, index=False)
    empty = pd.DataFrame(columns=["member", "epoch", "dev/eer"])
    with complete(folder / "training.csv") as aside:
        pd.concat([empty, *(history.assign(member=name) for name, history in histories.items())]).to_csv(aside, index=False)


def _thin(curve: DetectionCurve) -> NDArray:
    """Rows spread evenly on normal-deviate axes, where a curve is read, with its ends and its EER."""
    along = ndtri(np.clip(curve.miss, 1e-4, 1 - 1e-4)) - ndtri(np.clip(curve.false_alarm, 1e-4, 1 - 1e-4))
    rows = np.searchsorted(along, np.linspace(along[0], along[-1], DET_POINTS - 2))
    middle = int(np.flatnonzero(curve.thresholds == eer_point(curve)[1])[0])
    return np.unique([0, middle, *np.minimum(rows, len(along) - 1)])
