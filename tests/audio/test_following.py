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
from earmark.audio import decode, frames
from earmark.audio.following import kind_at
from earmark.audio.sound import Decoded
from earmark.audio.tags import after_id3
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
        stream.bit_rate = 64_000
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


def pages(content: bytes) -> list[bytes]:
    """The pages of an Ogg."""
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


def clocked(page: bytes, shift: int) -> bytes:
    """A page whose granule is later by so much, headers apart."""
    granule = struct.unpack("<q", page[6:14])[0]
    page = page[:6] + struct.pack("<q", granule + shift if granule > 0 else granule) + page[14:22] + bytes(4) + page[26:]
    return page[:22] + struct.pack("<I", frames._ogg_crc(page)) + page[26:]


ID3_OF_A_PICTURE = b"ID3\x04\0\0" + bytes([0, 6, 13, 32]) + b"\xff\xd8" * 50_000
APE_OF_A_PICTURE = b"".join(
    (
        b"APETAGEX" + struct.pack("<IIII", 2000, 60_032, 1, 0xA0000000) + bytes(8) + b"\xff\xd8" * 30_000,
        b"APETAGEX" + struct.pack("<IIII", 2000, 60_032, 1, 0x80000000) + bytes(8),
    )
)
LYRICS = b"LYRICSBEGIN" + b"la la " * 3000 + b"018011LYRICS200" + b"TAG" + b"x" * 125
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
    "a WAV in an M4A": (encode("ipod", "aac") + WAV, "another WAV"),
    "an MP3 in an M4A": (encode("ipod", "aac") + sound("MP3"), "another MP3"),
    "a WAV in a FLAC": (sound("FLAC") + WAV, "another WAV"),
    "a WAV in a WebM": (encode("webm", "libopus") + WAV, "another WAV"),
    "a WAV in a live WebM": (encode("webm", "libopus", options={"live": "1"}) + WAV, "another WAV"),
    "an MP3 in an Ogg": (sound("OGG") + sound("MP3"), "another MP3"),
    "a WAV in an MPEG program stream": (encode("mpeg", "mp2", 48_000) + WAV, "another WAV"),
    "a WAV in an AVI": (encode("avi", "pcm_s16le") + WAV, "another WAV"),
    "an AAC in a WMA": (encode("asf", "wmav2", 44_100) + encode("adts", "aac"), "another AAC"),
    "a short FLV": (encode("flv", "aac", 44_100) + encode("flv", "aac", 44_100)[:9000], "another FLV"),
    "a TTA": (2 * encode("tta", "tta"), "another TTA"),
    "a VOC": (2 * encode("voc", "pcm_s16le"), "another VOC"),
    "a WAV in a WavPack": (encode("wv", "wavpack") + WAV, "another WAV"),
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
    "APE after TTA": encode("tta", "tta") + APE_OF_A_PICTURE,
    "APE after WavPack": encode("wv", "wavpack") + APE_OF_A_PICTURE,
    "ID3v1 after FLAC": sound("FLAC") + b"TAG" + b"x" * 125,
    "noise after FLAC": sound("FLAC") + RNG.bytes(50_000),
    "Lyrics3 after WAV": WAV + b"LYRICSBEGIN" + b"la " * 3000 + b"009011LYRICS200" + b"TAG" + b"x" * 125,
}  # fmt: skip


@pytest.mark.parametrize("name", TAGGED)
def test_tags_and_pictures_after_the_sound_are_neither_heard_nor_refused(tmp_path, name):
    samples, found = hear(tmp_path / "a", TAGGED[name])
    assert (len(samples), found.lost) == (16_000, 0)
    np.testing.assert_allclose(samples[:, 0], NOISE, atol=1 / 128 if name.startswith("APE") else 1e-4)  # some have 8 bits


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


