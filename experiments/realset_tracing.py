"""Tables of source tracing on real recordings: seeds, systems of the ensemble, ablation, another repository, enrolment, NSD."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from earmark.corpora.sources import numbers
from earmark.ensemble.enrolment import Enrolled
from earmark.ensemble.fusion import FEW, FILE, FUSION, load
from earmark.ensemble.unseen import Bank, nsd
from earmark.evaluation.tracing import TracingReport, draw, embeddings, read_answers, tracing_report
from earmark.metrics.detection import auroc
from earmark.metrics.tracing import rejection_curve
from earmark.scoring.outputs import Output, read_outputs
from earmark.storage.files import read_table

DRAWS = 5
FEWEST_CLIPS = 7  # of a source that is enrolled: 5 and some to ask about
FIGURES = ("accuracy", "macro_f1", "auroc", "eer", "fpr95", "eer_classification", "oscr", "mean_auroc")
TRIALS = ("all", "without origin=local", "groups not in train")
CLASSICAL = "local"  # origin of the classical engines


def report(workspace: Path, figures: Path | None = None) -> TracingReport:
    """What evaluate says of a run, with its pictures if a folder is given."""
    protocol = read_table(workspace / "artifacts/protocol.parquet")
    found = read_answers(workspace / "artifacts/ensemble", protocol)
    assert found is not None
    whole = tracing_report(found, protocol[protocol["split"] == "eval"])
    if figures:
        draw(figures, whole, found, 0)
    return whole


def tables(seeds: dict[str, Path], ablations: dict[str, Path], other_origin: Path | None, output: Path) -> str:
    """Markdown of everything; pictures of the first seed below `output`."""
    first = next(iter(seeds.values()))
    rated = {name: report(folder, output / "figures" if folder == first else None) for name, folder in seeds.items()}
    parts = [headline(rated), systems(rated), answers(rated)]
    if ablations:
        parts.append(ablation({**ablations, "+ Real Emphasis (the recipe)": first}))
    if other_origin:
        parts.append(repositories(other_origin))
    parts += [enrolment(list(seeds.values())), directions(first)]
    return "\n\n".join(parts)


def headline(rated: dict[str, TracingReport]) -> str:
    """The ensemble, seed by seed and their mean ± standard deviation, on all trials and on parts of them."""
    rows = []
    for trials in TRIALS:
        each = {name: row_of(found, trials, FUSION) for name, found in rated.items()}
        rows.append({"trials": trials, "run": f"mean of {len(each)} seeds", **spread(list(each.values()))})
        rows += [{"trials": trials, "run": name, **cells(row)} for name, row in each.items()]
    return "The ensemble.\n\n" + markdown(rows)


def systems(rated: dict[str, TracingReport]) -> str:
    """Members alone and the three fusions, means over seeds."""
    names = list(dict.fromkeys(next(iter(rated.values())).tables["tracing"]["system"]))
    rows = [
        {"trials": trials, "system": name, **spread([row_of(found, trials, name) for found in rated.values()])}
        for trials in TRIALS[:2]
        for name in names
    ]
    return f"Members alone and fused, means of {len(rated)} seeds.\n\n" + markdown(rows)


def answers(rated: dict[str, TracingReport]) -> str:
    """What a user gets: sets, their coverage, rejections at dev's threshold."""
    names = ("coverage", "coverage_low", "coverage_high", "set_size", "rejected_known", "empty_set_of_unseen", "rejected_unseen")
    rows = []
    for name, found in rated.items():
        flat = {key.split("/tracing/")[1]: value for key, value in found.metrics.items()}
        rows.append({"run": name, **{key: f"{flat[key]:.3f}" for key in names}})
    return "Answers at what dev fixed: sets of nominal coverage 0.9 and the rejection threshold.\n\n" + markdown(rows)


def ablation(folders: dict[str, Path]) -> str:
    """What each part of the training adds to each network alone, one seed."""
    rows = []
    for name, folder in folders.items():
        found = report(folder)
        row: dict[str, str] = {"training": name}
        for system in ("conformer", "aasist"):
            figures = row_of(found, "all", system)
            row |= {f"{system} {figure}": f"{figures[figure]:.3f}" for figure in ("accuracy", "macro_f1", "auroc", "fpr95")}
        rows.append(row)
    return "Parts of the training, one seed, networks alone.\n\n" + markdown(rows)


def repositories(folder: Path) -> str:
    """Known sources heard from a repository that training never had of them, against the others of the same run."""
    held = report(folder).trials["realset"]
    held = held[held["known"]]
    asked = held["condition"] == "other_repository"
    alike = held["source"].isin(held["source"][asked])
    rows = []
    for name, part in (("same repository", held[~asked & alike]), ("another repository", held[asked])):
        accuracy = (part["answer"] == part["source"]).mean()
        rows.append({"clips of the same sources": name, "trials": len(part), "accuracy": f"{accuracy:.3f}"})
    return "Leave one origin out: of each source with several repositories one is held out of train and dev.\n\n" + markdown(rows)


