"""Copy-synthesis: recordings analysed and built again by many systems, as labelled spoofs to train a detector on."""

import hashlib
import importlib.util
import io
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
from rich.progress import track
from threadpoolctl import threadpool_limits

from earmark import InputError
from earmark.audio.decode import SAMPLE_RATE, read
from earmark.copies import codecs, imitations, vocoders
from earmark.corpora import folder
from earmark.corpora.checks import locate
from earmark.corpora.prepare import prepare
from earmark.params import CopySynthesisParams, CorpusParams, DecodingParams, TrialsParams
from earmark.storage.files import complete, flat_name, refuse_filled

LOG = logging.getLogger(__name__)
System = Callable[[np.ndarray, np.random.Generator], np.ndarray]
SYSTEMS: dict[str, System] = {
    "world": vocoders.world,
    "world_coded": vocoders.world_coded,
    "griffin_lim_linear": vocoders.griffin_lim_linear,
    "griffin_lim_mel": vocoders.griffin_lim_mel,
    "lpc_vocoder": vocoders.lpc_vocoder,
    "phase_vocoder": vocoders.phase_vocoder,
    "psola": vocoders.psola,
    "sinusoidal": vocoders.sinusoidal,
    "mel_source_filter": vocoders.mel_source_filter,
    "mel_phase_jitter": imitations.mel_phase_jitter,
    "mel_wiener": imitations.mel_wiener,
    "upsampling_images": imitations.upsampling_images,
    "subband_images": imitations.subband_images,
    "mulaw_sampling": imitations.mulaw_sampling,
    "codec_opus": codecs.codec_opus,
    "codec_mp3": codecs.codec_mp3,
    "codec_g723": codecs.codec_g723,
}
NEED_WORLD = ("world", "world_coded")
MARGIN = 1600  # samples mirrored at both ends, so that no system shows at a clip's edges
COLUMNS = ("utterance_id", "path", "key", "source", "speaker", "group", "split", "in_domain", "language", "kind", "copied", "recording")
CARRIED = ("speaker", "group", "split", "language")


@dataclass(frozen=True)
class Job:
    """Copies to make of one recording: `copies` are (system, its random seed, target), `plain` an unchanged 16 kHz copy."""

    utterance_id: str
    path: str
    copies: tuple[tuple[str, int, Path], ...]
    decoding: DecodingParams
    plain: Path | None = None


def list_systems() -> list[str]:
    """Names of the systems that can run here; WORLD needs pyworld."""
    return [name for name in SYSTEMS if name not in NEED_WORLD or importlib.util.find_spec("pyworld")]


def render(system: str, waveform: np.ndarray, seed: int) -> np.ndarray:
    """Copy a recording by a system, at the same length and RMS level; the same seed gives the same samples: (T,) → (T,) float32."""
    padded = np.pad(waveform, MARGIN, mode="reflect" if len(waveform) > MARGIN else "symmetric").astype(np.float32)
    copy = np.asarray(SYSTEMS[system](padded, np.random.default_rng(seed)))[MARGIN : MARGIN + len(waveform)]
    copy = np.pad(copy, (0, len(waveform) - len(copy)))
    level = np.sqrt(np.mean(waveform.astype(np.float64) ** 2)) / (np.sqrt(np.mean(copy.astype(np.float64) ** 2)) + 1e-12)
    return (copy * level).astype(np.float32)


def synthesize_copies(
    corpora: tuple[CorpusParams, ...], trials: TrialsParams, decoding: DecodingParams, copysynthesis: CopySynthesisParams, *, output: Path
) -> dict[str, float]:
    """Make spoofs from the corpora's bona fide recordings: see `synthesize`."""
    table = prepare(corpora, trials.seed, trials.dev_fraction, trials.eval_fraction, trials.max_unreadable)
    recordings = table[(table["key"] == "bonafide") & table["split"].isin(copysynthesis.splits)]
    known, unseen, each = copysynthesis.known, copysynthesis.unseen, copysynthesis.per_utterance
    return {"copies": synthesize(recordings, known, unseen, each, trials.seed, decoding, output)}


