"""The checks of files, labels and splits. `table` is the protocol beside the columns of `examine_all`."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from earmark.corpora.protocol import SPLITS
from earmark.doctor.bounds import BOUNDS
from earmark.doctor.findings import Finding, judge, name_splits
from earmark.doctor.twins import Twins
from earmark.params.doctor import DoctorParams

IDENTITY = ["utterance_id", "split", "key", "source"]
MEND = "mend or remove them; a run goes on without up to trials.max_unreadable of a corpus"


def check_files(table: pd.DataFrame, settings: DoctorParams, max_unreadable: float) -> list[Finding]:
    """Files that are no audio, say nothing, or are cut off at full scale."""
    silent = table["active_dbfs"] < BOUNDS.silent_dbfs
    unreadable = table["error"].notna() & ~silent
    clipped = table["clipped"] > BOUNDS.clipped_share
    columns = ["corpus", "utterance_id", "split", "path"]
    few = [_tolerated(table, wrong, max_unreadable) for wrong in (unreadable, silent)]
    broken = table.loc[unreadable, columns].assign(fault=table.loc[unreadable, "error"])
    quiet = table.loc[silent, columns].assign(active_dbfs=table.loc[silent, "active_dbfs"].replace(-np.inf, np.nan).round(1))
    cut = table.loc[clipped, columns].assign(clipped_percent=(100 * table.loc[clipped, "clipped"]).round(2))
    return [
        judge("unreadable", settings.unreadable, broken, "cannot be decoded", MEND, tolerated=few[0]),
        judge("silent", settings.silent, quiet, f"no frame reaches {BOUNDS.silent_dbfs:g} dBFS", MEND, tolerated=few[1]),
        judge("clipped", settings.clipped, cut, f"more than {BOUNDS.clipped_share:.2%} of samples cut off at full scale",
              "fetch the recordings as they were before they were amplified, or leave them: cut peaks sound like distortion"),
    ]  # fmt: skip


def _tolerated(table: pd.DataFrame, wrong: pd.Series, max_unreadable: float) -> bool:
    return bool((wrong.groupby(table["corpus"]).mean() <= max_unreadable).all())


def check_labels(table: pd.DataFrame, twins: Twins, settings: DoctorParams) -> Finding:
    """One recording, or one utterance_id, under two keys or two sources."""
    same_id = _groups(table, table["utterance_id"])
    twice = [rows for rows in same_id if not _disagree(table.iloc[rows])]
    differing = [rows for rows in same_id if _disagree(table.iloc[rows])]
    same_samples = [rows for rows in _groups(table, _digests(table)) if _disagree(table.iloc[rows])]
    faults = {
        "utterance_id occurs more than once": twice,
        "utterance_id occurs more than once, labelled differently": differing,
        "the same samples, labelled differently": same_samples,
        "the same recording but for level or length, labelled differently": twins.identical,
    }
    clusters = [rows for found in faults.values() for rows in found]
    culprits = _cluster_table(table, clusters, fault=[fault for fault, found in faults.items() for _ in found])
    what, advice = "one recording under two labels", "listen to each, keep the row whose label is right and remove the others"
    return judge("label_conflicts", settings.label_conflicts, culprits, what, advice, len(clusters), "recordings")


def check_duplicates(table: pd.DataFrame, settings: DoctorParams) -> list[Finding]:
    """The same samples twice in a split, and in two splits."""
    digests = _digests(table)
    within = [rows for rows in _groups(table, digests, table["split"]) if not _disagree(table.iloc[rows])]
    across = [rows for rows in _groups(table, digests) if table["split"].iloc[rows].nunique() > 1]
    return [
        judge("duplicates", settings.duplicates, _cluster_table(table, within), "the same samples several times in a split",
              "keep one of each: repeated trials count as more proof than they are", len(within), "recordings"),
        judge("file_leak", settings.file_leak, _cluster_table(table, across), "the same samples in " + _say_splits(table, across),
              "keep each in one split: what was trained on is no test", len(across), "recordings"),
    ]  # fmt: skip


def check_near_duplicates(table: pd.DataFrame, twins: Twins, settings: DoctorParams) -> list[Finding]:
    """One recording in several forms within a split, and in two splits."""
    members = [_with_copies(table, rows) for rows in twins.near]
    within = [part for rows in members for part in _by_split(table, rows) if table["digest"].iloc[part].nunique() > 1]
    across = [rows for rows in members if _crosses(table, rows)]
    return [
        judge("near_duplicates", settings.near_duplicates, _cluster_table(table, within, twins),
              "one recording in several forms (re-encoded, another level, cut) in a split",
              "keep the best of each: repeated trials count as more proof than they are", len(within), "recordings"),
        judge("near_duplicate_leak", settings.near_duplicate_leak, _cluster_table(table, across, twins),
              "one recording in several forms in " + _say_splits(table, across),
              "keep each in one split: what was trained on is no test", len(across), "recordings"),
    ]  # fmt: skip


def check_leaks(table: pd.DataFrame, settings: DoctorParams) -> list[Finding]:
    """Speakers and groups of a corpus that are in two splits."""
    found = []
    for column, severity in (("speaker", settings.speaker_leak), ("group", settings.group_leak)):
        advice = f"move all of a {column} to one split, or leave the split empty: earmark's own splits keep each {column} together"
        what = f"one {column} in several splits"
        judged = judge(f"{column}_leak", severity, _crossing(table, column), what, advice, unit=f"{column}s")
        nameless = sorted(corpus for corpus, rows in table.groupby("corpus") if rows[column].isna().all())
        found.append(_admit(judged, column, nameless, all_of_them=len(nameless) == table["corpus"].nunique()))
    return found


def _admit(finding: Finding, column: str, nameless: list[str], all_of_them: bool) -> Finding:
    """Where corpora do not name their speakers or groups, none was found because none was looked for: say so."""
    if not nameless or finding.count:
        return finding
    said = f"{', '.join(nameless)}: no {column} is named, so what leaks is not known"
    advice = f"say each utterance's {column} in protocol.tsv" if all_of_them else ""
    return replace(finding, status="not judged" if all_of_them else finding.status, summary=said, advice=advice)


def _crossing(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row for each name of a corpus that is in two splits: how many files it has in which."""
    counts = table.dropna(subset=[column]).groupby(["corpus", column, "split"]).size().unstack(fill_value=0)
    crossing = counts[(counts > 0).sum(axis=1) > 1].rename_axis(columns=None)
    return crossing[[split for split in SPLITS if split in crossing]].reset_index()