def hold_out_origins(corpus: Path, output: Path) -> Path:
    """The corpus with one repository of each known source that has several moved to eval; audio is only linked."""
    table = pd.read_csv(corpus / "protocol.tsv", sep="\t", dtype="str", keep_default_na=False)
    output.mkdir(parents=True, exist_ok=True)
    known = set(table["source"][(table["split"] == "train") & (table["key"] == "spoof")])
    table["condition"] = "as it was"
    for source in sorted(known):
        rows = table[(table["source"] == source) & (table["origin"] != CLASSICAL)]
        counts = rows[rows["split"] == "train"]["origin"].value_counts()
        others = rows["origin"].value_counts().drop(counts.index[:1])  # the one that train has most of stays
        if len(counts) > 0 and len(others):
            chosen = rows.index[rows["origin"] == others.index[0]]
            table.loc[chosen, ["split", "condition"]] = ["eval", "other_repository"]
    table.to_csv(output / "protocol.tsv", sep="\t", index=False)
    for part in corpus.iterdir():
        if part.is_dir() and not (output / part.name).is_symlink():
            (output / part.name).symlink_to(part.resolve())
    return output


def enrolment(workspaces: Sequence[Path]) -> str:
    """Each unseen eval source with at least seven clips enrolled in turn from five, in seeded draws, in every seed's ensemble."""
    rows = pd.concat([pd.DataFrame(enrol_in_turn(folder)) for folder in workspaces])
    means = rows.groupby("source", sort=True).mean()
    table = [{"source": name, "clips asked about": f"{row['asked']:.0f}", **shares(row)} for name, row in means.iterrows()]
    table.append({"source": f"mean of {len(means)} sources", "clips asked about": "", **shares(means.mean())})
    told = f"{FEW} clips enrolled, {DRAWS} draws, {len(workspaces)} seeds: top-1 recall of the source's other clips, and what it costs."
    return f"{told}\n\n" + markdown(table)


def shares(row: pd.Series) -> dict[str, str]:
    return {name: f"{row[name]:.3f}" for name in ("recall", "accuracy on old sources lost", "other unseen clips claimed")}


def enrol_in_turn(workspace: Path) -> Iterator[dict[str, float | str]]:
    """A row a source and draw."""
    folder = workspace / "artifacts/ensemble"
    ensemble, protocol = load(folder / FILE), read_table(workspace / "artifacts/protocol.parquet")
    table = read_table(folder / "answers.parquet").rename(columns={"source": "answer"})
    table = table.merge(protocol[protocol["split"] == "eval"][["utterance_id", "source"]], on="utterance_id")
    known = table["source"].isin(ensemble.sources).to_numpy()
    right = (table["answer"] == table["source"]).to_numpy() & known
    vectors, rng = embeddings(table), np.random.default_rng(0)
    for source, count in table["source"][~known].value_counts().sort_index().items():
        if count < FEWEST_CLIPS:
            continue
        rows = np.flatnonzero(table["source"] == source)
        for _ in range(DRAWS):
            chosen = rng.permutation(rows)[:FEW]
            clips = {str(row): "" for row in chosen}
            claimed = Enrolled("").add(str(source), vectors[chosen], clips, ensemble).claim(vectors, ensemble) == 0
            others = ~known & (table["source"] != source).to_numpy()
            yield {
                "source": str(source),
                "asked": count - FEW,
                "recall": float(claimed[np.setdiff1d(rows, chosen)].mean()),
                "accuracy on old sources lost": float((claimed & right).sum() / known.sum()),
                "other unseen clips claimed": float(claimed[others].mean()),
            }


def directions(workspace: Path) -> str:
    """Why NSD is strong or weak: it multiplies the energy by a cosine to the mean training direction, and centred embeddings have none."""
    ids, outputs, sources = read_outputs(workspace / "artifacts/embeddings")
    protocol = read_table(workspace / "artifacts/protocol.parquet").set_index("utterance_id").loc[ids]
    labels, split = numbers(protocol["source"], sources), protocol["split"].to_numpy()
    train, asked = np.flatnonzero(split == "train"), np.flatnonzero(split == "eval")
    known = labels[asked] >= 0
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {"raw": np.asarray, "rectified": partial(np.maximum, 0.0)}
    rows = []
    for name, output in outputs.items():
        plain = -logsumexp(output.logits[asked], axis=1)
        row = {"member": name, "energy AUROC": f"{auroc(rejection_curve(plain[known], plain[~known])):.3f}"}
        for way, change in ways.items():
            own, heard = (Output(output.logits[part], change(output.embeddings[part])) for part in (train, asked))
            bank = Bank.fit(own.logits, own.embeddings, labels[train])
            length = np.linalg.norm(bank.direction) / np.abs(logsumexp(own.logits, axis=1)).mean()
            scores = nsd(bank, heard.logits, heard.embeddings)
            row |= {
                f"length of the mean direction, {way}": f"{length:.2f}",
                f"NSD AUROC, {way}": f"{auroc(rejection_curve(scores[known], scores[~known])):.3f}",
            }
        rows.append(row)
    return "NSD on raw and on rectified embeddings, one seed.\n\n" + markdown(rows)


def markdown(rows: list[dict[str, str]]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def row_of(found: TracingReport, trials: str, system: str) -> pd.Series:
    table = found.tables["tracing"]
    return table[(table["trials"] == trials) & (table["system"] == system)].iloc[0]


def cells(row: pd.Series) -> dict[str, str]:
    return {"known": f"{row['known']}", "unseen": f"{row['unseen']}", **{name: f"{row[name]:.3f}" for name in FIGURES}}


def spread(rows: list[pd.Series]) -> dict[str, str]:
    table = pd.DataFrame(rows)
    told = {name: f"{table[name].mean():.3f} ± {table[name].std(ddof=1) if len(table) > 1 else 0:.3f}" for name in FIGURES}
    return {"known": f"{rows[0]['known']}", "unseen": f"{rows[0]['unseen']}", **told}