MP3 = encode("mp3", "libmp3lame")
WAVPACK = encode("wv", "wavpack")
AMR = encode("amr", "libopencore_amrnb", 8_000)
ENDS = {  # content, seconds: as long as the sound is
    "MP3": (MP3, 1), "4,096 zeros": (MP3 + bytes(4096), 1), "500,000 zeros": (MP3 + bytes(500_000), 1), "lyrics": (MP3 + LYRICS, 1),
    "a picture": (MP3 + APE_OF_A_PICTURE, 1), "an ID3 tag": (MP3 + ID3_OF_A_PICTURE, 1), "two MP3s": (2 * MP3, 2),
    "two MP3s, a picture between them": (MP3 + APE_OF_A_PICTURE + MP3, 2), "two MP3s, lyrics between them": (MP3 + LYRICS + MP3, 2),
    "two WavPacks": (2 * WAVPACK, 2), "two WavPacks, a picture between them": (WAVPACK + APE_OF_A_PICTURE + WAVPACK, 2),
    "two AMRs": (2 * AMR, 2), "three AMRs": (3 * AMR, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_neither_tags_nor_zeros_nor_headers_are_damage_or_sound(tmp_path, name):
    content, seconds = ENDS[name]
    samples, found = hear(tmp_path / "a", content)
    assert found.lost == 0
    assert len(samples) / 16_000 == pytest.approx(seconds, abs=0.03 * seconds)
    assert decode.probe(tmp_path / "a", DecodingParams())[0] == pytest.approx(seconds, abs=0.05 * seconds)


def test_joined_amr_sounds_like_its_parts(tmp_path):
    alone = hear(tmp_path / "a", AMR)[0]
    both = hear(tmp_path / "b", 2 * AMR)[0]
    second = both[len(both) // 2 :]
    assert np.corrcoef(second[2000:-2000, 0], alone[2000 : len(second) - 2000, 0])[0, 1] > 0.9


def test_a_tag_in_a_stream_of_mp3_that_says_what_is_on_air_does_not_part_it(tmp_path):
    long = encode("mp3", "libmp3lame", 16_000)
    places = [after_id3(io.BytesIO(long))]
    while length := frames.mp3_frame(long[places[-1] : places[-1] + 4]):
        places.append(places[-1] + length)
    middle = places[len(places) // 2]
    whole = hear(tmp_path / "a", long)[0]
    samples, found = hear(tmp_path / "b", long[:middle] + b"ID3\x04\0\0\0\0\0\x3f" + bytes(63) + long[middle:])
    assert found.lost <= 0.04
    assert len(samples) == pytest.approx(len(whole), abs=600)


@pytest.mark.parametrize("kind", ["OPUS", "VORBIS"])
@pytest.mark.parametrize("other", ["OPUS", "VORBIS"])
def test_of_a_cut_ogg_that_another_follows_all_is_heard_that_is_there(tmp_path, kind, other):
    first, second = sound("OGG", 6, 48_000, kind), sound("OGG", 1, 48_000, other)
    heard = hear(tmp_path / "cut", first[: len(first) * 6 // 10])[1]
    both = hear(tmp_path / "both", first[: len(first) * 6 // 10] + second)[1]
    assert both.seconds == pytest.approx(heard.seconds + 1, abs=0.02)
    assert (both.lost, both.unfinished) == (0, "a page is cut where another stream follows")


@pytest.mark.parametrize("late", [0.3, 10, 3600])
@pytest.mark.parametrize("kind", ["opus", "flac", "vorbis"])
def test_a_stream_that_was_joined_late_is_counted_from_its_first_page(tmp_path, kind, late):
    content = {"flac": encode("ogg", "flac"), "opus": encode("ogg", "libopus", 48_000), "vorbis": sound("OGG")}[kind]
    rate = 48_000 if kind == "opus" else 16_000
    whole = hear(tmp_path / "a", content)[1]
    _, found = hear(tmp_path / "b", b"".join(clocked(page, round(late * rate)) for page in pages(content)))
    assert (found.lost, found.clock[0][1]) == (0, 0)
    assert found.seconds == pytest.approx(whole.seconds, abs=0.01)


def test_a_page_that_is_lost_from_a_late_stream_is_missed(tmp_path):
    content = [clocked(page, 480_000) for page in pages(sound("OGG", 12, 48_000, "OPUS"))]
    _, found = hear(tmp_path / "a", b"".join(content[:5] + content[6:]))
    assert found.lost == pytest.approx(1, abs=0.1)
    assert found.seconds + found.lost == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize("missing", [10, 1000, 3000])
def test_a_flac_that_is_cut_within_its_last_frame_is_refused(tmp_path, missing):
    content = sound("FLAC")[:-missing]
    with pytest.raises(InputError, match=r"truncated: 0\.77 of 1\.00 s can be read"):
        hear(tmp_path / "a", content)


@pytest.mark.parametrize("name", ["one block", "blocks"])
def test_a_cut_wavpack_is_refused(tmp_path, name):
    content = encode("wv", "wavpack") if name == "one block" else 6 * encode("wv", "wavpack")
    with pytest.raises(InputError, match="truncated"):
        hear(tmp_path / "a", content[: len(content) * 9 // 10])


@pytest.mark.parametrize("seconds", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("channels", [1, 2])
def test_all_of_an_alac_in_caf_is_heard(tmp_path, seconds, channels):
    noise = np.resize(NOISE, (round(16_000 * seconds), channels))
    sf.write(tmp_path / "a.caf", noise, 16_000, subtype="ALAC_16")
    content = (tmp_path / "a.caf").read_bytes()
    samples, found = hear(tmp_path / "a.caf", content)
    assert found.lost == 0
    np.testing.assert_array_equal(samples, sf.read(tmp_path / "a.caf", dtype="float32", always_2d=True)[0])