def synthesize(
    bonafide: pd.DataFrame,
    known: Sequence[str],
    unseen: Sequence[str],
    per_utterance: int | None,
    seed: int,
    decoding: DecodingParams,
    output: Path,
    workers: int | None = None,
) -> int:
    """Write copies of a protocol's bona fide rows as `output/spoof/<system>/*.flac` and `output/protocol.tsv`; return how many.

    Every recording is copied by `per_utterance` of the known systems in turn (all when None), and in dev and eval by all
    unseen ones too. Rows keep speaker, group, split and language, and are marked `made`. Recordings that cannot be
    decoded are left out, and said. Without systems the protocol has no row.
    Errors: InputError for unknown systems, or when nothing could be made.
    """
    rows = bonafide[bonafide["key"] == "bonafide"]
    if not known and not unseen:
        with complete(output) as aside:
            aside.mkdir()
            _write_protocol([], aside)
        return 0
    _check_systems([*known, *unseen])
    with complete(output) as aside:
        made, _ = _make(rows, _plan(rows, known, unseen, per_utterance, seed), unseen, seed, decoding, aside, workers, keep=False)
        _write_protocol(made, aside)
    return len(made)


def synthesize_folder(
    bonafide: Path,
    output: Path,
    systems: Sequence[str] | None = None,
    per_utterance: int | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Make a corpus that stands alone out of any folder of recordings: 16 kHz copies in `output/bonafide`, spoofs beside them.

    A protocol.tsv in the folder brings speakers, groups and splits. Errors: InputError when the folder has no recordings, or `output`
    holds anything: nobody's files are replaced.
    """
    refuse_filled(output)
    systems = list_systems() if systems is None else list(systems)
    _check_systems(systems)
    rows = _find_recordings(bonafide)
    with complete(output) as aside:
        made, kept = _make(rows, _plan(rows, systems, [], per_utterance, seed), [], seed, DecodingParams(), aside, workers, keep=True)
        _write_protocol([*kept, *(row | {"in_domain": ""} for row in made)], aside)


def _check_systems(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise InputError(f"unknown copy-synthesis system {', '.join(unknown)}: choose of {', '.join(SYSTEMS)}")
    lacking = [name for name in names if name not in list_systems()]
    if lacking:
        raise InputError(f"{', '.join(lacking)} need pyworld: pip install 'earmark[demo]', or leave them out")
    if not names or len(set(names)) < len(names):
        raise InputError("copy-synthesis needs at least one system, and each once: known and unseen ones differ")


def _find_recordings(place: Path) -> pd.DataFrame:
    """Protocol rows of a folder's recordings; each is its own group where none is given, so that copies stay with it."""
    if not place.is_dir():
        raise InputError(f"{place} is no folder: give one of recordings")
    rows = locate(folder.read(place)) if (place / "protocol.tsv").exists() else folder.read_recordings(place)
    rows = rows[rows["key"] == "bonafide"]
    if rows.empty:
        raise InputError(f"{place} has no recordings: give a folder of audio files, or a protocol.tsv with bona fide rows")
    return rows.assign(group=rows["group"].fillna(rows["utterance_id"]))


def _draw(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8], "big")


def _plan(rows: pd.DataFrame, known: Sequence[str], unseen: Sequence[str], per_utterance: int | None, seed: int) -> dict[str, list[str]]:
    """Systems for each utterance: known ones in rotation over a drawn order, within a split, so that all copy equally many."""
    count = len(known) if per_utterance is None else min(per_utterance, len(known))
    plan: dict[str, list[str]] = {}
    for split, part in rows.groupby(rows["split"].fillna("")):
        for place, name in enumerate(sorted(part["utterance_id"], key=lambda name: _draw(name, seed))):
            turn = [known[(place * count + step) % len(known)] for step in range(count)]
            plan[name] = turn + (list(unseen) if split in ("dev", "eval") else [])
    return plan


