"""Any recording that FFmpeg can read → 16 kHz float32, decoded in a worker process. Shapes: T samples at 16 kHz, C channels."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from earmark import InputError
from earmark.audio import channels, worker
from earmark.audio.sound import MIN_SAMPLES, SAMPLE_RATE, Decoded, Track
from earmark.params.decoding import DecodingParams
from earmark.storage.printable import printable

__all__ = ["MIN_SAMPLES", "SAMPLE_RATE", "SilentError", "decoded", "normalise_level", "probe", "read", "tile"]


class SilentError(InputError):
    """A recording whose every sample is zero."""


def read(path: Path | str, decoding: DecodingParams) -> tuple[np.ndarray, Decoded]:
    """Decode a recording to (T,) float32 at 16 kHz: channels that are alike as one, an inverted one turned round, others as their mean.

    Errors: InputError as `decoded`.
    """
    with decoded(Path(path), decoding) as (samples, found):
        heard = channels.voices(samples, channels.describe(samples), decoding.channel_correlation)
        return np.array(heard[0].samples if len(heard) == 1 else channels.mean(samples)), found


@contextmanager
def decoded(path: Path, decoding: DecodingParams, track: int | None = None) -> Iterator[tuple[np.ndarray, Decoded]]:
    """(T, C) float32 at 16 kHz of a track, mapped from scratch space that is gone afterwards, and what was heard of the file.

    Without `track` the first that is not silent. Errors: InputError naming the file when it is missing, no audio, truncated, too short,
    silent, not finite, more damaged than `decoding.max_lost_share`, ends or stalls its decoder, or does not fit into scratch space.
    """
    try:
        scratch = tempfile.TemporaryFile()  # noqa: SIM115 - entered below
    except OSError as error:
        raise InputError(f"{path}: there is no place to decode it into ({error.strerror}): set TMPDIR") from error
    with scratch:
        try:
            found = _decode(path, scratch, decoding, track)
        except OSError as error:
            place = f"cannot be decoded into {tempfile.gettempdir()} ({error.strerror})"
            raise InputError(f"{path}: {place}: set TMPDIR to a larger place") from error
        yield np.memmap(scratch, np.float32, mode="r").reshape(-1, found.channels), found


def _decode(path: Path, sink: BinaryIO, decoding: DecodingParams, track: int | None) -> Decoded:
    answer = _ask(path, sink, decoding, track)
    found = Decoded(**answer | {"tracks": [_track(one) for one in answer["tracks"]], "clock": [tuple(one) for one in answer["clock"]]})
    if not any(found.peaks):
        raise SilentError(f"{path}: silent from end to end")
    sink.seek(0)
    return found


def _track(found: dict[str, Any]) -> Track:
    """A track as the worker describes it; what the file says of it itself is text that anybody may have written."""
    track = Track(**found)
    language, reason = (text and printable(text) for text in (track.language, track.reason))
    return replace(track, coding=printable(track.coding), language=language, reason=reason)


def _ask(path: Path, sink: BinaryIO | None, decoding: DecodingParams, track: int | None = None) -> dict[str, Any]:
    wanted = {"lost_share": decoding.max_lost_share, "hours": decoding.max_hours, "track": track}
    return worker.ask(path, wanted, sink and sink.fileno(), decoding.memory_mb, decoding.stall_seconds)


def probe(path: Path | str, decoding: DecodingParams) -> tuple[float, str]:
    """Seconds, as the header states them or else counted, and the content's digest. Errors: InputError as `decoded`."""
    seconds = _ask(Path(path), None, decoding)["seconds"]
    with open(path, "rb") as file:
        return seconds, hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def normalise_level(waveform: np.ndarray, level_dbfs: float) -> np.ndarray:
    """Scale (T,) to an RMS of `level_dbfs`: level alone tells bona fide from spoof in real corpora, so it is taken away."""
    rms = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    return waveform * np.float32(10 ** (level_dbfs / 20) / rms)


def tile(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a (T,) waveform shorter than `samples` until it has exactly that many; a longer one is returned as it is."""
    return waveform if len(waveform) >= samples else np.resize(waveform, samples)
