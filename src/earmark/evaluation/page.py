"""The evaluation report: one page that a manager and a researcher can both read, and that needs no other file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from earmark.ensemble.fusion import FUSION
from earmark.evaluation import card
from earmark.evaluation.detection import Settings
from earmark.report.grids import Figure, Grid, across, cost, heat, interval, percent, upright
from earmark.report.pages import embed_png, render

CLEAN = "none"  # the degradation that is none
DETECTION = {
    "eer": Figure("EER", "as many bona fide trials refused as spoofs accepted; 50 % is chance", percent),
    "min_dcf": Figure("minDCF", "cost at the best threshold; 1 is deciding without listening", cost),
    "cllr_calibrated": Figure("Cllr, calibrated", "cost of the calibrated score in bits; 1 is no information", cost),
}
COSTS = {
    "act_dcf_calibrated": Figure("actDCF, calibrated", "cost at the threshold that the calibrated score implies", cost),
    "act_dcf": Figure("actDCF, scores as they are", "the same of scores read as log-likelihood ratios", cost),
    "cllr": Figure("Cllr, scores as they are", "above 1 they are worse than no score", cost),
    "cllr_min": Figure("Cllr, least", "of the best rising calibration there is", cost),
    "min_tdcf_legacy": Figure("min t-DCF, 2019", "cost together with a speaker verifier", cost),
    "min_tdcf_2021": Figure("min t-DCF, 2021", "cost together with a speaker verifier", cost),
}
NAMING = {
    "accuracy": Figure("accuracy", "spoofs of known sources that are named rightly", percent),
    "macro_f1": Figure("macro-F1", "the same, all sources weighing alike", cost),
    "auroc": Figure("AUROC", "an unseen source scores above a known one; 0.5 is chance", cost),
}
REJECTION = {
    "mean_auroc": Figure("AUROC, mean", "the same, unseen sources weighing alike", cost),
    "eer": Figure("EER", "of telling unseen from known sources", percent),
    "fpr95": Figure("FPR95", "unseen trials accepted where 95 % of the known ones are", percent),
    "eer_classification": Figure("EERc", "EER with wrongly named trials counted as misses", percent),
    "oscr": Figure("OSCR", "area of rightly named over unseen accepted; 1 is best", cost),
    "coverage": Figure("coverage", "known-source trials whose set of sources holds the true one", percent),
    "set_size": Figure("set size", "sources in such a set", cost),
    "rejected_known": Figure("known rejected", "known-source trials taken for unseen at dev's threshold", percent),
    "rejected_unseen": Figure("unseen rejected", "unseen-source trials found out at dev's threshold", percent),
}
TRACING = NAMING | REJECTION
HEADLINE = DETECTION | {f"tracing/{name}": Figure(f"Tracing: {one.name}", one.meaning, one.show) for name, one in NAMING.items()}
ROW = {"value": "", "bonafide": "bona fide", "spoof": "spoofs", "against": "against", "eer": "EER"}
COSTS_OF_ROW = {"cllr": "Cllr before", "cllr_calibrated": "Cllr after"}
TITLES = {"in_domain": "source in training", "origin": "origin of the spoof"}
PRINTED = DETECTION | COSTS


@dataclass(frozen=True)
class Findings:
    """All that the page shows."""

    metrics: dict[str, float]
    tables: dict[str, pd.DataFrame]
    warnings: list[str]
    trials: pd.DataFrame  # trial_table's
    figures: Path  # folder of pictures, named <kind>_<corpus>.png
    settings: Settings
    robustness: pd.DataFrame | None  # a row a corpus, degradation and level
    manifest: dict[str, Any] | None  # of the packaged model

    @property
    def corpora(self) -> list[str]:
        """Names, sorted."""
        return sorted(self.trials["corpus"].unique())

    def rows(self, name: str, corpus: str) -> pd.DataFrame:
        """A corpus's part of a table; empty where there is none."""
        table = self.tables.get(name, pd.DataFrame({"corpus": []}))
        return table[table["corpus"] == corpus].drop(columns="corpus").reset_index(drop=True)

    @property
    def trained(self) -> list[str]:
        """Networks whose training is drawn."""
        return sorted(path.stem.removeprefix("training_") for path in self.figures.glob("training_*.png"))

    def picture(self, name: str) -> str | None:
        """A picture's address in the page; None where it was not drawn."""
        path = self.figures / f"{name}.png"
        return embed_png(path.read_bytes()) if path.exists() else None