def _digests(table: pd.DataFrame) -> pd.Series:
    return table["digest"].where(table["error"].isna())


def _groups(table: pd.DataFrame, *keys: pd.Series) -> list[list[int]]:
    """Row numbers of the rows that share all keys, where two or more do."""
    places = pd.Series(range(len(table)), index=table.index)
    return [list(rows) for _, rows in places.groupby(list(keys)) if len(rows) > 1]


def _disagree(rows: pd.DataFrame) -> bool:
    return rows["key"].nunique() > 1 or rows["source"].nunique() > 1


def _with_copies(table: pd.DataFrame, rows: list[int]) -> list[int]:
    """Rows of the same samples as these."""
    return np.flatnonzero(table["digest"].isin(table["digest"].iloc[rows]) & table["error"].isna()).tolist()


def _by_split(table: pd.DataFrame, rows: list[int]) -> Iterable[list[int]]:
    return [list(part) for _, part in pd.Series(rows).groupby(table["split"].iloc[rows].to_numpy())]


def _crosses(table: pd.DataFrame, rows: list[int]) -> bool:
    """Whether two forms of a recording are in two splits, beyond copies of the same samples."""
    pairs = table.iloc[rows][["digest", "split"]].drop_duplicates()
    return any(((pairs["digest"] != digest) & (pairs["split"] != split)).any() for digest, split in pairs.itertuples(index=False))


def _say_splits(table: pd.DataFrame, clusters: list[list[int]]) -> str:
    return name_splits([split for rows in clusters for split in table["split"].iloc[rows]])


def _cluster_table(table: pd.DataFrame, clusters: list[list[int]], twins: Twins | None = None, **columns: list[str]) -> pd.DataFrame:
    """Rows of all clusters, numbered from 1; with `twins`, how like each is to one before it."""
    if not clusters:
        return pd.DataFrame()
    rows = [row for members in clusters for row in members]
    numbers = [number for number, members in enumerate(clusters) for _ in members]
    found = table.iloc[rows][IDENTITY].reset_index(drop=True)
    found.insert(0, "cluster", [number + 1 for number in numbers])
    for name, values in columns.items():
        found[name] = [values[number] for number in numbers]
    if twins:
        likeness = [twins.likeness.get(row) for row in rows]
        found["correlation"] = [round(like.correlation, 3) if like else None for like in likeness]
        found["lag_seconds"] = [round(like.lag_seconds, 3) if like else None for like in likeness]
    return found.assign(path=table["path"].iloc[rows].tolist())
