"""Splits for corpora that bring none: seeded, and disjoint in groups and in speakers."""

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from earmark.corpora.protocol import KEYS


def assign_splits(table: pd.DataFrame, fractions: dict[str, float], seed: int) -> pd.Series:
    """Splits of all rows: given ones stay, the others fill `fractions` (split → share) of each key, whatever the row order.

    Rows tied by speaker or group, over any number of steps, share one split; a row of neither stands alone. Rows tied
    to given ones join the split that most of those have.
    """
    components = _find_components(table)
    members = [table.iloc[rows] for rows in np.split(np.argsort(components, kind="stable"), np.cumsum(np.bincount(components))[:-1])]
    order = sorted(range(len(members)), key=lambda c: (-len(members[c]), _draw(seed, min(members[c]["utterance_id"]))))
    chosen = _fill([members[c] for c in order], fractions)
    split_of = dict(zip(order, chosen, strict=True))
    return table["split"].fillna(pd.Series([split_of[c] for c in components], index=table.index, dtype="str"))


def _find_components(table: pd.DataFrame) -> np.ndarray:
    """Number the connected components of rows tied by speaker or group, as a graph of rows and names. Returns (rows,) ints."""
    rows, ties, size = [], [], len(table)
    for column in ("speaker", "group"):
        codes, names = pd.factorize(table[column])
        tied = np.flatnonzero(codes >= 0)
        rows.append(tied)
        ties.append(codes[tied] + size)
        size += len(names)
    row, tie = np.concatenate(rows), np.concatenate(ties)
    _, labels = connected_components(coo_array((np.ones(len(row), bool), (row, tie)), shape=(size, size)), directed=False)
    return np.unique(labels[: len(table)], return_inverse=True)[1]


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def _fill(components: list[pd.DataFrame], fractions: dict[str, float]) -> list[str]:
    """Give each component, in the order given, to the split that lacks its keys most in proportion."""
    names = [name for name, share in fractions.items() if share > 0]
    shares = np.array([fractions[name] for name in names])
    counts = np.array([[(member["key"] == key).sum() for key in KEYS] for member in components], dtype=float)  # (components, keys)
    portions = counts / np.maximum(counts.sum(axis=0), 1)
    filled = np.zeros((len(names), len(KEYS)))
    chosen = []
    for member, portion in zip(components, portions, strict=True):
        given = Counter(member["split"].dropna())
        lack = (portion * (1 - filled / shares[:, None])).sum(axis=1)
        best = names[int(np.argmax(np.round(lack, 12) + 1e-9 * shares))]  # ties go to the larger split
        chosen.append(min(given, key=lambda name: (-given[name], name)) if given else best)
        if chosen[-1] in names:
            filled[names.index(chosen[-1])] += portion
    return chosen