def _make(
    rows: pd.DataFrame,
    plan: dict[str, list[str]],
    unseen: Sequence[str],
    seed: int,
    decoding: DecodingParams,
    root: Path,
    workers: int | None,
    keep: bool,
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Make all copies below `root`; returns protocol rows of the copies and of the bona fide recordings kept."""
    jobs, made, kept = [], [], []
    for row in rows.astype("object").where(rows.notna(), "").sort_values("utterance_id").to_dict("records"):
        name, carried = str(row["utterance_id"]), {column: str(row[column]) for column in CARRIED}
        jobs.append(_order(name, str(row["path"]), plan[name], seed, decoding, root, keep))
        made += [(name, _describe(name, system, system in unseen) | carried) for system in plan[name]]
        kept += [(name, carried | {"utterance_id": name, "path": f"bonafide/{flat_name(name, '.flac')}", "key": "bonafide", "copied": "0"})]
    failed = _run(jobs, workers)
    if failed:
        LOG.warning("%d recordings cannot be decoded and are left out: %s", len(failed), "; ".join(failed.values()))
    if len(failed) == len(jobs):
        raise InputError(f"none of {len(jobs)} recordings can be copied: {next(iter(failed.values()), 'there are no bona fide rows')}")
    return [row for name, row in made if name not in failed], [row for name, row in kept if name not in failed]


def _order(name: str, path: str, systems: list[str], seed: int, decoding: DecodingParams, root: Path, keep: bool) -> Job:
    copies = tuple((system, _draw(name, system, seed), root / "spoof" / system / flat_name(name, ".flac")) for system in systems)
    return Job(name, path, copies, decoding, root / "bonafide" / flat_name(name, ".flac") if keep else None)


def _describe(name: str, system: str, unseen: bool) -> dict[str, str]:
    row = {"utterance_id": f"{name}-{system}", "path": f"spoof/{system}/{flat_name(name, '.flac')}", "key": "spoof", "source": system}
    return row | {"in_domain": "0" if unseen else "1", "kind": "copysynthesis", "copied": "1", "recording": name}


def _run(jobs: list[Job], workers: int | None) -> dict[str, str]:
    """Do the jobs in processes; returns what was wrong with recordings that cannot be decoded, by utterance id."""
    for place in {path.parent for job in jobs for path in (*(target for _, _, target in job.copies), job.plain) if path}:
        place.mkdir(parents=True, exist_ok=True)
    results = track(_outcomes(jobs, workers or os.cpu_count() or 1), "copy-synthesis", total=len(jobs))
    return {job.utterance_id: wrong for job, wrong in zip(jobs, results, strict=True) if wrong}


def _outcomes(jobs: list[Job], workers: int) -> Iterator[str | None]:
    if min(workers, len(jobs)) <= 1:
        yield from map(copy, jobs)
        return
    # spawned, since a fork of a process with threads (progress bar, torch) may hang
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start) as pool:
        yield from pool.map(copy, jobs, chunksize=4)


def _start() -> None:
    """Begin a worker: there is one a core, so neither torch nor linear algebra needs threads."""
    threadpool_limits(1)


def copy(job: Job) -> str | None:
    """Do one job; returns why the recording cannot be decoded, if so."""
    try:
        waveform, _ = read(Path(job.path), job.decoding)
    except InputError as error:
        return str(error)
    if job.plain:
        write(job.plain, waveform)
    for system, seed, target in job.copies:
        write(target, render(system, waveform, seed))
    return None


def write(path: Path, waveform: np.ndarray) -> None:
    """Write 16-bit FLAC at 16 kHz, turned down where it would clip: (T,)."""
    loudest = float(np.abs(waveform).max())
    memory = io.BytesIO()  # so that a full disk is an OSError, which files.complete explains
    sf.write(memory, waveform / max(1.0, loudest / 0.99), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    path.write_bytes(memory.getvalue())


def _write_protocol(rows: list[dict[str, str]], root: Path) -> None:
    lines = ["\t".join(COLUMNS), *("\t".join(row.get(column) or "-" for column in COLUMNS) for row in rows)]
    (root / "protocol.tsv").write_text("\n".join(lines) + "\n")
