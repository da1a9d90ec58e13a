"""Any recording that libsndfile or FFmpeg can read → 16 kHz mono float32. Shapes: T samples, C channels."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
import soundfile as sf
import soxr
from av.error import FFmpegError

from earmark import InputError

SAMPLE_RATE = 16_000  # Hz; the rate that wav2vec 2.0 was trained at and that every kernel here assumes
MIN_SAMPLES = SAMPLE_RATE // 20  # 50 ms: less holds no phone and no level worth normalising
FULL_SCALE, RUN = 0.999, 3  # one sample at full scale is chance, three in a row are a cut-off peak
PROTECTED = ("drms", "drmi", "enca")  # MP4's tags of encrypted sound, which FFmpeg decodes to noise
BLOCK_FRAMES = 1 << 20  # frames decoded at a time, so that many channels never lie in memory together


class SilentError(InputError):
    """A recording whose every sample is zero."""


class Form(NamedTuple):
    """How a file stores its audio: samples a second, container (WAV, FLAC, MP3), coding of the samples (PCM_16, VORBIS)."""

    rate: int
    container: str
    coding: str


class Origin(NamedTuple):
    """Where samples came from: the file's own rate in Hz, the decoder that read it, and the share of its samples that are clipped."""

    rate: int
    decoder: str
    clipped: float


def read(path: Path | str) -> tuple[np.ndarray, Origin]:
    """Decode a recording to (T,) float32 at 16 kHz, mean of its channels. Errors: InputError as `spool`."""
    memory = io.BytesIO()
    origin = spool(path, memory)
    return np.frombuffer(memory.getbuffer(), np.float32), origin


def spool(path: Path | str, sink: BinaryIO) -> Origin:
    """Decode a recording of any length block by block into `sink`: raw float32 at 16 kHz, mean of its channels.

    FFmpeg (PyAV) reads only what libsndfile refuses; on lossless files both give the same samples to the bit.
    Errors: InputError naming the file when it is missing, no audio, truncated, too short, silent or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    start = sink.tell()
    try:
        rate, clipped = _pour(path, _libsndfile_blocks(path), sink)
        return Origin(rate, "libsndfile", clipped)
    except sf.LibsndfileError as refusal:
        sink.seek(start)
        sink.truncate()
        rate, clipped = _pour(path, _ffmpeg_blocks(path, refusal), sink)
        return Origin(rate, "ffmpeg", clipped)


def _pour(path: Path, blocks: Iterator[tuple[np.ndarray, int]], sink: BinaryIO) -> tuple[int, float]:
    """Check and resample (block, rate) pairs into `sink`; return their rate, and the share of samples that are clipped."""
    samples, clipped, peak, rate, resampler = 0, 0, 0.0, SAMPLE_RATE, None
    for block, rate in blocks:
        if not np.isfinite(block).all():
            raise InputError(f"{path}: holds NaN or infinite samples")
        samples, clipped, peak = samples + len(block), clipped + _count_clipped(block), max(peak, float(np.abs(block).max(initial=0)))
        if rate != SAMPLE_RATE:
            resampler = resampler or soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
            block = resampler.resample_chunk(block)
        sink.write(block.tobytes())
    if resampler:
        sink.write(resampler.resample_chunk(np.zeros(0, np.float32), last=True).tobytes())
    if not samples:
        raise InputError(f"{path}: zero samples")
    if samples * SAMPLE_RATE < MIN_SAMPLES * rate:
        raise InputError(f"{path}: too short: {samples} samples at {rate} Hz, at least {MIN_SAMPLES / SAMPLE_RATE:.2f} s are needed")
    if not peak > 0:
        raise SilentError(f"{path}: silent from end to end")
    return rate, clipped / samples


def _count_clipped(waveform: np.ndarray) -> int:
    """Samples of a (T,) waveform that stand at full scale in runs."""
    full = np.abs(waveform) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= RUN].sum())


def describe(path: Path | str) -> Form:
    """What the header says of a file's form. Errors: InputError as `read`."""
    try:
        info = sf.info(path)
        return Form(info.samplerate, info.format, info.subtype)
    except sf.LibsndfileError as refusal:
        return _open_ffmpeg(Path(path), refusal)[1]


def probe(path: Path | str) -> tuple[float, str]:
    """Seconds that the header states (0 where it states none) and the content's digest. Errors: InputError as `read`."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if not content:
        raise InputError(f"{path}: empty file")
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    try:
        return sf.info(io.BytesIO(content)).duration, digest
    except sf.LibsndfileError as refusal:
        return _open_ffmpeg(path, refusal)[0], digest


def normalise_level(waveform: np.ndarray, level_dbfs: float) -> np.ndarray:
    """Scale (T,) to an RMS of `level_dbfs`: level alone tells bona fide from spoof in real corpora, so it is taken away."""
    rms = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    return waveform * np.float32(10 ** (level_dbfs / 20) / rms)


def tile(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a (T,) waveform shorter than `samples` until it has exactly that many; a longer one is returned as it is."""
    return waveform if len(waveform) >= samples else np.resize(waveform, samples)


def _libsndfile_blocks(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    with sf.SoundFile(path) as file:
        found = 0
        for block in file.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True):
            found += len(block)
            yield (block[:, 0] if file.channels == 1 else block.mean(axis=1)), file.samplerate
        if found < file.frames:
            raise InputError(f"{path}: truncated: {found} of {file.frames} frames can be read; fetch the file again")
        _check_riff_size(path)


def _check_riff_size(path: Path) -> None:
    """Refuse a WAV shorter than its header says, which libsndfile reads without a word; streamed ones leave the size open."""
    with path.open("rb") as file:
        head = file.read(8)
    there, stated = path.stat().st_size, int.from_bytes(head[4:], "little") + 8
    if head[:4] == b"RIFF" and there + 1024 < stated < 0x7FFF_F000:  # some writers miscount by a chunk header
        raise InputError(f"{path}: truncated: {there} of {stated} bytes are there; fetch the file again")


def _open_ffmpeg(path: Path, refusal: Exception) -> tuple[float, Form]:
    """Seconds and form that FFmpeg finds in the header."""
    try:
        with av.open(str(path)) as container:
            if container.streams.audio:
                stream = _unprotected(path, container.streams.audio[0])
                return (container.duration or 0) / av.time_base, Form(stream.rate, container.format.name, stream.codec_context.name)
    except (FFmpegError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no decoder reads it (libsndfile: {refusal}; FFmpeg: {error})") from error
    raise InputError(f"{path}: holds no audio stream")


def _unprotected(path: Path, stream: av.AudioStream) -> av.AudioStream:
    if stream.codec_context.codec_tag in PROTECTED:
        raise InputError(f"{path}: its sound is encrypted (DRM): record or export it without protection first")
    return stream


def _ffmpeg_blocks(path: Path, refusal: Exception) -> Iterator[tuple[np.ndarray, int]]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path}: holds no audio stream")
            stream, found = _unprotected(path, container.streams.audio[0]), 0
            for frame in container.decode(stream):
                block = _mono(frame)
                found += len(block)
                yield block, stream.rate
            stated = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            if found < (stated - 0.1) * stream.rate:
                raise InputError(f"{path}: truncated: {found / stream.rate:.2f} of {stated:.2f} s can be read; fetch the file again")
    except (FFmpegError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no decoder reads it (libsndfile: {refusal}; FFmpeg: {error})") from error


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """Mean over the channels of one FFmpeg frame, (frames,) float32, integers scaled as libsndfile scales them."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32 if samples.dtype == np.int16 else np.float64) / float(1 << (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32).T.mean(axis=1)
