"""Which channels of a recording say the same, and may be heard as one. Shapes: T samples at 16 kHz, C channels."""

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from earmark.audio.sound import SAMPLE_RATE

WINDOW = 4 * SAMPLE_RATE  # samples whose correlation is looked at together
QUIET_DB = 40.0  # windows so far below the loudest say nothing of likeness
UNUSED_DB = 50.0  # a channel so far below the loudest holds nothing but what leaked into it
BLOCK = 60 * SAMPLE_RATE


class Channel(NamedTuple):
    """A channel of a recording: from 1 on, its RMS level, and its least correlation with the loudest in any window of 4 s."""

    number: int
    level_dbfs: float | None
    correlation: float | None


class Voice(NamedTuple):
    """(T,) float32 that is judged as one: a channel, or, with `channel` None, the mean of all that sound."""

    channel: int | None
    samples: np.ndarray


def describe(samples: np.ndarray) -> list[Channel]:
    """(T, C) → a row a channel; a silent one has no level and no correlation."""
    count = max(len(samples), 1)
    centre = sum(block.sum(axis=0, dtype=np.float64) for block in _blocks(samples, BLOCK)) / count  # a constant is no sound
    powers = sum(np.square(block - centre).sum(axis=0) for block in _blocks(samples, BLOCK)) / count
    loudest = int(np.argmax(powers))
    levels = [10 * float(np.log10(power)) if power > 0 else None for power in np.atleast_1d(powers)]
    if samples.shape[1] == 1:
        return [Channel(1, levels[0], None)]
    found = _correlations(samples, loudest)
    return [
        Channel(number + 1, level, None if level is None or number == loudest else float(found[number]))
        for number, level in enumerate(levels)
    ]


def in_use(channels: list[Channel]) -> list[Channel]:
    """Those that are neither silent nor so far below the loudest that nothing but leaks is in them."""
    loudest = max((one.level_dbfs for one in channels if one.level_dbfs is not None), default=0.0)
    return [one for one in channels if one.level_dbfs is not None and one.level_dbfs > loudest - UNUSED_DB]


def voices(samples: np.ndarray, channels: list[Channel], correlation: float) -> list[Voice]:
    """(T, C) → what is to be judged: channels alike (an inverted one is turned round) as their mean, else each that sounds by itself."""
    used = in_use(channels)
    if not used:
        return []
    if samples.shape[1] == 1:
        return [Voice(None, samples[:, 0])]
    if len(used) == 1:
        return [Voice(used[0].number, samples[:, used[0].number - 1])]
    if any(abs(1.0 if one.correlation is None else one.correlation) < correlation for one in used):
        return [Voice(one.number, samples[:, one.number - 1]) for one in used]
    weights = np.zeros(samples.shape[1], np.float32)
    for one in used:
        weights[one.number - 1] = -1 if one.correlation is not None and one.correlation < 0 else 1
    return [Voice(None, _mean(samples, weights / len(used)))]


def mean(samples: np.ndarray) -> np.ndarray:
    """(T, C) → (T,) mean of all channels."""
    return _mean(samples, np.full(samples.shape[1], 1 / samples.shape[1], np.float32))


def _mean(samples: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(T,) weighted sum; on the disk where the samples are."""
    if not isinstance(samples, np.memmap):
        return (samples * weights).sum(axis=1, dtype=np.float32)
    with tempfile.TemporaryFile() as scratch:
        for block in _blocks(samples, BLOCK):
            scratch.write((block * weights).sum(axis=1, dtype=np.float32).tobytes())
        scratch.flush()
        return np.memmap(scratch, np.float32, mode="r")


def _correlations(samples: np.ndarray, loudest: int) -> np.ndarray:
    """(C,) correlation with the loudest channel in the window in which it is nearest to 0; windows that are quiet in both are left out."""
    products, powers = [], []
    starts = [*range(0, len(samples) - WINDOW, WINDOW), max(len(samples) - WINDOW, 0)]  # the last one flush with the end
    for block in _stretches(samples, starts, WINDOW):
        centred = block - block.mean(axis=0, dtype=np.float64)
        products.append(centred.T @ centred[:, loudest])
        powers.append(np.square(centred).sum(axis=0))
    power, product = np.array(powers), np.array(products)
    both = np.maximum(power, power[:, [loudest]])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.nan_to_num(product / np.sqrt(power * power[:, [loudest]]))
    found[both < power.max() * 10 ** (-QUIET_DB / 10)] = np.nan
    magnitude = np.where(np.isnan(found), np.inf, np.abs(found))
    least = magnitude.argmin(axis=0)
    value = found[least, np.arange(found.shape[1])]
    # one channel that is inverted here and not there is alike nowhere
    turned = (np.nanmax(found, axis=0) > 0) & (np.nanmin(found, axis=0) < 0)
    return np.where(turned, 0.0, np.nan_to_num(value, nan=1.0))


def _blocks(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    size = max(size // samples.shape[1], SAMPLE_RATE)
    yield from _stretches(samples, range(0, len(samples), size), size)


def _stretches(samples: np.ndarray, starts: Iterable[int], size: int) -> Iterator[np.ndarray]:
    for first in starts:
        yield np.asarray(samples[first : first + size])
        if isinstance(samples, np.memmap):  # what was looked at need not stay in memory
            samples._mmap.madvise(mmap.MADV_DONTNEED)  # pyright: ignore[reportAttributeAccessIssue]
