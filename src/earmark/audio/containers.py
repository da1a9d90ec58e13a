"""The end of a recording as its container states it, read from the bytes: decoders guess a missing one and pass over a wrong one.

A length that the container states is a fact (WAV's data chunk, SPHERE's count, FLAC's total, Xing's count, WavPack's blocks, MP4's boxes,
Matroska's segment, ASF's size, Ogg's end of stream); for all other files there is none, and what can be decoded is counted.
"""

import struct
from typing import BinaryIO

from earmark.audio import boxes, chunks, frames, riff
from earmark.audio.claim import Claim, at, size_of

MAGICS = (
    (b"RIFF", 0, riff.riff), (b"RF64", 0, riff.riff), (b"BW64", 0, riff.riff), (b"RIFX", 0, riff.riff),
    (b"FORM", 0, chunks.aiff), (b".snd", 0, chunks.au), (b"caff", 0, chunks.caf), (b"riff", 0, chunks.wave64),
    (b"Creative Voice File\x1a", 0, chunks.voc), (b"NIST_1A\n", 0, chunks.sphere),
    (b"fLaC", 0, frames.flac), (b"ID3", 0, frames.flac), (b"OggS", 0, frames.ogg), (b"#!AMR", 0, frames.amr),
    (b"wvpk", 0, frames.wavpack),
    (b"ftyp", 4, boxes.mp4), (b"moov", 4, boxes.mp4), (b"mdat", 4, boxes.mp4), (b"wide", 4, boxes.mp4), (b"free", 4, boxes.mp4),
    (b"skip", 4, boxes.mp4), (b"\x1a\x45\xdf\xa3", 0, boxes.matroska), (boxes.ASF, 0, boxes.asf),
    (b"\0\0\x01\xba", 0, boxes.programs),
)  # fmt: skip


def examine(file: BinaryIO) -> Claim:
    """What the container says of its end; nothing is claimed of kinds that are not known here, or are too damaged to tell."""
    head = at(file, 0, 64)
    kind = next((kind for magic, place, kind in MAGICS if head[place : place + len(magic)] == magic), frames.mp3)
    try:
        return kind(file, size_of(file))
    except (struct.error, IndexError, ZeroDivisionError, OverflowError, ValueError, KeyError):
        return Claim()
