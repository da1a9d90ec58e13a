"""Peaks that were cut off: samples that stand flat at a channel's extreme."""

from dataclasses import dataclass

import numpy as np

RUN = 3  # samples in a row at the peak are a cut-off peak, one or two are chance


@dataclass
class Flat:
    """Samples of a channel that stand flat at its highest or lowest value."""

    count: int = 0
    top: float = 0.0
    bottom: float = 0.0
    at_top: int = 0
    at_bottom: int = 0
    first: float | None = None
    constant: bool = True  # no sample differs from the first

    def copy(self) -> "Flat":
        """Another with the same counts."""
        return Flat(**self.__dict__)

    def add(self, samples: np.ndarray) -> None:
        """Look at (n,) more samples."""
        if not len(samples):
            return
        self.count += len(samples)
        top, bottom = float(samples.max()), float(samples.min())
        self.first = float(samples[0]) if self.first is None else self.first
        self.constant &= top == bottom == self.first
        if top >= self.top:
            self.at_top = _in_runs(samples == top) + (self.at_top if top == self.top else 0)
            self.top = top
        if bottom <= self.bottom:
            self.at_bottom = _in_runs(samples == bottom) + (self.at_bottom if bottom == self.bottom else 0)
            self.bottom = bottom

    @property
    def peak(self) -> float:
        """Largest magnitude."""
        return max(self.top, -self.bottom)

    @property
    def share(self) -> float:
        """Of samples that are cut off: flat at an extreme that is not silence."""
        flat = (self.at_top if self.top > 0 else 0) + (self.at_bottom if self.bottom < 0 else 0)
        return flat / self.count if self.count else 0.0


def _in_runs(flags: np.ndarray) -> int:
    """How many of (n,) flags stand in runs of at least RUN."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= RUN].sum())
