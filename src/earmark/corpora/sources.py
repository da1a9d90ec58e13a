"""Utterances that the tracer learns from and answers for, with their classes; a source is known when the train split has it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark import InputError
from earmark.params import TracerParams

Labels = NDArray[np.int64]
UNSEEN = -1  # label of an utterance whose source is none of the known ones


@dataclass(frozen=True)
class Rows:
    """Utterances and the number of each one's class; UNSEEN where it has none."""

    utterances: list[str]
    labels: Labels

    @classmethod
    def by_key(cls, rows: pd.DataFrame) -> "Rows":
        """1 = bona fide, 0 = spoof."""
        return cls(rows["utterance_id"].tolist(), (rows["key"] == "bonafide").to_numpy(np.int64))

    @classmethod
    def by_source(cls, rows: pd.DataFrame, sources: tuple[str, ...]) -> "Rows":
        """Numbers of `sources`."""
        return cls(rows["utterance_id"].tolist(), numbers(rows["source"], sources))

    @property
    def known(self) -> "Rows":
        """Those that have a class."""
        chosen = np.flatnonzero(self.labels != UNSEEN)
        return Rows([self.utterances[row] for row in chosen], self.labels[chosen])


@dataclass(frozen=True)
class Trials:
    """The protocol as the tracer sees it. Errors: InputError when a corpus that should be traced is not in the table."""

    table: pd.DataFrame
    params: TracerParams

    def __post_init__(self):
        """See the class."""
        if absent := sorted(set(self.params.corpora or ()) - set(self.table["corpus"])):
            raise InputError(
                f"tracer.corpora: there is no corpus {', '.join(absent)}; there are {', '.join(sorted(set(self.table['corpus'])))}"
            )

    def spoofs(self, *splits: str) -> pd.DataFrame:
        """Spoofs that tracing is about: those with a source of traced corpora, copies among them only where they count."""
        rows = self.table[self.table["split"].isin(splits) & (self.table["key"] == "spoof") & self.table["source"].notna()]
        rows = rows if self.params.corpora is None else rows[rows["corpus"].isin(self.params.corpora)]
        return rows if self.params.copies_are_sources else rows[~rows["copied"].astype(bool)]

    def with_bonafide(self, split: str) -> pd.DataFrame:
        """Those spoofs and the bona fide speech of any corpus."""
        return pd.concat([self.table[(self.table["split"] == split) & (self.table["key"] == "bonafide")], self.spoofs(split)])

    def sources(self) -> tuple[str, ...]:
        """Sources of the train split, sorted. Errors: InputError when there are fewer than two."""
        sources = tuple(sorted(self.spoofs("train")["source"].unique()))
        if len(sources) < 2:
            found = f"only {sources[0]}" if sources else "none"
            raise InputError(
                f"tracing needs two sources in train, there is {found}: add spoofs with a source, set tracer.copies_are_sources=true, "
                "or tracer.members={} to go without tracing"
            )
        return sources


def numbers(sources: pd.Series, known: tuple[str, ...]) -> Labels:
    """Number of each source among the known ones; UNSEEN where it is none."""
    return pd.Index(known).get_indexer(pd.Index(sources)).astype(np.int64)
