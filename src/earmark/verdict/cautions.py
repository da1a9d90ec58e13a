"""Why a verdict may be worth less than it looks: what the model hears badly, or has never heard."""

from collections.abc import Iterable, Iterator

import numpy as np

from earmark.audio.channels import UNUSED_DB, Channel, in_use
from earmark.audio.decode import SAMPLE_RATE
from earmark.audio.quality import find_bandwidth, frame_levels, sounding
from earmark.audio.sound import Decoded, Track
from earmark.features.recording import Opened, Recording
from earmark.model.system import System
from earmark.report.clock import clock
from earmark.verdict.answer import Caution

SHOWN = 3  # gaps that are named
SILENCE_DB = 40.0  # below the loudest twentieth of the frames


def find_cautions(recording: Recording, opened: Opened, distance: float, system: System) -> list[Caution]:
    """Cautions that apply, by the thresholds of `verdict` in the model's params."""
    return [*_of_file(opened, recording), *_of_sound(recording, opened.found, distance, system)]


def gaps(found: Decoded) -> list[tuple[float, float]]:
    """(start, end) in seconds of the file of each stretch without sound."""
    pairs = zip(found.clock, found.clock[1:], strict=False)
    return [(start + (sample - before) / SAMPLE_RATE, end) for (before, start), (sample, end) in pairs]


def _of_file(opened: Opened, recording: Recording) -> Iterator[Caution]:
    """What the file holds beside what was judged, and what of it is not there."""
    found = opened.found
    if found.lost:
        share = found.lost / (found.lost + found.seconds)
        yield Caution(code="damaged", text=f"{found.lost:.2f} s of it ({share:.1%}) are damaged and were not heard")
    if missing := gaps(found):
        total = sum(end - start for start, end in missing)
        places = ", ".join(f"{clock(start)}–{clock(end)}" for start, end in missing[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        yield Caution(code="gaps", text=f"{total:.2f} s of the file have no sound ({places})")
    if found.unfinished:
        yield Caution(code="unfinished", text=f"{found.unfinished}: it was read to its end, and may have been longer")
    if len(found.rates) > 1:
        yield Caution(code="rates", text=f"its sample rate changes: {', '.join(map(str, found.rates))} Hz")
    if len(found.tracks) > 1:
        others = ", ".join(_say_track(one) for one in found.tracks if one.number != found.track)
        yield Caution(code="tracks", text=f"track {found.track} of {len(found.tracks)} was judged; not heard: {others}")
    if text := _say_channels(opened.channels, recording.channel):
        yield Caution(code="channels", text=text)


def _say_track(track: Track) -> str:
    said = ", ".join(str(part) for part in (track.language, track.coding) if part)
    return f"{track.number} ({said}: {track.reason})" if track.reason else f"{track.number} ({said}; --track {track.number})"


def _say_channels(channels: list[Channel], judged: int | None) -> str:
    """What became of channels that were not heard as they are."""
    used, of = in_use(channels), len(channels)
    silent = _list(one for one in channels if one.level_dbfs is None)
    quiet = _list(one for one in channels if one.level_dbfs is not None and one not in used and one.number != judged)
    turned = _list(one for one in used if judged is None and one.correlation is not None and one.correlation < 0)
    said = [f"channel {judged} of {of} was judged by itself"] if judged is not None else []
    said += [f"channel {turned} is another one inverted: it was turned round"] if turned else []
    said += [f"channel {quiet} of {of} was not heard: {UNUSED_DB:.0f} dB or more below the loudest"] if quiet else []
    said += [f"channel {silent} of {of} is silent"] if silent else []
    return "; ".join(said)


def _list(channels: Iterable[Channel]) -> str:
    return ", ".join(str(one.number) for one in channels)


def _of_sound(recording: Recording, found: Decoded, distance: float, system: System) -> Iterator[Caution]:
    limits, seconds = system.params.verdict, recording.heard / SAMPLE_RATE
    if seconds < limits.short_seconds:
        yield Caution(code="short", text=f"{seconds:.1f} s are little to judge from; it is repeated to fill a window")
    clipped = max(found.clipped) if recording.channel is None else found.clipped[recording.channel - 1]
    if clipped >= limits.clipped_share:
        yield Caution(code="clipped", text=f"{clipped:.2%} of the samples are clipped")
    band = find_bandwidth(recording.blocks())
    if band < limits.narrow_hz:
        yield Caution(code="narrow_band", text=f"there is no sound above {band:,.0f} Hz: traces of spoofing that lie there are lost")
    levels = np.concatenate([frame_levels(block) for block in recording.blocks()])
    silent = 1 - float(sounding(levels, SILENCE_DB).mean()) if len(levels) else 0.0
    if silent >= limits.silent_share:
        yield Caution(code="silence", text=f"{silent:.0%} of it is silence")
    if distance > system.conditions.threshold:
        bound = system.conditions.threshold
        yield Caution(
            code="unlike_training", text=f"it is unlike the training recordings: distance {distance:.1f}, usual up to {bound:.1f}"
        )
