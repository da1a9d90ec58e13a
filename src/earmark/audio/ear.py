"""One track decoded packet by packet: what was heard of it, and when. Shapes: n samples at the file's rate, T at 16 kHz, C channels."""

import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import av
import numpy as np
import soxr
from av.audio.frame import format_dtypes

from earmark import InputError
from earmark.audio.claim import Claim, Mended
from earmark.audio.flat import Flat
from earmark.audio.following import another, unheard, within
from earmark.audio.opening import cut, open_container, reason
from earmark.audio.sound import MIN_SAMPLES, SAMPLE_RATE, Decoded, Limits, Track
from earmark.audio.tags import count_tags

TIMED = ("mov", "matroska", "avi")  # containers whose clock starts at 0; others start anywhere
FRAMED = ("aac", "ac3", "amr", "eac3", "mp3")  # files of frames and nothing else
CLOSED = ("flv", "tta", "voc")  # containers that say where they end, and are read no further
END_MARK = 32  # bytes: they end in one of at most so many
UNBROKEN = ("flac", "ogg")  # containers whose clock never jumps, unless something was lost
CLOCKED = (*TIMED, "asf", "flac", "flv", "mpeg", "mpegts", "mxf", "ogg", "wtv")  # containers that have time stamps at all
TABLED = ("mov", "flac")  # containers whose stated length FFmpeg hands on, and whose last sample has a time to compare it with
LOSSLESS = ("alac", "ape", "flac", "tak", "tta", "wavpack")  # codings whose name does not say how many bits a sample has
FLAC_OPTIONS = {"err_detect": "crccheck+explode"}  # else damage is decoded to noise
SLACK = 0.1  # seconds: writers round, and decoders prime
JUMP = 0.05  # seconds of a time stamp beyond the sound before it that are a gap
MOST_CHANNELS = 64
LOUDEST, FAINTEST = 1e9, 1e-9  # peaks beyond which floats are no samples: no int, however scaled, gets there
Beat = Callable[[], Any]


class NoSoundError(InputError):
    """A track that holds nothing to hear; another one of the file may."""


