"""Figures of source tracing: confusion matrix, ROC, score densities, and embeddings by source."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.metrics.detection import auroc
from earmark.metrics.tracing import rejection_curve
from earmark.report.figures import BLUE, CYCLE, GREY, RED, STYLE, panels, project, sample_rows, save, scatter_sources


@mpl.rc_context(STYLE)
def draw_confusion(path: Path, confusion: pd.DataFrame, name: str) -> None:
    """Share of each source's trials (rows) that is named as each source (columns), in percent."""
    rows = confusion[confusion.sum(axis=1) > 0]
    share = 100 * rows.to_numpy(np.float64) / rows.sum(axis=1).to_numpy()[:, None]
    figure, (axes,) = panels(1, 2.6 + 0.34 * share.shape[1], 2.2 + 0.3 * share.shape[0])
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in zip(*np.nonzero(share), strict=True):
        colour = "white" if share[row, column] > 55 else "black"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(share.shape[1]), [str(label)[:28] for label in rows.columns], rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(share.shape[0]), [f"{label[:28]} ({count})" for label, count in rows.sum(axis=1).items()], fontsize=8)
    axes.grid(visible=False)
    axes.set(xlabel="named", ylabel="true source (trials)", title=f"Known sources, % of each: {name}")
    save(figure, path)


@mpl.rc_context(STYLE)
def draw_roc(path: Path, curves: Mapping[str, tuple[NDArray, NDArray]], name: str) -> None:
    """Share of unseen-source trials rejected over share of known-source ones rejected, a line a system: ood_score of known and unseen."""
    figure, (axes,) = panels(1, 5.4, 5.0)
    for number, (system, (known, unseen)) in enumerate(curves.items()):
        curve = rejection_curve(known, unseen)
        label = f"{system}: AUROC {auroc(curve):.3f}"
        axes.plot(curve.miss, 1 - curve.false_alarm, color=CYCLE[number % len(CYCLE)], label=label, lw=1.2 if number else 2.4)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal", xlabel="known source rejected", ylabel="unseen source rejected")
    axes.set_title(f"Unseen sources: {name}")
    axes.legend(loc="lower right", fontsize=8)
    save(figure, path)


@mpl.rc_context(STYLE)
def draw_densities(path: Path, known: NDArray, unseen: NDArray, threshold: float, score: str, name: str) -> None:
    """Densities of the unseen-source score of known- and unseen-source trials, with dev's threshold."""
    figure, (axes,) = panels(1, 6.4, 3.6)
    both = np.concatenate([known, unseen])
    low, high = np.quantile(both, [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-9), 51)
    for label, scores, colour in (("known sources", known, BLUE), ("unseen sources", unseen, RED)):
        shares = np.full(len(scores), 100 / len(scores))
        axes.hist(np.clip(scores, low, high), edges, weights=shares, color=colour, alpha=0.55, label=f"{label} ({len(scores):,})")
    axes.axvline(threshold, color="black", lw=1.2, ls="--", label=f"threshold of dev: {threshold:.3g}")
    axes.set(
        xlabel=f"ood_score: {score} (higher = more likely unseen)", ylabel="share of the kind's trials, %", title=f"Unseen sources: {name}"
    )
    axes.legend()
    save(figure, path)


@mpl.rc_context(STYLE)
def draw_sources(path: Path, embeddings: NDArray, sources: Sequence[str], known: Sequence[bool], seed: int) -> None:
    """t-SNE of (N, E) fused embeddings: known sources in colours, unseen ones as crosses; at most 2,000 points."""
    rows = sample_rows(len(embeddings), seed)
    place, source, seen = project(embeddings[rows], seed), np.array(sources, dtype=object)[rows], np.array(known, dtype=bool)[rows]
    figure, (axes,) = panels(1, 8.4, 5.2)
    if (~seen).any():
        label = f"unseen: {len(set(source[~seen]))} sources ({(~seen).sum():,})"
        axes.scatter(place[~seen, 0], place[~seen, 1], s=12, marker="x", color=GREY, lw=0.8, alpha=0.7, label=label)
    scatter_sources(axes, place[seen], source[seen])
    axes.set(xticks=[], yticks=[], title="Fused embeddings (t-SNE) by source")
    axes.spines[:].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, markerscale=1.6)
    save(figure, path)
