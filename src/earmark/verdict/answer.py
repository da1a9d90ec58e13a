"""The verdict on a recording, in the published form of `earmark check --json`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from earmark.model.calibration import Decision

SCHEMA = 2  # raised when a field changes its meaning or goes; a field that comes leaves it as it is


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceShare(_Part):
    """A source and how probable it is, if the recording is a spoof."""

    source: str
    probability: float


class Nearest(_Part):
    """A training source and how near its mean embedding is."""

    source: str
    cosine: float


class SourceAnswer(_Part):
    """Which system made it, if it is a spoof."""

    answer: str = Field(description="the likeliest source, or `unseen source`")
    unseen: bool = Field(description="whether ood_score lies above dev's threshold")
    unseen_probability: float = Field(description="that of a source never heard, held as likely as all known ones together beforehand")
    ood_score: float = Field(description="higher = more likely a source never heard")
    sources: list[SourceShare] = Field(description="known sources, the likeliest first")
    conformal_set: list[str] = Field(description="known sources that cannot be ruled out; empty: none of them")
    enrolled: str | None = Field(description="the enrolled source that claims it")
    nearest: list[Nearest] = Field(description="training sources whose mean embeddings are nearest")
    seconds: float = Field(description="how much of the recording this was said from")


class Window(_Part):
    """A window of the timeline."""

    start: float = Field(description="seconds")
    end: float = Field(description="seconds")
    llr: float
    decision: Decision


class SpoofedPart(_Part):
    """A stretch that sounds spoofed: as low an llr as few bona fide recordings have anywhere."""

    start: float = Field(description="seconds")
    end: float = Field(description="seconds")
    llr: float = Field(description="the least of any moment in it")


class Caution(_Part):
    """Why the verdict may be worth less."""

    code: Literal[
        "short", "clipped", "narrow_band", "silence", "unlike_training", "damaged", "gaps", "unfinished", "rates", "tracks", "channels"
    ]
    text: str


class TrackOfFile(_Part):
    """A sound track of the file."""

    number: int = Field(description="from 1 on, as `--track` takes it")
    coding: str
    sample_rate: int | None = Field(description="Hz")
    channels: int | None
    seconds: float | None = Field(description="as the file says")
    language: str | None
    error: str | None = Field(description="why it cannot be heard")


class ChannelOfTrack(_Part):
    """A channel of the track that was judged."""

    number: int = Field(description="from 1 on, as `--channel` takes it")
    level_dbfs: float | None = Field(description="RMS; null: silent")
    correlation: float | None = Field(description="with the loudest channel, in the 4 s in which it is least; null: the loudest, or silent")


class Gap(_Part):
    """A stretch of the file that has no sound."""

    start: float = Field(description="seconds")
    end: float = Field(description="seconds")


class Model(_Part):
    """Which model said so."""

    digest: str = Field(description="SHA-256 of its manifest, and so of all its files")
    version: str = Field(description="of earmark that packaged it")
    commit: str | None
    params: str = Field(description="SHA-256 of its settings")
    place: str = Field(description="where it was loaded from")


class Verdict(_Part):
    """A recording's verdict. Orientation: higher cm_score and llr are more bona fide."""

    schema_version: Literal[2] = SCHEMA
    file: str
    sha256: str
    seconds: float = Field(description="of sound that were judged")
    start: float = Field(description="second of the file at which its sound begins; all times are those of the file")
    gaps: list[Gap] = Field(description="where the file's time goes on without sound")
    lost_seconds: float = Field(description="of sound that is damaged and was not heard")
    sample_rate: int = Field(description="Hz, of the file; the first, where it changes")
    decoder: str
    track: int = Field(description="that was judged")
    tracks: list[TrackOfFile]
    channel: int | None = Field(description="that was judged; null: all that sound, as their mean")
    channels: list[ChannelOfTrack]
    decision: Decision
    probability_of_spoof: float = Field(description="posterior under prior_of_spoof")
    prior_of_spoof: float
    llr: float = Field(description="natural log of p(score | bona fide) / p(score | spoof), calibrated on dev")
    cm_score: float = Field(description="mean over windows of logit(bona fide) − logit(spoof)")
    spoof_below: float = Field(description="llr up to which a recording is called spoof, at this prior")
    bonafide_above: float = Field(description="llr from which on a recording is called bona fide, at this prior")
    spoofed_parts: list[SpoofedPart]
    source: SourceAnswer | None = Field(description="null: the model traces no sources")
    distance: float = Field(description="Mahalanobis distance to training's embeddings")
    cautions: list[Caution]
    timeline: list[Window]
    model: Model


class Failure(_Part):
    """A file, or what lies in a folder beside recordings, that got no verdict."""

    schema_version: Literal[2] = SCHEMA
    file: str
    error: str
    left_out: bool = Field(False, description="it lies in a folder and is no recording, so that it was never tried")
