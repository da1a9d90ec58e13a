"""The one pass over the audio: every file is decoded once, and what the checks ask of it goes into a table, a row an utterance."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from earmark import InputError
from earmark.audio.decode import SAMPLE_RATE, SilentError, read
from earmark.audio.quality import FRAME, decibels, find_bandwidth, frame_levels, sounding
from earmark.doctor.fingerprint import Print, fingerprint
from earmark.params.decoding import DecodingParams


@dataclass(frozen=True)
class Examination:
    """What was found in one file; figures are NaN where it cannot be decoded, digest and fingerprint empty.

    `silence` shares and seconds count frames `silence_db` below `active_dbfs`, the loudest twentieth.
    """

    error: str | None = None
    digest: str = ""
    words: bytes = b""
    active: bytes = b""
    level_dbfs: float = np.nan
    peak_dbfs: float = np.nan
    active_dbfs: float = np.nan
    leading_silence: float = np.nan
    trailing_silence: float = np.nan
    silence_share: float = np.nan
    duration: float = np.nan
    bandwidth_hz: float = np.nan
    clipped: float = np.nan
    rate: str | None = None
    container: str | None = None
    coding: str | None = None


def examine_all(paths: Sequence[str], silence_db: float, decoding: DecodingParams, threads: int | None = None) -> pd.DataFrame:
    """Examine files in threads, in their order; a path that occurs twice is decoded once. Returns a row a path."""
    unique = list(dict.fromkeys(paths))
    with Progress(console=Console(stderr=True)) as progress, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        task = progress.add_task("examine audio", total=len(unique))
        work = pool.map(lambda path: examine(path, silence_db, decoding), unique)
        found = dict(zip(unique, [progress.advance(task) or one for one in work], strict=True))
    table = pd.DataFrame([asdict(found[path]) for path in paths], columns=list(Examination.__dataclass_fields__))
    return table.astype(dict.fromkeys(("error", "rate", "container", "coding"), "str"))


def examine(path: str, silence_db: float, decoding: DecodingParams) -> Examination:
    """Examine one file; what is wrong with one that cannot be used stands in `error`."""
    try:
        sound, found = read(path, decoding)
    except SilentError as error:
        return Examination(error=str(error), active_dbfs=-np.inf)
    except InputError as error:
        return Examination(error=str(error))
    words, active = fingerprint(sound).pack()
    return replace(
        measure(sound, silence_db),
        digest=hashlib.blake2b(sound.tobytes(), digest_size=16).hexdigest(),
        words=words,
        active=active,
        duration=len(sound) / SAMPLE_RATE,
        clipped=max(found.clipped),
        rate=str(found.rates[0]),
        container=found.container,
        coding=found.coding,
    )


def prints(table: pd.DataFrame) -> list[Print]:
    """Fingerprints of examined files."""
    return [Print.unpack(words, active) for words, active in zip(table["words"], table["active"], strict=True)]


def measure(waveform: np.ndarray, silence_db: float) -> Examination:
    """Level, silence and bandwidth of a (T,) waveform at 16 kHz."""
    levels = frame_levels(waveform)
    speech = np.flatnonzero(sounding(levels, silence_db))
    return Examination(
        level_dbfs=float(decibels(np.square(waveform, dtype=np.float64).mean())),
        peak_dbfs=float(decibels(np.square(np.abs(waveform).max(), dtype=np.float64))),
        active_dbfs=float(np.percentile(levels, 95)),
        leading_silence=float(speech[0]) * FRAME / SAMPLE_RATE,
        trailing_silence=float(len(levels) - 1 - speech[-1]) * FRAME / SAMPLE_RATE,
        silence_share=1 - len(speech) / len(levels),
        bandwidth_hz=find_bandwidth([waveform]),
    )