def evaluation_page(found: Findings) -> str:
    """The whole page."""
    corpora = found.corpora
    return render(
        "earmark.evaluation",
        found=found,
        summary=summarise(found),
        headline=upright(found.metrics, HEADLINE, {corpus: f"{corpus}/" for corpus in corpora}),
        counts={corpus: card.counts(found.trials, corpus) for corpus in corpora},
        detection={corpus: _detection(found, corpus) for corpus in corpora if f"{corpus}/eer" in found.metrics},
        tracing={corpus: _tracing(found, corpus) for corpus in corpora if len(found.rows("tracing", corpus))},
        robustness=dict(_robustness(found.robustness)) if found.robustness is not None else None,
        card=card.describe(found.manifest, found.trials),
    )


def summarise(found: Findings) -> str:
    """What was evaluated and how good it is, in a sentence; of more than three corpora the range."""
    corpora = found.corpora
    if len(corpora) <= 3:
        return " ".join(f"On {corpus}, {', and '.join(_praise(found.metrics, corpus))}." for corpus in corpora)
    rates = sorted((found.metrics[f"{corpus}/eer"], corpus) for corpus in corpora if f"{corpus}/eer" in found.metrics)
    best, worst = (f"{percent(rate)} ({corpus})" for rate, corpus in (rates[0], rates[-1])) if rates else ("–", "–")
    return f"On {len(corpora)} corpora, which are never pooled, the detector's equal error rate lies between {best} and {worst}."


def _praise(metrics: dict[str, float], corpus: str) -> Iterator[str]:
    figures = {name: metrics.get(f"{corpus}/{name}") for name in ("eer", "tracing/accuracy", "tracing/auroc")}
    if (rate := figures["eer"]) is not None:
        ends = interval(DETECTION["eer"], *(metrics.get(f"{corpus}/eer_{end}") for end in ("low", "high")))
        yield f"the detector tells bona fide speech from spoofs with an equal error rate of {percent(rate)}" + (
            f" (95 % interval {ends})" if ends else ""
        )
    if (accuracy := figures["tracing/accuracy"]) is not None:
        yield f"the tracer names {percent(accuracy)} of the spoofs by known systems rightly"
    if (area := figures["tracing/auroc"]) is not None:
        yield f"it tells systems never heard from known ones with an AUROC of {cost(area)}"


def _detection(found: Findings, corpus: str) -> dict[str, Any]:
    variants = {corpus: f"{corpus}/"} | ({"without classical engines": f"{corpus}/without_local/"} if _has_local(found, corpus) else {})
    per_source, per_attack = (found.rows(f"per_{name}", corpus) for name in ("source", "attack"))
    tables = {"source": per_source, "attack": per_attack.iloc[:0] if per_source.equals(per_attack) else per_attack}
    parted = found.rows("per_condition", corpus)
    tables |= {str(name): part for name, part in parted.groupby("condition", sort=False)} if len(parted) else {}
    return {
        "figures": upright(found.metrics, DETECTION | COSTS, variants),
        "tables": {TITLES.get(name, card.words(name)): _worst_first(table) for name, table in tables.items() if len(table)},
        "calibration": _calibration(found, corpus),
        "members": _members(found.rows("detectors", corpus)),
    }


