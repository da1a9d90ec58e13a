"""Scores joined to trials by utterance_id, however both write it."""

import logging
import unicodedata

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark import InputError
from earmark.audio.finder import is_recording

LOG = logging.getLogger(__name__)
NONE, SEVERAL = -1, -2  # rows that an id meets
SHOWN = 5  # ids listed in a message
Ids = NDArray[np.object_]


def join(scores: pd.DataFrame, protocol: pd.DataFrame, max_missing: float = 0.0) -> pd.DataFrame:
    """Protocol rows with their `cm_score`, by id.

    Where ids do not meet as written, audio extensions, kinds of slash and forms of Unicode are ignored on both sides; where none meets
    then, folders before a file's name that one side alone has.
    Scored ids outside the protocol are left out after saying so, as are trials without score up to the share `max_missing`.
    Errors: InputError when more are missing, when all are, or when both tables give an id different keys.
    """
    scored, wanted = ids_of(scores), ids_of(protocol)
    place = _match(scored, wanted)
    missing, surplus = place == NONE, np.setdiff1d(np.arange(len(scored)), place)
    if missing.all():
        raise InputError(f"no trial has a score: the protocol has ids such as {_sample(wanted)}, the score file such as {_sample(scored)}: "
                         "check that they belong together")  # fmt: skip
    lost = f"{missing.sum()} of {len(wanted)} trials have no score ({first_of(wanted[missing])})"
    if missing.mean() > max_missing:
        beside = f"; scored instead: {first_of(scored[surplus])}" if len(surplus) else ""
        raise InputError(f"{lost}{beside}: score them, or check that scores and protocol belong together")
    if missing.any():
        LOG.warning("%s: left out", lost)
    if len(surplus):
        LOG.warning("%d scored ids are not trials to report on (%s): left out", len(surplus), first_of(scored[surplus]))
    trials, found = protocol.take(np.flatnonzero(~missing)), scores.take(place[~missing])
    _refuse_other_keys(found, trials)
    return trials.assign(cm_score=found["cm_score"].to_numpy(np.float64)).reset_index(drop=True)


def _match(scored: Ids, wanted: Ids) -> NDArray[np.int64]:
    """The row of each trial's score, -1 for none, as `join` says."""
    place = pd.Index(scored).get_indexer(pd.Index(wanted))
    if (place >= 0).all():
        return place
    scored, wanted = _fold(scored, "the score file"), _fold(wanted, "the protocol")
    place = pd.Index(scored).get_indexer(pd.Index(wanted))
    if (place >= 0).any():
        return place
    place = _rows(wanted, _endings(scored))
    if (place == NONE).all():  # the protocol's ids are the longer paths
        trials = _rows(scored, _endings(wanted))
        place[trials[trials >= 0]] = np.flatnonzero(trials >= 0)
        place[:] = SEVERAL if (trials == SEVERAL).any() else place
    if (place == SEVERAL).any() or pd.Index(place[place >= 0]).has_duplicates:
        raise InputError(f"ids meet only where folders are ignored, and then some are the same: the protocol has {_sample(wanted)}, "
                         f"the score file {_sample(scored)}: write the same paths in both")  # fmt: skip
    return place


def _endings(ids: Ids) -> dict[str, int]:
    """The row of each id without its first folder, its first two and so on; SEVERAL where rows share it."""
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        while "/" in name:
            name = name.partition("/")[2]
            rows[name] = row if rows.get(name, row) == row else SEVERAL
    return rows


def _rows(ids: Ids, rows: dict[str, int]) -> NDArray[np.int64]:
    return np.array([rows.get(name, NONE) for name in ids], dtype=np.int64)


def _refuse_other_keys(scores: pd.DataFrame, protocol: pd.DataFrame) -> None:
    if "key" in scores:
        other = scores["key"].to_numpy() != protocol["key"].to_numpy()
        if other.any():
            raise InputError(f"scores and protocol give {other.sum()} ids different keys ({first_of(ids_of(protocol)[other])}): mend one")


def ids_of(table: pd.DataFrame) -> Ids:
    """N ids of a table."""
    return table["utterance_id"].to_numpy(dtype=object)


def _fold(ids: Ids, whose: str) -> Ids:
    bare = np.array([_strip(str(name)) for name in ids], dtype=object)
    again = pd.Index(bare).duplicated(keep=False)
    if again.any():
        raise InputError(f"{whose} has ids that differ only in their extension, slashes or Unicode ({first_of(ids[again])}): rename them")
    return bare


def _strip(name: str) -> str:
    name = unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")
    return name.rpartition(".")[0] if is_recording(name) else name


def _sample(ids: Ids) -> str:
    return repr(str(ids[0])) if len(ids) else "none"


def first_of(ids: Ids) -> str:
    """The first few ids, for a message."""
    return ", ".join(map(str, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "")
