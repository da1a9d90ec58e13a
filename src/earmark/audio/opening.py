"""Containers opened through FFmpeg (PyAV), and the sound tracks in them."""

import errno
from collections.abc import Iterator
from typing import Any, BinaryIO

import av

from earmark import InputError
from earmark.audio.claim import Claim, Mended
from earmark.audio.sound import Track

FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "avr", "caf", "dsf", "dss", "dts", "eac3", "flac", "flv", "iff", "ircam",
    "loas", "matroska", "mov", "mp3", "mp4", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "ogg", "oma", "qcp", "rm", "sox", "tak",
    "tta", "voc", "w64", "wav", "webm", "wtv", "wv", "xwma",
)  # fmt: skip # no lists of other files (concat, HLS, DASH, SDP, image2), and none whose rate nothing states


PROTECTED = ("drms", "drmi", "enca")  # MP4's codings of encrypted sound, which FFmpeg decodes to noise


def open_container(file: BinaryIO, claim: Claim, link: int = 0) -> Any:
    """An input container of these bytes alone: no name, no address and no other file is ever opened for it."""
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none"}
    try:
        return av.open(Mended(file, claim, link), options=options, metadata_errors="ignore")
    except MemoryError:
        raise
    except Exception as error:  # whatever a demuxer raises is of this file
        if claim.missing:
            raise InputError(cut(claim)) from error
        if claim.seconds == 0:
            raise InputError("zero samples") from error
        raise InputError(f"no decoder reads it ({reason(error)})") from error


def reason(error: Exception) -> str:
    """What FFmpeg says, without numbers and names of its own."""
    if getattr(error, "errno", None) == errno.EINVAL:  # what it says of a format that is not on the list
        return "it is of a kind that is not read here"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def tracks_of(container: Any, claim: Claim) -> Iterator[Track]:
    """The sound tracks of a container, each with why it cannot be heard, if so."""
    for number, stream in enumerate(container.streams.audio, start=1):
        said = claim.codings[number - 1].strip() if number <= len(claim.codings) else ""
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        language = stream.metadata.get("language") if stream.metadata.get("language") != "und" else None
        if said in PROTECTED:
            yield Track(number, said, seconds=seconds, reason="its sound is encrypted (DRM): record or export it without protection first")
        elif stream.codec_context is None:
            yield Track(number, said or "unknown", seconds=seconds, language=language, reason=f"no decoder for {said or 'its coding'}")
        else:
            context = stream.codec_context
            yield Track(number, context.name, context.sample_rate or 0, context.channels or 0, seconds, language)


def cut(claim: Claim) -> str:
    """The refusal of a file that breaks off."""
    return f"truncated: {claim.stated - claim.missing:,} of {claim.stated:,} bytes are there; fetch the file again"
