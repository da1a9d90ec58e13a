"""One file decoded through FFmpeg (PyAV), packet by packet. Shapes: n samples at the file's rate, T at 16 kHz, C channels.

Runs in a process of its own (`audio.worker`): what others recorded may crash a decoder, and must crash nothing else.
"""

import io
from dataclasses import replace
from typing import Any, BinaryIO

from earmark import InputError
from earmark.audio.containers import examine
from earmark.audio.ear import TABLED, Beat, Ear, NoSoundError, unheard_of
from earmark.audio.opening import open_container, tracks_of
from earmark.audio.sound import Decoded, Limits, Track


def decode(file: BinaryIO, sink: BinaryIO, track: int | None, limits: Limits, beat: Beat = lambda: None) -> Decoded:
    """Write (T, C) float32 at 16 kHz, channels interleaved, of a track to `sink`; without one, of the first that is not silent.

    `beat` is called for every second that was decoded. Errors: InputError, without the file's name, when nothing can be heard, when it is
    cut, or more than `limits.lost_share` of it is damaged.
    """
    claim = examine(file)
    with open_container(file, claim) as container:
        tracks = list(tracks_of(container, claim))
    if not tracks:
        raise InputError("holds no sound track")
    if claim.follows:
        raise InputError(unheard_of(claim.follows))
    tried = [_find_track(tracks, track)] if track else [one for one in tracks if not one.reason] or tracks[:1]
    heard, wrong = None, {}
    for one in tried:
        if one.reason:
            raise InputError(one.reason)
        if heard or wrong:  # of a track before
            sink.seek(0)
            sink.truncate()
        try:
            heard = Ear(file, claim, tracks, one, sink, limits, beat).hear()
        except NoSoundError as error:
            wrong[one.number] = str(error)
            tracks[one.number - 1] = replace(one, reason=str(error))
            continue
        if any(heard.peaks):
            return heard
    if heard is None or wrong:
        reasons = {one.number: wrong.get(one.number, "silent from end to end") for one in tried}
        raise InputError("; ".join(f"track {number}: {why}" for number, why in reasons.items()) if tried[1:] else wrong[tried[0].number])
    return heard


def measure(file: BinaryIO, limits: Limits, beat: Beat = lambda: None) -> float:
    """Seconds of the first track that can be read: as stated where the container states them, else counted. Errors: as `decode`."""
    claim = examine(file)
    with open_container(file, claim) as container:
        tracks = list(tracks_of(container, claim))
        stated = claim.seconds
        if container.format.name.split(",")[0] in TABLED:
            stated = next((one.seconds for one in tracks if not one.reason), None)
        if not any(one.reason is None for one in tracks):
            raise InputError(tracks[0].reason or "" if tracks else "holds no sound track")
    if stated and not claim.missing and not claim.follows and len(claim.links) == 1:
        return stated
    return decode(file, _Nowhere(), None, limits, beat).seconds


class _Nowhere(io.BytesIO):
    """A sink that keeps nothing."""

    def write(self, content: Any) -> int:
        """Forget the bytes."""
        return len(content)


def _find_track(tracks: list[Track], number: int) -> Track:
    if not 1 <= number <= len(tracks):
        raise InputError(f"has no track {number}: it has {len(tracks)}")
    return tracks[number - 1]
