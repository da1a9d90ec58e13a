"""What stands after the sound of a file: another recording is refused, tags and what programs leave there are let pass."""

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile as sf

from earmark import InputError
from earmark.audio import decode
from earmark.audio.following import kind_at
from earmark.audio.sound import Decoded
from earmark.params import DecodingParams

RNG = np.random.default_rng(11)
NOISE = RNG.uniform(-0.4, 0.4, 16_000)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 1 << 31) + bytes(8)
LIST = b"LIST\x04\0\0\0abcd"


def hear(path: Path, content: bytes) -> tuple[np.ndarray, Decoded]:
    path.write_bytes(content)
    with decode.decoded(path, DecodingParams()) as (samples, found):
        return np.array(samples), found


def sound(kind: str = "WAV", seconds: float = 1.0, rate: int = 16_000, subtype: str | None = None) -> bytes:
    """A file of noise, as libsndfile writes it."""
    place = io.BytesIO()
    sf.write(place, np.resize(NOISE, round(rate * seconds)), rate, format=kind, subtype=subtype)
    return place.getvalue()


def encode(form: str, codec: str, rate: int = 16_000, options: dict[str, str] | None = None) -> bytes:
    """A second of noise, as FFmpeg writes it."""
    place = io.BytesIO()
    with av.open(place, "w", format=form, options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        block = np.resize(NOISE, rate)[None]
        if codec.startswith("pcm_s16"):
            frame = av.AudioFrame.from_ndarray((block * 32_767).astype(np.int16), format="s16", layout="mono")
        else:
            frame = av.AudioFrame.from_ndarray(block.astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for part in (frame, None):
            container.mux(stream.encode(part))
    return place.getvalue()


def data_chunk(content: bytes) -> bytes:
    return content[content.index(b"data") :]


def sphere(samples: np.ndarray) -> bytes:
    said = f"NIST_1A\n   1024\nsample_count -i {len(samples)}\nsample_n_bytes -i 2\nchannel_count -i 1\n"
    said += "sample_byte_format -s2 01\nsample_rate -i 16000\nsample_coding -s3 pcm\nend_head\n"
    return said.encode().ljust(1024) + (samples * 32_767).astype("<i2").tobytes()


ID3_OF_A_PICTURE = b"ID3\x04\0\0" + bytes([0, 6, 13, 32]) + b"\xff\xd8" * 50_000
WAV, ODD = sound(), sound(rate=8_000, subtype="ULAW")
ODD = ODD.replace(data_chunk(ODD)[:8], b"data" + struct.pack("<I", 7_999))[:-1]
UNSIZED = {"WAV": WAV.replace(data_chunk(WAV)[:8], b"data\xff\xff\xff\xff"), "CAF": sound("CAF")}
UNSIZED["CAF"] = UNSIZED["CAF"].replace(data_chunk(UNSIZED["CAF"])[4:12], b"\xff" * 8)
JOINED = {  # whatever the rates, and however short the second is
    "a chunk, then a WAV": (WAV + LIST + WAV, "another WAV"),
    "an odd chunk without its pad byte, then a WAV": (ODD + WAV, "another WAV"),
    "an APE tag, then a WAV": (WAV + APE + WAV, "another WAV"),
    "zeros, then a WAV": (WAV + bytes(100) + WAV, "another WAV"),
    "an Ogg of few bytes": (sound(rate=48_000, subtype="DOUBLE") + sound("OGG", 0.2), "another Ogg"),
    "two data chunks": (WAV + data_chunk(WAV), "a second sound chunk"),
    "a chunk, then a second data chunk": (WAV + LIST + data_chunk(WAV), "a second sound chunk"),
    "AIFF": (sound("AIFF", rate=48_000, subtype="PCM_24") + sound("AIFF", 0.5, 8_000), "another AIFF"),
    "W64": (sound("W64", rate=48_000, subtype="FLOAT") + sound("W64", 0.5, 8_000, "ULAW"), "another W64"),
    "CAF": (sound("CAF", rate=48_000, subtype="PCM_24") + sound("CAF", 0.5, 8_000), "another CAF"),
    "AU": (sound("AU") + sound("AU", 0.5, 8_000, "ULAW"), "another AU"),
    "SPHERE": (2 * sphere(NOISE), "another SPHERE"),
    "a WAV of no size": (UNSIZED["WAV"] + WAV, "another WAV"),
    "a CAF of no size": (UNSIZED["CAF"] + sound("CAF"), "another CAF"),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_another_recording_is_refused_whatever_stands_before_it(tmp_path, name):
    content, follows = JOINED[name]
    with pytest.raises(InputError, match=f"{follows} follows after its end, and would not be heard"):
        hear(tmp_path / "a", content)


TAGGED = {
    "a picture in AIFF": sound("AIFF") + b"ID3 " + struct.pack(">I", len(ID3_OF_A_PICTURE)) + ID3_OF_A_PICTURE,
    "ID3 after W64": sound("W64") + ID3_OF_A_PICTURE,
    "APE after CAF": sound("CAF") + APE,
    "ID3v1 after AU": sound("AU") + b"TAG" + b"x" * 125,
    "zeros after SPHERE": sphere(NOISE) + bytes(3000),
    "Lyrics3 after WAV": WAV + b"LYRICSBEGIN" + b"la " * 3000 + b"009011LYRICS200" + b"TAG" + b"x" * 125,
}  # fmt: skip


@pytest.mark.parametrize("name", TAGGED)
def test_tags_and_pictures_after_the_sound_are_neither_heard_nor_refused(tmp_path, name):
    samples, found = hear(tmp_path / "a", TAGGED[name])
    assert (len(samples), found.lost) == (16_000, 0)
    np.testing.assert_allclose(samples[:, 0], NOISE, atol=1e-4)


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_a_cut_sphere_file_is_refused(tmp_path, share):
    content = sphere(NOISE)
    with pytest.raises(InputError, match=rf"truncated: {share:.1f}\d of 1.00 s can be read"):
        hear(tmp_path / "a", content[: 1024 + int(32_000 * share)])


def rf64(stated: int, data: int) -> bytes:
    sizes = struct.pack("<IQQQI", 28, 0, stated, 0, 0)
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    body = (NOISE * 32_767).astype("<i2").tobytes()
    return b"RF64\xff\xff\xff\xffWAVEds64" + sizes + b"fmt " + form + b"data" + struct.pack("<I", data) + body


def w64(size: int) -> bytes:
    content = sound("W64")
    place = content.index(b"data") + 16
    return content[:16] + bytes(8) + content[24:place] + struct.pack("<Q", size) + content[place + 8 :]


@pytest.mark.parametrize(
    "content",
    [
        rf64(0, 0xFFFFFFFF),
        rf64(0, 0),
        rf64(2**64 - 1, 0xFFFFFFFF),
        w64(0),
        w64(24),
        sound("CAF").replace(data_chunk(sound("CAF"))[:12], b"data" + bytes(8)),
    ],
)
def test_what_was_never_closed_is_read_to_its_end_and_said(tmp_path, content):
    samples, found = hear(tmp_path / "a", content)
    assert found.unfinished == "its header states no length"
    assert len(samples) == 16_000
    np.testing.assert_allclose(samples[:, 0], NOISE, atol=1e-4)


@pytest.mark.parametrize(("valid", "width"), [(24, 4), (20, 4), (20, 3), (12, 2)])
def test_samples_of_fewer_bits_than_their_bytes_hold_are_read(tmp_path, valid, width):
    guid = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 16_000, 16_000 * width, width, 8 * width, 22, valid, 4) + guid
    whole = np.round(NOISE * (1 << valid - 1)).astype(np.int64) << (8 * width - valid)
    body = whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    content = b"RIFF" + struct.pack("<I", 60 + len(body)) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
    samples, _ = hear(tmp_path / "a", content + b"data" + struct.pack("<I", len(body)) + body)
    np.testing.assert_allclose(samples[:, 0], NOISE, atol=2.0 ** (1 - valid))


def test_noise_is_no_recording():
    noise = io.BytesIO(RNG.bytes(40_000))
    assert not any(kind_at(noise, place) for place in range(0, 40_000, 3))
