"""Evaluation of tracing, pure tables: the systems' answers and a protocol in, figures per corpus out.

Known sources are those of the train split. Shapes: N utterances, E fused embedding, S known sources.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from earmark.ensemble.fusion import FILE, FUSION, Ensemble, load
from earmark.evaluation import tracing_figures as figures
from earmark.metrics.bootstrap import Clusters, intervals
from earmark.metrics.frechet import frechet_distance
from earmark.metrics.tracing import Identification, Traced, identify
from earmark.scoring.outputs import Matrix
from earmark.storage.files import read_table

FEWEST = 2  # utterances of a set that a Fréchet distance is taken of


@dataclass(frozen=True)
class Answers:
    """What the ensemble and its ablations say of dev and eval."""

    ensemble: Ensemble
    systems: pd.DataFrame  # a row a system and utterance: system, utterance_id, source, ood_score
    answers: pd.DataFrame  # the ensemble's: utterance_id, source, ood_score, unseen, posterior, set, embedding
    train: pd.DataFrame  # the protocol's train rows
    dev: pd.DataFrame  # the protocol's dev rows


@dataclass(frozen=True)
class TracingReport:
    """Flat metrics (`<corpus>/tracing/<figure>`, fractions), tables by name, and a corpus's trials with their answers."""

    metrics: dict[str, float]
    tables: dict[str, pd.DataFrame]
    trials: dict[str, pd.DataFrame]


def read_answers(folder: Path, protocol: pd.DataFrame) -> Answers | None:
    """What fit_ensemble wrote; None where the tracer has no members."""
    if not (folder / FILE).exists():
        return None
    parts = (protocol[protocol["split"] == split] for split in ("train", "dev"))
    tables = (read_table(folder / f"{name}.parquet") for name in ("systems", "answers"))
    return Answers(load(folder / FILE), *tables, *parts)


def tracing_report(found: Answers, protocol: pd.DataFrame, resamples: int = 0, seed: int = 0) -> TracingReport:
    """Report on the eval trials of `protocol` that the tracer answered, corpus by corpus; with `resamples`, intervals of the ensemble's."""
    metrics: dict[str, float] = {}
    tables: dict[str, list[pd.DataFrame]] = {}
    trials: dict[str, pd.DataFrame] = {}
    answered = protocol[protocol["utterance_id"].isin(found.answers["utterance_id"])]
    for corpus, rows in answered.groupby("corpus"):
        whole = mark(rows, found)
        rated = [
            {"trials": name, **rate(part, system), **(interval_columns(part, resamples, seed) if resamples and system == FUSION else {})}
            for name, part in variants(whole)
            for system, part in systems(part, found)
        ]
        own = join_answers(whole, found.answers)
        parts = {"tracing": pd.DataFrame(rated), **_breakdowns(own), "tracing_distances": distances(own, found)}
        for name, table in parts.items():
            if len(table):
                tables.setdefault(name, []).append(table.assign(corpus=corpus)[["corpus", *table.columns]])
        metrics |= {f"{corpus}/tracing/{name}": value for name, value in _flatten(rated, coverage(own)).items()}
        trials[str(corpus)] = own
    return TracingReport(metrics, {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}, trials)


def mark(rows: pd.DataFrame, found: Answers) -> pd.DataFrame:
    """Columns `known` (the source is a training source), `new_group`, `new_language` (not in train; NA where not stated)."""
    marked = rows.assign(known=rows["source"].isin(found.ensemble.sources))
    for name in ("group", "language"):
        own = found.train[name].dropna()
        marked[f"new_{name}"] = (~marked[name].isin(own)).where(marked[name].notna() & bool(len(own))).astype("boolean")
    return marked


