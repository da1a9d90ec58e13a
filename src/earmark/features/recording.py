"""One recording of any length, read like stored features, in memory that does not grow with it.

It is decoded once into a scratch file; waveform and CQT are made of that when they are asked for, with the very steps of `shards`.
Shapes: T samples at 16 kHz, K CQT bins, F frames.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from earmark import InputError
from earmark.audio import channels
from earmark.audio.channels import Channel, Voice
from earmark.audio.decode import SAMPLE_RATE, SilentError, decoded, tile
from earmark.audio.sound import Decoded
from earmark.features.cqt import Cqt
from earmark.features.shards import INT16
from earmark.params import AudioParams, DecodingParams

WHOLE = "recording"  # utterance_id of all of it
BLOCK = 960_000  # samples looked at together: a minute, whole frames of any kind
FRAMES = 3000  # a minute of CQT is computed at once
MARGIN = 100  # frames on either side that can change a frame: the longest kernel and the tails of the decimation filters


class Recording:
    """(T,) samples as one utterance, or as several: see `cut`. Serves as `Stored`."""

    def __init__(
        self,
        samples: np.ndarray,
        audio: AudioParams,
        transform: Cqt,
        clock: Sequence[tuple[int, float]] = ((0, 0.0),),
        channel: int | None = None,
    ):
        self.heard = len(samples)  # without what is repeated to fill a clip
        self.channel = channel  # of the file, from 1 on; None where all its channels are heard as one
        self.jumps, self.times = (
            np.array(part) for part in zip(*clock, strict=True)
        )  # samples at which the file's time jumps, and to where
        self.raw, self.transform = tile(samples, audio.clip_samples), transform
        power = sum(float(np.square(block, dtype=np.float64).sum()) for block in self.blocks()) / len(self.raw)
        self.peak, self.rms = max(float(np.abs(block).max()) for block in self.blocks()), float(np.sqrt(power))
        self.gain = np.float32(10 ** (audio.level_dbfs / 20) / self.rms)
        self.scale = np.float32(np.float32(self.peak) * self.gain / INT16)
        self._cached: dict[int, np.ndarray] = {}
        self.index = _index({WHOLE: (0, len(self.raw))})

    def blocks(self) -> Iterator[np.ndarray]:
        """All samples as they were decoded, a block at a time."""
        yield from (self.raw[first : first + BLOCK] for first in range(0, len(self.raw), BLOCK))

    def seconds(self, samples: np.ndarray, end: bool = False) -> np.ndarray:
        """(n,) samples → (n,) seconds of the file; with `end` those at which what lies before them ends, which a gap may follow."""
        place = np.maximum(np.searchsorted(self.jumps, samples, "left" if end else "right") - 1, 0)
        return self.times[place] + (samples - self.jumps[place]) / SAMPLE_RATE

    def cut(self, stretches: dict[str, tuple[int, int]]) -> "Recording":
        """The same samples as several utterances: stretches (first sample, samples) by name; the first sample lies on a frame."""
        other = copy.copy(self)
        other.index = _index(stretches)
        return other

    @property
    def usable(self) -> pd.DataFrame:
        """All parts."""
        return self.index

    def fingerprint(self, number: int) -> str:
        """Features made of it are never kept."""
        return WHOLE

    def waveform(self, utterance: str, start: int = 0, samples: int | None = None) -> np.ndarray:
        """(samples,) float32 from sample `start` of a part on, at the level of params."""
        row = self.index.loc[utterance]
        stop = int(row["samples"]) if samples is None else min(start + samples, int(row["samples"]))
        return self._level(int(row["sample_start"]) + start, int(row["sample_start"]) + stop)

    def cqt(self, utterance: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """(2, K, frames) float32 from frame `start` of a part on: log-magnitude and phase."""
        hop = self.transform.params.hop_samples
        row = self.index.loc[utterance]
        whole = int(row["samples"]) // hop + 1
        first = int(row["sample_start"]) // hop + start
        last = int(row["sample_start"]) // hop + (whole if frames is None else min(start + frames, whole))
        pieces = []
        for number in range(first // FRAMES, (last - 1) // FRAMES + 1):
            offset = number * FRAMES
            pieces.append(self._minute(number)[max(first - offset, 0) : last - offset])
        return np.concatenate(pieces).astype(np.float32).transpose(1, 2, 0)

    def _level(self, start: int, stop: int) -> np.ndarray:
        """Samples as a shard would give them back: brought to the level of params, and through 16 bits."""
        leveled = self.raw[start:stop] * self.gain
        return np.rint(leveled * (1 / self.scale)).astype(np.int16).astype(np.float32) * self.scale

    def _minute(self, number: int) -> np.ndarray:
        """(≤ FRAMES, 2, K) float16 frames from number · FRAMES on; the last two asked for are kept."""
        if number not in self._cached:
            hop, first = self.transform.params.hop_samples, number * FRAMES
            begin = max(first - MARGIN, 0)
            samples = torch.from_numpy(self._level(begin * hop, min((first + FRAMES + MARGIN) * hop, len(self.raw))))
            frames = self.transform(samples[None])[0].permute(2, 0, 1).half().numpy()
            self._cached = dict([*list(self._cached.items())[-1:], (number, frames[first - begin : first - begin + FRAMES])])
        return self._cached[number]


def _index(stretches: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """A row a stretch, by name."""
    starts, samples = zip(*stretches.values(), strict=True)
    rows = {"utterance_id": list(stretches), "sample_start": starts, "samples": samples, "shard": 0, "error": None}
    return pd.DataFrame(rows).set_index("utterance_id")


class Several:
    """Recordings as `Utterances`, named by their places among them, from "0" on."""

    def __init__(self, recordings: Sequence[Recording]):
        self.recordings = {str(number): recording for number, recording in enumerate(recordings)}
        self.index = pd.DataFrame({"samples": [len(recording.raw) for recording in recordings]}, index=list(self.recordings))

    def waveform(self, utterance: str, start: int = 0, samples: int | None = None) -> np.ndarray:
        """As of `Recording`."""
        return self.recordings[utterance].waveform(WHOLE, start, samples)

    def cqt(self, utterance: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """As of `Recording`."""
        return self.recordings[utterance].cqt(WHOLE, start, frames)


class Opened(NamedTuple):
    """A file opened for judgement: its voices as recordings, the decoder's account, and a row a channel."""

    recordings: list[Recording]
    found: Decoded
    channels: list[Channel]


@contextmanager
def open_recordings(
    path: Path, decoding: DecodingParams, audio: AudioParams, transform: Cqt, track: int | None = None, channel: int | None = None
) -> Iterator[Opened]:
    """Decode a file into scratch space that is gone afterwards: channels that are alike as one recording, others as one each.

    `track` and `channel` count from 1 and name what is to be heard. Errors: InputError as `decoded`, or when there is no such channel.
    """
    with decoded(path, decoding, track) as (samples, found):
        rows = channels.describe(samples)
        if channel is None:
            heard = channels.voices(samples, rows, decoding.channel_correlation)
        elif not 1 <= channel <= len(rows):
            raise InputError(f"{path}: has no channel {channel}: it has {len(rows)}")
        elif rows[channel - 1].level_dbfs is None:
            raise SilentError(f"{path}: channel {channel} is silent from end to end")
        else:
            heard = [Voice(channel, samples[:, channel - 1])]
        yield Opened([Recording(one.samples, audio, transform, found.clock, one.channel) for one in heard], found, rows)
