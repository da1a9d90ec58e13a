"""The detector's members alone, all but one, and all fused, on the same trials."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.evaluation.breakdowns import parts, variants
from earmark.evaluation.detection import Settings
from earmark.metrics.bootstrap import Clusters, intervals
from earmark.metrics.detection import Ranked, eer

FUSED = "all fused"


def compare(trials: pd.DataFrame, systems: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """A row a corpus, variant and system: its EER, and by how much that exceeds the fused one's, with the paired interval of that.

    `trials` have the fused cm_score; `systems` are system, utterance_id and cm_score. Empty where the detector has one member.
    """
    scores = systems.pivot(index="utterance_id", columns="system", values="cm_score")[list(dict.fromkeys(systems["system"]))]
    rows = []
    for corpus, part in parts(trials, "corpus") if scores.shape[1] > 1 else ():
        for variant, chosen in variants(part):
            for system, found in ({FUSED: chosen["cm_score"]} | dict(scores.loc[chosen["utterance_id"]].items())).items():
                row = _row(chosen, found.to_numpy(np.float64), settings)
                rows.append({"corpus": corpus, "trials": variant, "system": system, **row})
    return pd.DataFrame(rows, columns=["corpus", "trials", "system", "eer", "more", "more_low", "more_high"])


def _row(trials: pd.DataFrame, scores: NDArray[np.float64], settings: Settings) -> dict[str, Any]:
    key = (trials["key"] == "bonafide").to_numpy(bool)
    fused, own = Ranked.of(trials["cm_score"], key), Ranked.of(scores, key)

    def figures(weights: NDArray[np.float64] | None = None) -> dict[str, float]:
        rate = eer(own.curve(weights))
        return {"eer": rate, "more": rate - eer(fused.curve(weights))}

    speakers, sources = (list(trials[name]) if name in trials else None for name in ("speaker", "source"))
    ends = intervals(figures, Clusters.of(key, speakers, sources), settings.resamples, settings.seed) if settings.resamples else {}
    return figures() | dict(zip(("more_low", "more_high"), ends.get("more", (np.nan, np.nan)), strict=True))
