"""One row a headline trial: what it is, what was said of it. The gate and other readers need no other table."""

from collections.abc import Mapping

import pandas as pd

from earmark.evaluation.breakdowns import conditions, parts
from earmark.model.calibration import Calibration

WORDS = ("utterance_id", "digest", "corpus", "key", "speaker", "source", "group", "language")  # strings, null where not stated
ANSWER = ("answer", "ood_score", "known")


def trial_table(
    trials: pd.DataFrame, scores: pd.DataFrame, calibration: Calibration | None, traced: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """WORDS, every condition that parts a corpus, cm_score, llr, and of `traced` trials `answer`, `ood_score` and `known`; null elsewhere.

    Trials without score, which were unreadable, are left out.
    """
    scored = trials.merge(scores[["utterance_id", "cm_score"]], on="utterance_id", how="inner", validate="one_to_one")
    parting = {name for _, part in parts(scored, "corpus") for name in conditions(part)}
    table = pd.DataFrame({name: scored[name].astype("str") if name in scored else pd.Series(dtype="str") for name in WORDS}, scored.index)
    chosen = [name for name in scored.columns if name in parting and name not in WORDS]
    table = pd.concat([table, scored[chosen]], axis=1).assign(cm_score=scored["cm_score"])
    table["llr"] = calibration.llr(scored["cm_score"]) if calibration else float("nan")
    empty = pd.DataFrame({"utterance_id": [], "answer": [], "ood_score": [], "known": []})
    answers = pd.concat([empty, *(part[["utterance_id", *ANSWER]] for part in traced.values())])
    types = {"utterance_id": "str", "answer": "str", "ood_score": "float64", "known": "boolean"}
    return table.merge(answers.astype(types), on="utterance_id", how="left", validate="one_to_one")
