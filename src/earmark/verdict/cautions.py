"""Why a verdict may be worth less than it looks: what the model hears badly, or has never heard."""

from collections.abc import Iterator

import numpy as np

from earmark.audio.decode import SAMPLE_RATE, Origin
from earmark.audio.quality import find_bandwidth, frame_levels, sounding
from earmark.features.recording import Recording
from earmark.system import System
from earmark.verdict.answer import Caution

SILENCE_DB = 40.0  # below the loudest twentieth of the frames


def find_cautions(recording: Recording, origin: Origin, distance: float, system: System) -> list[Caution]:
    """All that apply; the thresholds are those of `verdict` in the model's params."""
    return list(_find(recording, origin, distance, system))


def _find(recording: Recording, origin: Origin, distance: float, system: System) -> Iterator[Caution]:
    limits, seconds = system.params.verdict, recording.heard / SAMPLE_RATE
    if seconds < limits.short_seconds:
        yield Caution(code="short", text=f"{seconds:.1f} s are little to judge from; it is repeated to fill a window")
    if origin.clipped >= limits.clipped_share:
        yield Caution(code="clipped", text=f"{origin.clipped:.2%} of the samples are clipped")
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
