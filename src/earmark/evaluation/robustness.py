"""Stage robustness: a sample of eval, degraded and scored again."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from earmark import InputError
from earmark.audio.decode import read
from earmark.audio.degrade import degradations
from earmark.corpora.protocol import headline
from earmark.features.recording import Recording
from earmark.metrics.bootstrap import Clusters, intervals
from earmark.metrics.detection import Ranked, cllr, eer
from earmark.model import bundle
from earmark.model.system import System
from earmark.params import ComputeParams, RobustnessParams
from earmark.storage.files import complete, read_table, write_table


def robustness(
    seed: int, robustness: RobustnessParams, compute: ComputeParams, *, protocol: Path, model: Path, output: Path
) -> dict[str, float]:
    """Write trials.parquet (a row a trial and degradation: cm_score, llr) and robustness.parquet (a row a corpus and degradation)."""
    system, _ = bundle.load(model, compute)
    rows = sample(headline(read_table(protocol)), robustness.max_trials, seed)
    scores = pd.DataFrame(
        [row for trial in track(list(rows.itertuples()), "robustness") for row in _score(system, trial, robustness, seed)]
    )
    grid = summarise(rows.merge(scores, on="utterance_id"), robustness, seed)
    with complete(output) as aside:
        aside.mkdir()
        write_table(aside / "trials.parquet", scores)
        write_table(aside / "robustness.parquet", grid)
    worst = grid.loc[grid["eer"].idxmax()] if grid["eer"].notna().any() else None
    return {"trials": len(rows), "degradations": grid["degradation"].size} | ({} if worst is None else {"worst_eer": float(worst["eer"])})


def sample(trials: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` trials of each corpus that has both keys: half of either key where there are enough, spoofs balanced over sources.

    Errors: InputError when no corpus has both keys.
    """
    found = []
    for _, rows in trials.groupby("corpus"):
        shuffled = rows.sample(frac=1, random_state=seed)
        bonafide, spoof = (shuffled[shuffled["key"] == key] for key in ("bonafide", "spoof"))
        turn = spoof.groupby(spoof["source"].fillna("-")).cumcount()
        spoof = spoof.iloc[np.argsort(turn, kind="stable")]
        if len(bonafide) and len(spoof):
            count = max(most // 2, most - len(spoof))
            bonafide = bonafide.head(count)
            found += [bonafide, spoof.head(most - len(bonafide))]
    if not found:
        raise InputError("eval has no corpus with trials of both keys: there is nothing to degrade and score again")
    return pd.concat(found).sort_index()


def summarise(trials: pd.DataFrame, params: RobustnessParams, seed: int) -> pd.DataFrame:
    """EER with its interval, and Cllr of the calibrated scores, by corpus, degradation and level, in the order of the degradations.

    Whoever looks for the worst of m degradations finds the unluckiest: each interval has the level 1 − (1 − level) / m (Bonferroni), so
    that all of a corpus hold together with probability `level`.
    """
    rows = []
    many = trials.groupby("corpus").apply(lambda part: len(part[["degradation", "level"]].drop_duplicates()))
    for (corpus, degradation, level), part in trials.groupby(["corpus", "degradation", "level"], sort=False):
        key = (part["key"] == "bonafide").to_numpy()
        ranked = Ranked.of(part["cm_score"], key)
        row: dict[str, Any] = {"corpus": corpus, "degradation": degradation, "level": level}
        row |= {"trials_bonafide": int(key.sum()), "trials_spoof": int((~key).sum()), "eer": eer(ranked.curve())}
        level = 1 - (1 - params.level) / many[corpus]
        row |= dict(zip(("eer_low", "eer_high"), _interval(ranked, part, level, params, seed), strict=True))
        rows.append(row | {"cllr": cllr(Ranked.of(part["llr"], key).curve())})
    return pd.DataFrame(rows)


def _interval(ranked: Ranked, part: pd.DataFrame, level: float, params: RobustnessParams, seed: int) -> tuple[float, float]:
    """Interval of a row's EER; NaN where speakers or sources are too few."""

    def figures(weights: NDArray[np.float64]) -> dict[str, float]:
        return {"eer": eer(ranked.curve(weights))}

    clusters = Clusters.of(ranked.is_bonafide, part["speaker"].tolist(), part["source"].tolist())
    return intervals(figures, clusters, params.resamples, seed, level).get("eer", (np.nan, np.nan))


def _score(system: System, trial: Any, params: RobustnessParams, seed: int) -> list[dict[str, Any]]:
    """One trial's rows, a degradation each; degraded in threads, scored together."""
    waveform, _ = read(trial.path, system.params.decoding)
    jobs = list(degradations(params))
    # a generator of its own for every trial and degradation, so that neither order nor number of others changes what is heard
    generators = [np.random.default_rng((seed, int(trial.digest[:8], 16), number)) for number in range(len(jobs))]
    with ThreadPoolExecutor() as pool:
        degraded = list(pool.map(lambda job: job[0][2](waveform, job[1]), zip(jobs, generators, strict=True)))
    heard = system.hear_all([Recording(sound, system.params.audio, system.transform) for sound in degraded])
    rows = []
    for (degradation, level, _), found in zip(jobs, heard, strict=True):
        row = {"utterance_id": trial.utterance_id, "degradation": degradation, "level": level, "cm_score": found.cm_score}
        rows.append(row | {"llr": float(system.calibration.llr(found.cm_score))})
    return rows
