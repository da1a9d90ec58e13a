"""Encoding and decoding in memory through FFmpeg (PyAV). Shapes: T samples at 16 kHz."""

import av
import numpy as np
import soxr
from av.audio.codeccontext import AudioCodecContext
from scipy.signal import correlate

from earmark.audio.decode import SAMPLE_RATE


def transcode(waveform: np.ndarray, encoder: str, decoder: str, rate: int, bit_rate: int) -> np.ndarray:
    """Encode and decode; (T,) at 16 kHz → (T,) at 16 kHz, the codec's delay taken out."""
    packets, header = _encode(waveform, encoder, rate, bit_rate)
    decoding = av.CodecContext.create(decoder, "r")
    assert isinstance(decoding, AudioCodecContext)
    decoding.sample_rate, decoding.layout = rate, "mono"
    decoding.extradata = header
    frames = [frame for packet in packets for frame in decoding.decode(packet)]
    planes = av.AudioResampler(format="flt", layout="mono", rate=frames[0].sample_rate)
    sound = np.concatenate([part.to_ndarray()[0] for frame in [*frames, None] for part in planes.resample(frame)])
    return _align(soxr.resample(sound, frames[0].sample_rate, SAMPLE_RATE), waveform)


def _encode(waveform: np.ndarray, encoder: str, rate: int, bit_rate: int) -> tuple[list[av.Packet], bytes | None]:
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, AudioCodecContext)
    formats = context.codec.audio_formats
    context.sample_rate, context.layout, context.bit_rate = rate, "mono", bit_rate
    context.format = formats[-1].name if formats else "s16"
    context.open()
    tail = np.zeros(SAMPLE_RATE // 4, dtype=np.float32)  # flushes the codec's delay
    samples = soxr.resample(np.concatenate([waveform, tail]).astype(np.float32), SAMPLE_RATE, rate)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
    frame.sample_rate = rate
    chunks = av.AudioResampler(format=context.format.name, layout="mono", rate=rate, frame_size=context.frame_size)
    packets = [packet for chunk in chunks.resample(frame) for packet in context.encode(chunk)]
    return packets + context.encode(None), context.extradata


def _align(sound: np.ndarray, waveform: np.ndarray) -> np.ndarray:
    """Shift `sound` to where it fits `waveform` best, and cut it to the same length."""
    fit = correlate(sound, waveform, mode="full", method="fft")[len(waveform) - 1 :]
    return sound[int(fit[: SAMPLE_RATE // 4].argmax()) :][: len(waveform)]
