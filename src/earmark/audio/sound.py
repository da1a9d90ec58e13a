"""A decoded recording: its tracks, times and losses. T samples at 16 kHz."""

from dataclasses import dataclass, field

SAMPLE_RATE = 16_000  # Hz; the rate that wav2vec 2.0 was trained at and that every kernel here assumes
MIN_SAMPLES = SAMPLE_RATE // 20  # 50 ms: less holds no phone and no level worth normalising


@dataclass(frozen=True)
class Limits:
    """`lost_share` of a recording that may be damaged, and `hours` of it that may be decoded."""

    lost_share: float = 0.1
    hours: float = 48.0


@dataclass(frozen=True)
class Track:
    """A sound track: from 1 on; `seconds` as the container says, `reason` why it cannot be heard."""

    number: int
    coding: str
    rate: int = 0
    channels: int = 0
    seconds: float | None = None
    language: str | None = None
    reason: str | None = None


@dataclass
class Decoded:
    """What was heard of a file, and what was not.

    `clock` has (sample at 16 kHz, second of the file) wherever the file's time jumps, the first pair for the start; `clipped` and `peaks`
    are a channel's share of samples that stand flat at its peak, and that peak.
    """

    container: str
    coding: str
    track: int
    tracks: list[Track]
    rates: list[int] = field(default_factory=list)
    channels: int = 0
    samples: int = 0
    seconds: float = 0.0
    lost: float = 0.0
    clock: list[tuple[int, float]] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)
    unfinished: str = ""
    decoder: str = ""