def _members(table: pd.DataFrame) -> Grid | None:
    """Members alone, all but each, and all fused."""
    if not len(table):
        return None
    figures = {"eer": DETECTION["eer"], "more": Figure("above all fused", "", percent)}
    words = {"system": "members", "trials": "trials", "eer": "EER", "more": "above all fused", "interval": "95 % interval"}
    ends = [interval(figures["more"], *pair) or "" for pair in table[["more_low", "more_high"]].itertuples(index=False)]
    return across(table.assign(interval=ends), words, figures)


def _has_local(found: Findings, corpus: str) -> bool:
    return f"{corpus}/without_local/eer" in found.metrics


def _worst_first(table: pd.DataFrame) -> Grid:
    table = table.replace({"value": {"True": "yes", "False": "no"}, "against": {"own": "its own", "all": "all"}})
    told_apart = table["against"].nunique() > 1
    words = {name: title for name, title in (ROW | COSTS_OF_ROW).items() if name != "against" or told_apart}
    return across(table.sort_values("eer", ascending=False, kind="stable"), words, PRINTED)


def _calibration(found: Findings, corpus: str) -> dict[str, Any] | None:
    decided = found.rows("decisions", corpus)
    if not len(decided):
        return None
    share = Figure("", "", percent)
    words = {"key": "truth", "trials": "trials", "bonafide": "called bona fide", "inconclusive": "inconclusive", "spoof": "called spoof"}
    names = {"bonafide": "bona fide", "spoof": "spoof"}
    return {"decisions": across(decided.replace({"key": names}), words, dict.fromkeys(("bonafide", "inconclusive", "spoof"), share))}


def _tracing(found: Findings, corpus: str) -> dict[str, Any]:
    table = found.rows("tracing", corpus)
    prefix = f"{corpus}/tracing/"
    variants = {"all": prefix} | {
        name: f"{prefix}{name.replace(' ', '_').replace('=', '_')}/" for name in table["trials"].unique() if name != "all"
    }
    ranked = {name: figure.name for name, figure in TRACING.items()}
    whole = table[table["trials"] == "all"]
    ensemble = whole[whole["system"] == FUSION].iloc[0]
    unseen = found.rows("tracing_unseen", corpus)
    words = {"set": "set", "source": "source", "trials": "trials", "recall": "named rightly", "auroc": "AUROC", "distance": "distance"}
    printed = TRACING | {"recall": Figure("", "", percent), "distance": Figure("", "", cost), "rejected": Figure("", "", percent)}
    quadrants = {
        "language": "language",
        "source": "source",
        "trials": "trials",
        "accuracy": "named rightly",
        "rejected": "taken for unseen",
    }
    return {
        "known": int(ensemble["known"]),
        "unseen": int(ensemble["unseen"]),
        "figures": upright(found.metrics, TRACING, variants),
        "systems": across(whole, {"system": "system"} | ranked, TRACING) if len(whole) > 1 else None,
        "sources": across(found.rows("tracing_sources", corpus).sort_values("recall"), words, printed) if ensemble["known"] else None,
        "unseen_sources": across(unseen.sort_values("auroc"), words, printed) if len(unseen) else None,
        "quadrants": across(found.rows("tracing_quadrants", corpus), quadrants, printed),
        "distances": across(found.rows("tracing_distances", corpus), words, printed),
    }


def _robustness(table: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    for corpus, part in table.groupby("corpus"):
        clean, damaged = part[part["degradation"] == CLEAN], part[part["degradation"] != CLEAN].reset_index(drop=True)
        if damaged["eer"].notna().any():
            rate = float(clean["eer"].iloc[0]) if len(clean) else float(damaged["eer"].min())
            worst = damaged.loc[damaged["eer"].idxmax()]
            fewest = [int(damaged[name].min()) for name in ("trials_bonafide", "trials_spoof")]
            named = f"{card.words(worst['degradation'])} {card.words(worst['level'])}".strip()
            yield (
                str(corpus),
                {
                    "grid": heat(damaged, card.words, rate),
                    "clean": percent(rate),
                    "worst": f"{named}: EER {percent(worst['eer'])}",
                    "fewest": fewest,
                },
            )
