"""Recordings that occur more than once: the same samples, the same recording in another form, and the same under another label."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from scipy.cluster.hierarchy import DisjointSet

from earmark.audio.decode import read
from earmark.doctor.bounds import BOUNDS
from earmark.doctor.examine import prints
from earmark.doctor.fingerprint import Pair, find_pairs
from earmark.doctor.likeness import Likeness, compare
from earmark.params.decoding import DecodingParams

STRICT_BITS = 0.1  # more cannot be the same samples, so waveforms need not be read again to know
BATCH = 256  # pairs whose waveforms are compared at a time


@dataclass
class Twins:
    """Row numbers of the table, in clusters of at least two: `near` of one label each, `identical` of several."""

    near: list[list[int]] = field(default_factory=list)
    identical: list[list[int]] = field(default_factory=list)
    likeness: dict[int, Likeness] = field(default_factory=dict)  # of a row with the first of its cluster found to be like it


def conflicting(first: pd.Series, second: pd.Series) -> bool:
    """Whether two rows cannot both be right of one recording: keys differ, or sources that are both named."""
    if first["key"] != second["key"]:
        return True
    return bool(pd.notna(first["source"]) and pd.notna(second["source"]) and first["source"] != second["source"])


def find_twins(table: pd.DataFrame, decoding: DecodingParams) -> Twins:
    """Compare rows of distinct digests that can be decoded: within a label by waveform, between labels where hardly anything differs.

    A vocoder's copy has its recording's spectrum and so its fingerprint, but a waveform of its own: it is no twin. Nor is a copy that
    was made here from a recording, whose label is certain however little the copying changed.
    """
    rows = table[table["error"].isna() & ~table["digest"].duplicated()]
    made = rows["copied"].to_numpy(bool) if "copied" in rows else np.zeros(len(rows), bool)
    numbers = table.index.get_indexer(rows.index)
    twins, near, identical = Twins(), DisjointSet(range(len(rows))), DisjointSet(range(len(rows)))
    pairs = find_pairs(prints(rows), BOUNDS.min_overlap)
    for pair, likeness in _compare(rows, pairs, near, decoding):
        differ = conflicting(rows.iloc[pair.first], rows.iloc[pair.second])
        if differ and likeness.identical and made[pair.first] == made[pair.second]:
            identical.merge(pair.first, pair.second)
        elif not differ and likeness.correlation >= BOUNDS.min_correlation:
            near.merge(pair.first, pair.second)
        else:
            continue
        twins.likeness.setdefault(int(numbers[pair.second]), likeness)
    for found, clusters in ((near, twins.near), (identical, twins.identical)):
        clusters += [[int(numbers[n]) for n in sorted(members)] for members in found.subsets() if len(members) > 1]
    return twins


def _compare(rows: pd.DataFrame, pairs: list[Pair], near: DisjointSet, decoding: DecodingParams) -> Iterator[tuple[Pair, Likeness]]:
    """Likeness of the pairs that can matter; those that earlier ones have tied together already are passed over."""
    able = [p for p in pairs if p.bits <= STRICT_BITS or not conflicting(rows.iloc[p.first], rows.iloc[p.second])]
    paths = rows["path"].tolist()
    with ThreadPoolExecutor() as pool:
        starts = range(0, len(able), BATCH)
        for start in track(starts, "compare alike recordings", disable=len(able) < BATCH, console=Console(stderr=True)):
            batch = [pair for pair in able[start : start + BATCH] if not near.connected(pair.first, pair.second)]
            found = pool.map(lambda pair: compare(*(read(paths[row], decoding)[0] for row in (pair.first, pair.second))), batch)
            yield from zip(batch, found, strict=True)