class Ear:
    """One track on its way to 16 kHz."""

    def __init__(self, file: BinaryIO, claim: Claim, tracks: list[Track], track: Track, sink: BinaryIO, limits: Limits, beat: Beat):
        self.file, self.claim, self.track, self.sink, self.limits, self.beat = file, claim, track, sink, limits, beat
        self.found = Decoded(
            "", track.coding, track.number, tracks, unfinished=claim.unfinished, decoder=f"FFmpeg {av.ffmpeg_version_info}"
        )
        self.rate, self.resampler = 0, None
        self.pending: list[np.ndarray] = []
        self.held = 0  # samples in `pending`
        self.last = 0.0  # seconds of the last frame
        self.time: float | None = None  # of the file, where the next frame should start
        self.shift = 0.0  # what is added to time stamps that went back
        self.joined = False  # whether the next frame is the first of another link
        self.flat: list[Flat] = []
        self.decoder: Any = None  # of the link that is read
        self.heard_at, self.ends_lost = 0, 0.0  # first byte of the last packet that was decoded; seconds of those after it that were not

    def hear(self) -> Decoded:
        """Decode to the end and judge what came. Errors: InputError as `decode`."""
        for link in range(len(self.claim.links)):
            with open_container(self.file, self.claim, link) as container:
                if self.track.number > len(container.streams.audio):
                    raise InputError(f"goes on without track {self.track.number}: cut the file in two and check both")
                stream = container.streams.audio[self.track.number - 1]
                stream.codec_context.thread_count = 1
                if stream.codec_context.name == "flac":
                    stream.codec_context.options = FLAC_OPTIONS
                if stream.codec_context.name in LOSSLESS and stream.codec_context.format:
                    self.found.coding = f"{stream.codec_context.name} {stream.codec_context.format.name}"  # of how many bits
                kind = self.found.container = container.format.name.split(",")[0]
                began = (container.start_time or 0) / av.time_base if kind not in TIMED else 0.0
                # a page that was cut says when packets end that are not there any more
                cut = link in self.claim.cuts or (self.claim.cut_at is not None and link == len(self.claim.links) - 1)
                late = self.claim.late.get(link, 0.0)
                clocked = kind in CLOCKED and not cut and not (late and stream.codec_context.name == "flac")  # whose first stamps are wrong
                self.joined, before = link > 0, self.found.seconds + self.found.lost
                for frame in self._frames(container, stream, link):
                    self._take(frame, frame.time if clocked else None, began)
                if kind == "ogg" and not cut and stream.duration:  # its last page says how long it is, so pages before it are missing
                    end = float(stream.duration * stream.time_base)
                    short = end - (late if end > late else 0.0) - (self.found.seconds + self.found.lost - before)
                    self.found.lost += short if short > SLACK else 0.0
        self._flush(last=True)
        self._finish()
        return self.found

    def _frames(self, container: Any, stream: Any, link: int) -> Iterator[Any]:
        """Frames of a stream; packets that cannot be decoded are counted as lost."""
        file = Mended(self.file, self.claim, link)
        packets, place, size = container.demux(stream), 0, file.seek(0, io.SEEK_END)
        self.decoder = stream.codec_context
        begun, good, kind, before = None, 0, self.found.container, self.found.seconds
        self.heard_at, self.ends_lost = 0, 0.0
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                self._weigh(kind, file, begun, place, size, good, self.found.seconds - before)
                return
            except MemoryError:
                raise
            except Exception as error:  # the container itself is broken here: nothing after it can be found
                if not self.found.seconds:
                    raise InputError(f"no decoder reads it ({reason(error)})") from error
                self.found.lost += self.found.seconds * max(size - place, 0) / max(place, 1)
                return
            place = max(place, (packet.pos or 0) + packet.size)
            begun = packet.pos if begun is None else begun
            try:
                yield from self._decode(packet)
                if packet.size:
                    good, self.heard_at, self.ends_lost = good + packet.size, packet.pos or 0, 0.0
            except (InputError, MemoryError):
                raise
            except Exception:  # one packet of many
                timed = packet.duration and packet.time_base
                self.ends_lost += (gone := float(packet.duration * packet.time_base) if timed else self.last)
                self.found.lost += gone

    def _decode(self, packet: Any) -> list[Any]:
        """Frames of a packet; where a FLAC goes on with samples of other bits, as joined files do, a decoder of its own takes them."""
        try:
            return self.decoder.decode(packet)
        except MemoryError:
            raise
        except Exception:
            if self.decoder.name != "flac":
                raise
        fresh = av.CodecContext.create("flac", "r")
        fresh.thread_count, fresh.options = 1, dict(FLAC_OPTIONS)
        frames = fresh.decode(packet)  # raises where the packet is damaged
        self.decoder = fresh
        return frames

    def _weigh(self, kind: str, file: Any, begun: int | None, place: int, size: int, good: int, seconds: float) -> None:
        """Bytes that no good packet was made of, as seconds at the rate of the others: skipped ones are lost, unread ones refused."""
        if begun is None or not good or not seconds:
            return
        tags = count_tags(file, begun, place) if kind == "mp3" else 0
        skipped = (place - begun - good - tags) * seconds / good
        if kind in FRAMED and skipped > max(self.found.lost, SLACK):
            self.found.lost = skipped
        if kind in CLOSED or kind == "flac":
            follows = within(file, self.heard_at, size) if kind == "flac" else another(file, place, size, END_MARK)
            left = unheard(file, place, size) if kind in CLOSED else 0
            if follows or left * seconds / good > 1.0:
                raise InputError(unheard_of(follows or f"{left:,} bytes"))

    def _take(self, frame: Any, stamp: float | None, began: float) -> None:
        block = _samples(frame)
        if not len(block):
            return
        rate = frame.sample_rate
        if rate != self.rate or block.shape[1] not in (1, self.found.channels):  # one channel goes on in all
            self._flush(last=True)
            self._change(rate, block.shape[1])
        if block.shape[1] == 1 < self.found.channels:
            block = np.repeat(block, self.found.channels, axis=1)
        self._note_time(began if stamp is None and self.time is None else stamp, began)
        self.last = len(block) / rate
        self.time = (self.time or 0.0) + self.last
        self.found.seconds += self.last
        if self.found.seconds > self.limits.hours * 3600:
            raise InputError(f"longer than {self.limits.hours:g} hours (decoding.max_hours in params): cut it")
        self.pending.append(block)
        self.held += len(block)
        if self.held >= rate:
            self._flush()

    def _change(self, rate: int, channels: int) -> None:
        """Go on at another rate, or with other channels."""
        if not 1000 <= rate <= 768_000:
            raise NoSoundError(f"its sample rate of {rate} Hz cannot be")
        if channels > MOST_CHANNELS:
            raise NoSoundError(f"has {channels} channels, more than {MOST_CHANNELS}: extract those that speak")
        found = self.found
        if rate not in found.rates:
            found.rates.append(rate)
        if found.channels and channels not in (1, found.channels):
            if found.channels != 1:
                raise InputError(f"goes on with {channels} instead of {found.channels} channels: cut the file there and check both parts")
            self._widen(channels)
        self.rate, found.channels = rate, max(channels, found.channels)
        self.flat += [Flat() for _ in range(found.channels - len(self.flat))]
        self.resampler = (
            soxr.ResampleStream(rate, SAMPLE_RATE, found.channels, dtype="float32", quality="HQ") if rate != SAMPLE_RATE else None
        )

    def _widen(self, channels: int) -> None:
        """Write again what was one channel so far, the same in all of them."""
        self.sink.seek(0)
        narrow = np.frombuffer(self.sink.read(), np.float32)
        self.sink.seek(0)
        for first in range(0, len(narrow), SAMPLE_RATE):
            self.sink.write(np.repeat(narrow[first : first + SAMPLE_RATE, None], channels, axis=1).tobytes())
        self.flat = [self.flat[0].copy() for _ in range(channels)]

    def _note_time(self, stamp: float | None, began: float) -> None:
        """Keep the file's own clock: where it starts, and where it jumps ahead; where it goes back, the sound simply goes on."""
        if stamp is None or (len(self.found.rates) > 1 and self.found.container in UNBROKEN):  # the sound simply goes on
            return
        if self.joined and self.time is not None:
            self.shift, self.joined = self.time - (stamp - began), False
        now = stamp - began + self.shift
        if self.time is None:
            self.time = now if now > JUMP else 0.0
            self.found.clock.append((0, self.time))
        elif now - self.time > JUMP:
            self.found.clock.append((round(self.found.seconds * SAMPLE_RATE), now))
            if self.found.container in UNBROKEN:
                self.found.lost += now - self.time
            self.time = now
        elif self.time - now > JUMP:
            self.shift += self.time - now

    def _flush(self, last: bool = False) -> None:
        """Check, resample and write what is pending."""
        if not self.rate:
            return
        block = np.concatenate(self.pending) if self.pending else np.zeros((0, self.found.channels), np.float32)
        self.pending, self.held = [], 0
        if not np.isfinite(block).all():
            raise NoSoundError("holds NaN or infinite samples")
        for number, flat in enumerate(self.flat):
            flat.add(block[:, number])
        if self.resampler:
            block = self.resampler.resample_chunk(block, last=last)
        if max((flat.peak for flat in self.flat), default=0.0) > LOUDEST or not np.isfinite(block).all():
            raise NoSoundError(f"holds samples of {max(flat.peak for flat in self.flat):.3g} times full scale: that is no sound")
        self.found.samples += len(block)
        self.sink.write(np.ascontiguousarray(block, np.float32).tobytes())
        self.beat()

    def _finish(self) -> None:
        """Errors: InputError when what came is too little."""
        found, claim, kind = self.found, self.claim, self.found.container
        taken = found.seconds
        if not taken and claim.missing:
            raise NoSoundError(cut(claim))
        if not taken:
            raise NoSoundError("zero samples" if not found.lost else "none of its sound can be decoded: it is damaged")
        stated = self.track.seconds if kind in TABLED else claim.seconds
        if claim.missing and kind != "mov":
            whole = stated or (taken + found.lost) * claim.stated / max(claim.stated - claim.missing, 1)
            if whole * claim.missing / claim.stated > SLACK:
                raise InputError(_truncated(taken, whole))
        if stated:
            reached = max(taken + found.lost, (self.time or 0.0) - found.clock[0][1])
            if (
                kind in TABLED and reached - (self.ends_lost if kind == "flac" else 0.0) < stated - SLACK
            ):  # cut within a frame, or before it
                raise InputError(_truncated(taken, stated))
            found.lost = max(found.lost, stated - (reached if kind in TABLED else taken) - SLACK, 0.0)
        if found.lost > self.limits.lost_share * (taken + found.lost):
            whole = taken + found.lost
            raise InputError(
                f"damaged: {found.lost:.2f} of {whole:.2f} s cannot be decoded, more than {self.limits.lost_share:.0%} "
                "(decoding.max_lost_share in params); fetch the file again"
            )
        if taken * SAMPLE_RATE < MIN_SAMPLES:
            count = round(taken * self.rate)
            raise NoSoundError(f"too short: {count} samples at {self.rate} Hz, at least {MIN_SAMPLES / SAMPLE_RATE:.2f} s are needed")
        found.peaks = [flat.peak if flat.peak > FAINTEST and not flat.constant else 0.0 for flat in self.flat]
        found.clipped = [flat.share for flat in self.flat]


def unheard_of(what: str) -> str:
    """The refusal of a file behind whose end something follows."""
    return f"{what} follow{'s' if what.startswith('a') else ''} after its end, and would not be heard: cut the file in two and check both"


def _truncated(heard: float, stated: float) -> str:
    return f"truncated: {heard:.2f} of {stated:.2f} s can be read; fetch the file again"


def _samples(frame: Any) -> np.ndarray:
    """(n, C) float32 of one FFmpeg frame, integers scaled so that full scale is 1."""
    channels = frame.layout.nb_channels
    if frame.format.is_planar:  # of more than 8 channels `to_ndarray` and `planes` go on into memory that is not the frame's
        kind, planes = format_dtypes[frame.format.name], frame.planes[:channels]
        samples = np.stack([np.frombuffer(plane, kind, frame.samples) for plane in planes], axis=1)
    else:
        samples = frame.to_ndarray().reshape(-1, channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        wide = samples.astype(np.float32 if samples.dtype == np.int16 else np.float64)
        return (wide / float(1 << (8 * samples.dtype.itemsize - 1))).astype(np.float32)
    return samples.astype(np.float32)