def variants(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All trials; without classical engines; only groups that train has not; systems in neither train nor dev; as filed officially."""
    yield "all", rows
    if "origin" in rows and (rows["origin"] == "local").any():
        yield "without origin=local", rows[rows["origin"] != "local"]
    fresh = rows["new_group"].fillna(True).astype(bool)
    if fresh.any() and not fresh.all():
        yield "groups not in train", rows[fresh]
    if "strictly_unseen" in rows and rows["strictly_unseen"].notna().any():
        yield "strictly unseen", rows[rows["known"] | (rows["strictly_unseen"] == "True")]
    if "quadrant" in rows and rows["quadrant"].notna().any():
        filed = rows[rows["quadrant"].notna()]
        filed = filed.assign(known=filed["quadrant"].str.endswith("model_seen"))
        yield "official", filed.loc[filed.index.repeat(filed["listed"].astype(int))]


def systems(rows: pd.DataFrame, found: Answers) -> Iterator[tuple[str, pd.DataFrame]]:
    """The same trials with each system's answers."""
    for system, answers in found.systems.groupby("system", sort=False):
        yield str(system), join_answers(rows, answers.drop(columns="system"))


def join_answers(rows: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Trials and answers by utterance_id; the named source is `answer`."""
    return rows.merge(answers.rename(columns={"source": "answer"}), on="utterance_id", how="inner", validate="many_to_one")


def rate(rows: pd.DataFrame, system: str) -> dict[str, Any]:
    """One row of figures; those that the trials cannot give are left out."""
    known = int(rows["known"].sum())
    return {"system": system, "known": known, "unseen": len(rows) - known} | (traced(rows).figures() if len(rows) else {})


def interval_columns(rows: pd.DataFrame, resamples: int, seed: int) -> dict[str, float]:
    """Ends of the figures' intervals, clustered by speaker and source."""
    speakers = list(rows["speaker"]) if "speaker" in rows else None
    clusters = Clusters.of(np.zeros(len(rows), bool), speakers, list(rows["source"]))
    found = intervals(traced(rows).figures, clusters, resamples, seed)
    return {f"{figure}_{end}": value for figure, pair in found.items() for end, value in zip(("low", "high"), pair, strict=True)}


def traced(rows: pd.DataFrame) -> Traced:
    """Trials and answers as the metrics take them."""
    return Traced.of(rows["source"].tolist(), rows["answer"].tolist(), rows["ood_score"], rows["known"])


def identification(known: pd.DataFrame) -> Identification:
    """How the known-source trials are named."""
    return identify(known["source"].tolist(), known["answer"].tolist())


def coverage(rows: pd.DataFrame) -> dict[str, float]:
    """Share of known-source trials whose conformal set holds their source, with Wilson's 95 % interval; what the sets are like."""
    known, unseen, metrics = rows[rows["known"]], rows[~rows["known"]], {}
    if len(known):
        held = sum(source in chosen for source, chosen in zip(known["source"], known["set"], strict=True))
        interval = binomtest(held, len(known)).proportion_ci(method="wilson")
        metrics |= {"coverage": held / len(known), "coverage_low": float(interval.low), "coverage_high": float(interval.high)}
        metrics |= {"set_size": float(np.mean([len(chosen) for chosen in known["set"]])), "rejected_known": float(known["unseen"].mean())}
    if len(unseen):
        empty = float(np.mean([not len(chosen) for chosen in unseen["set"]]))
        metrics |= {"empty_set_of_unseen": empty, "rejected_unseen": float(unseen["unseen"].mean())}
    return metrics


def _breakdowns(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    known = rows[rows["known"]]
    tables = {"tracing_quadrants": quadrants(rows)}
    if len(known):
        named = identification(known)
        tables |= {"tracing_sources": named.per_source, "tracing_confusion": named.confusion.rename_axis("truth").reset_index()}
        if len(known) < len(rows):
            tables["tracing_unseen"] = traced(rows).per_unseen()
    return tables


def quadrants(rows: pd.DataFrame) -> pd.DataFrame:
    """Language and source seen in train or not: trials, accuracy of known sources, share rejected at dev's threshold."""
    stated = rows[rows["new_language"].notna()]
    table = []
    for (new, known), part in stated.groupby(["new_language", "known"]):
        accuracy = float((part["answer"] == part["source"]).mean()) if known else None
        seen = {"language": "unseen" if new else "seen", "source": "seen" if known else "unseen"}
        table.append({**seen, "trials": len(part), "accuracy": accuracy, "rejected": float(part["unseen"].mean())})
    return pd.DataFrame(table)


def distances(rows: pd.DataFrame, found: Answers) -> pd.DataFrame:
    """Fréchet distances of train's fused embeddings (length 1) to the ones of dev and eval, known and unseen sources apart."""
    dev = join_answers(mark(found.dev, found), found.answers)
    table = []
    for split, part in (("dev", dev), ("eval", rows)):
        for known in (True, False):
            vectors = embeddings(part[part["known"] == known])
            if len(vectors) >= FEWEST:
                kind = "known" if known else "unseen"
                table.append(
                    {"set": f"{split} {kind}", "trials": len(vectors), "distance": frechet_distance(found.ensemble.bank.units, vectors)}
                )
    return pd.DataFrame(table)


def embeddings(rows: pd.DataFrame) -> Matrix:
    """(N, E) fused embeddings."""
    return np.stack(rows["embedding"].to_list()).astype(np.float64) if len(rows) else np.zeros((0, 0))


def _flatten(rated: Sequence[dict[str, Any]], covered: dict[str, float]) -> dict[str, float]:
    """The ensemble's figures: of all trials, and of each variant under its name."""
    flat = dict(covered)
    for row in rated:
        if row["system"] == FUSION:
            place = "" if row["trials"] == "all" else row["trials"].replace(" ", "_").replace("=", "_") + "/"
            flat |= {f"{place}{name}": value for name, value in row.items() if name not in ("trials", "system")}
    return flat


def draw(folder: Path, report: TracingReport, found: Answers, seed: int) -> None:
    """Confusion matrix, ROC of every system, densities of the unseen-source score and t-SNE, for each corpus."""
    for corpus, rows in report.trials.items():
        known, unseen = rows[rows["known"]], rows[~rows["known"]]
        if len(known):
            figures.draw_confusion(folder / f"tracing_confusion_{corpus}.png", identification(known).confusion, corpus)
        if len(known) and len(unseen):
            curves: dict[str, tuple[NDArray, NDArray]] = {}
            for system, part in systems(rows[["utterance_id", "source", "known"]], found):
                scores = part["ood_score"].to_numpy()
                curves[system] = scores[part["known"]], scores[~part["known"]]
            figures.draw_roc(folder / f"tracing_roc_{corpus}.png", curves, corpus)
            threshold = found.ensemble.threshold
            figures.draw_densities(folder / f"tracing_scores_{corpus}.png", *curves[FUSION], threshold, found.ensemble.score, corpus)
        figures.draw_sources(
            folder / f"tracing_embeddings_{corpus}.png", embeddings(rows), rows["source"].tolist(), rows["known"].tolist(), seed
        )
