"""Fingerprints that survive re-encoding, level and cuts, and the pairs of recordings whose fingerprints agree.

A fingerprint is 32 bits a frame: whether the energy of each of 33 bands rises against its neighbour and the frame before (Haitsma and
Kalker, ISMIR 2002). Equal words point at pairs, so no recording is compared with all others. Shapes: T samples, F frames, n words in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.fft import rfft

from earmark.audio.decode import SAMPLE_RATE

RATE, WINDOW, HOP = 4_000, 1_024, 64  # 256 ms every 16 ms: long windows make frames of a shifted copy alike
EDGES = np.round(np.geomspace(200, 1_900, 34) * WINDOW / RATE).astype(int)  # bins; within what a telephone passes
ACTIVE_DB = 30.0  # frames further below the loudest twentieth carry noise
NEIGHBOURS = 4  # places of a word compared with each other, so that frequent words cost no more than their number
AROUND = 16  # frames either side of an equal word that are compared first
MAX_BITS = 0.25  # share of differing bits; chance is a half
MIN_FRAMES = 12
CHUNK = 100_000
Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Print:
    """Fingerprint of a recording: (F,) words and which of them are speech."""

    words: Words
    active: NDArray[np.bool_]

    @classmethod
    def unpack(cls, words: bytes, active: bytes) -> "Print":
        """Read what `pack` wrote."""
        bits = np.frombuffer(words, np.uint32)
        return cls(bits, np.unpackbits(np.frombuffer(active, np.uint8), count=len(bits)).astype(bool))

    def pack(self) -> tuple[bytes, bytes]:
        """Two cells of a table."""
        return self.words.tobytes(), np.packbits(self.active).tobytes()


@dataclass(frozen=True)
class Pair:
    """Two recordings whose fingerprints agree: frame `lag` + f of `first` is frame f of `second`; `bits` differ."""

    first: int
    second: int
    lag: int
    bits: float


def fingerprint(waveform: np.ndarray) -> Print:
    """Fingerprint of a (T,) waveform at 16 kHz; without words where it is shorter than two windows' start."""
    slow = soxr.resample(waveform, SAMPLE_RATE, RATE)
    if len(slow) < WINDOW + HOP:
        return Print(np.zeros(0, np.uint32), np.zeros(0, bool))
    frames = np.lib.stride_tricks.sliding_window_view(slow, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    spectrum = np.asarray(rfft(frames, axis=1))
    energy = np.add.reduceat(np.square(np.abs(spectrum)), EDGES, axis=1)[:, : len(EDGES) - 1]
    rises = np.diff(np.diff(energy, axis=1), axis=0) > 0
    loudness = energy.sum(axis=1)
    active = loudness > np.percentile(loudness, 95) * 10 ** (-ACTIVE_DB / 10)
    return Print(np.packbits(rises, axis=1, bitorder="little").view(np.uint32)[:, 0], active[1:])


def find_pairs(prints: Sequence[Print], min_overlap: float) -> list[Pair]:
    """Pairs that agree in `MAX_BITS` over at least `min_overlap` of the shorter one; in order of their numbers."""
    pool = _Pool(prints)
    best: dict[tuple[int, int], Pair] = {}
    for first, second, lag in pool.candidates():
        bits = differing_bits(prints[first], prints[second], lag, min_overlap)
        known = best.get((first, second))
        if bits <= MAX_BITS and (known is None or bits < known.bits):
            best[first, second] = Pair(first, second, lag, bits)
    return [best[key] for key in sorted(best)]


def differing_bits(first: Print, second: Print, lag: int, min_overlap: float) -> float:
    """Share of bits that differ where both speak; 1 where too little overlaps to say."""
    here, there = max(lag, 0), max(-lag, 0)
    count = min(len(first.words) - here, len(second.words) - there)
    if count < min_overlap * min(len(first.words), len(second.words)):
        return 1.0
    both = first.active[here : here + count] & second.active[there : there + count]
    if np.count_nonzero(both) < MIN_FRAMES:
        return 1.0
    return float(np.bitwise_count(first.words[here : here + count][both] ^ second.words[there : there + count][both]).mean() / 32)


class _Pool:
    """The words of all recordings, one after the other: (n,) words, whether they are speech, and whose they are."""

    def __init__(self, prints: Sequence[Print]):
        lengths = np.array([len(one.words) for one in prints], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.words = np.concatenate([np.zeros(0, np.uint32), *(one.words for one in prints)])
        self.active = np.concatenate([np.zeros(0, bool), *(one.active for one in prints)])
        self.owner = np.repeat(np.arange(len(prints)), lengths)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Places of speech, equal words side by side."""
        speech = np.flatnonzero(self.active)
        return speech[np.argsort(self.words[speech], kind="stable")]

    def candidates(self) -> list[tuple[int, int, int]]:
        """(first, second, lag) of recordings with an equal word whose surroundings agree too."""
        found = [np.zeros((0, 3), np.int64)]
        for step in range(1, NEIGHBOURS + 1):
            here, there = self.order[:-step], self.order[step:]
            alike = (self.words[here] == self.words[there]) & (self.owner[here] != self.owner[there])
            for chunk in np.array_split(np.flatnonzero(alike), 1 + np.count_nonzero(alike) // CHUNK):
                found.append(self._keep(here[chunk], there[chunk]))
        return [(int(a), int(b), int(lag)) for a, b, lag in np.unique(np.concatenate(found), axis=0)]

    def _keep(self, here: NDArray[np.int64], there: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows (first, second, lag) of the pairs of places around which few bits differ."""
        window = np.arange(-AROUND, AROUND + 1)
        a, b = here[:, None] + window, there[:, None] + window
        valid = self._same_owner(a, here) & self._same_owner(b, there)
        a, b = a.clip(0, len(self.words) - 1), b.clip(0, len(self.words) - 1)
        valid &= self.active[a] & self.active[b]
        bits = (np.bitwise_count(self.words[a] ^ self.words[b]) * valid).sum(axis=1) / (32 * valid.sum(axis=1))
        good = (bits <= MAX_BITS) & (valid.sum(axis=1) >= MIN_FRAMES)
        one, two = here[good], there[good]
        lag = (one - self.starts[self.owner[one]]) - (two - self.starts[self.owner[two]])
        rows = np.stack([self.owner[one], self.owner[two], lag], axis=1)
        swapped = rows[:, 0] > rows[:, 1]
        rows[swapped] = np.stack([rows[swapped, 1], rows[swapped, 0], -rows[swapped, 2]], axis=1)
        return rows

    def _same_owner(self, places: NDArray[np.int64], middle: NDArray[np.int64]) -> NDArray[np.bool_]:
        owner = self.owner[middle]
        return (places >= self.starts[owner][:, None]) & (places < self.starts[owner + 1][:, None])
