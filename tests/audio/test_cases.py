"""Odd files as people of the trade have reported them: what is heard of each, through the worker that decodes."""

import io
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from earmark import InputError
from earmark.audio import decode, ffmpeg
from earmark.audio.claim import Claim, Mended
from earmark.audio.containers import examine
from earmark.audio.sound import Decoded, Limits
from earmark.params import DecodingParams

CASES = Path(__file__).parents[1] / "cases"
DECODING = DecodingParams()
HEARD = {  # seconds
    "mp3-length-guessed/abr_no_xing_4.05s.mp3": 4.05,
    "mp3-length-guessed/vbr_no_xing_4.10s.mp3": 4.10,
    "mp3-length-guessed/vbr_no_xing_2.3s_read_short.mp3": 2.35,
    "ogg-opus-chained/two_voice_notes_6s.opus": 6.0,
    "rate-changes/adts_22050_then_48000_6.1s.aac": 6.1,
    "rate-changes/adts_44100_then_22050_7.1s.aac": 7.1,
    "rate-changes/mp3_44100_then_22050_6s.mp3": 6.07,
    "flac-length-unknown/piped_4s.flac": 4.0,
    "wav-recorder-crashed/data_0_riff_36_4s.wav": 4.0,
    "wav-recorder-crashed/riff_0x23_data_0xffffffff_4s_ok.wav": 4.0,
    "wav-recorder-crashed/sizes_0_4s.wav": 4.0,
    "wav-recorder-crashed/vorbis_cut_in_first_page.ogg": 0.47,
    "aac-length-guessed/silence_first_10s.aac": 10.03,
    "aac-length-guessed/silence_last_10s_ok.aac": 10.03,
    "track-without-decoder/first_aac_second_apac_ok.mov": 4.03,
    "track-without-decoder/first_track_apac_second_aac.mov": 4.03,
    "codec-tag-not-ascii/aac_in_avi_4s.avi": 4.1,
    "codec-tag-not-ascii/g722_4s.wav": 4.0,
    "one-damaged-packet/adts_40_bytes_damaged_4s.aac": 4.02,
    "one-damaged-packet/amr_one_dtx_frame_4s.amr": 3.98,
    "one-damaged-packet/m4a_40_bytes_damaged_4s.m4a": 3.9,
    "one-damaged-packet/webm_2.38s_of_3s.webm": 2.38,
    "several-tracks/first_track_silent_second_speech.mp4": 4.03,
    "several-tracks/two_speakers_two_tracks.mp4": 4.03,
    "stereo-call/agent_left_customer_right.flac": 5.0,
    "float-over-full-scale/float_hot_2s.wav": 2.0,
    "float-over-full-scale/float_int16_range_2s.wav": 2.0,
}
WORKING = sorted(path for path in (CASES / "formats-that-work").iterdir())


def hear(path: Path, decoding: DecodingParams = DECODING, track: int | None = None) -> tuple[np.ndarray, Decoded]:
    with decode.decoded(path, decoding, track) as (samples, found):
        return np.array(samples), found


@pytest.mark.parametrize("name", HEARD)
def test_all_of_a_file_is_heard_and_nothing_else(name):
    samples, found = hear(CASES / name)
    assert len(samples) / 16_000 == pytest.approx(HEARD[name], abs=0.03)
    assert found.seconds == pytest.approx(len(samples) / 16_000, abs=0.001)
    assert decode.probe(CASES / name, DECODING)[0] == pytest.approx(HEARD[name], abs=0.15)
    assert 1e-4 < np.abs(samples).max() < (1.7 if "int16" not in name else 32_768)


@pytest.mark.parametrize("path", WORKING, ids=lambda path: path.name)
def test_odd_forms_of_four_seconds_are_read(path):
    short = {"fmp4.mp4": 3.07, "trimmed_copy.m4a": 2.53, "webm_live.webm": 3.0}
    samples, found = hear(path)
    assert len(samples) / 16_000 == pytest.approx(short.get(path.name, 4.0), abs=0.11)
    assert found.lost == 0


def test_every_fresh_byte_of_memory_may_hold_anything():
    """What malloc hands out is filled with another pattern in each run: a sample that was never written would differ."""
    program = (
        "import hashlib, sys\nfrom pathlib import Path\n"
        "from earmark.audio.decode import decoded\nfrom earmark.params import DecodingParams\n"
        "for path in map(Path, sys.argv[1:]):\n    with decoded(path, DecodingParams()) as (samples, _):\n"
        "        print(path.name, hashlib.sha256(samples.tobytes()).hexdigest())"
    )
    files = [str(CASES / name) for name in HEARD] + [str(path) for path in WORKING]
    runs = [
        subprocess.run([sys.executable, "-c", program, *files], env=os.environ | {"MALLOC_PERTURB_": value}, capture_output=True, text=True)
        for value in ("0", "42", "213")
    ]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert len(runs[0].stdout.splitlines()) == len(files)
    assert runs[0].stdout == runs[1].stdout == runs[2].stdout


@pytest.mark.parametrize("name", HEARD)
def test_no_unwritten_sample_arrives(name, monkeypatch):
    """Memory that numpy hands out unwritten is full of NaN."""
    empty = np.empty

    def poisoned(*args, **kwargs):
        array = empty(*args, **kwargs)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    monkeypatch.setattr(np, "empty", poisoned)
    sink = io.BytesIO()
    with (CASES / name).open("rb") as file:
        ffmpeg.decode(file, sink, None, Limits())
    samples = np.frombuffer(sink.getvalue(), np.float32)
    assert len(samples)
    assert np.isfinite(samples).all()


def test_a_decoder_that_is_not_there_is_named_and_another_track_is_heard_instead():
    with pytest.raises(InputError, match=r"only_apac\.m4a: no decoder for apac"):
        hear(CASES / "track-without-decoder/only_apac.m4a")
    _, found = hear(CASES / "track-without-decoder/first_track_apac_second_aac.mov")
    assert (found.track, [(one.number, one.coding) for one in found.tracks]) == (2, [(1, "apac"), (2, "aac")])
    with pytest.raises(InputError, match="no decoder for apac"):
        hear(CASES / "track-without-decoder/first_track_apac_second_aac.mov", track=1)


def test_a_silent_track_is_passed_over_for_one_that_speaks_unless_it_is_asked_for():
    film = CASES / "several-tracks/first_track_silent_second_speech.mp4"
    assert hear(film)[1].track == 2
    with pytest.raises(decode.SilentError):
        hear(film, track=1)
    with pytest.raises(InputError, match="has no track 3: it has 2"):
        hear(film, track=3)


def write_tracks(path: Path, *tracks: np.ndarray, codec: str = "pcm_f32le") -> Path:
    """A film without pictures, of tracks at 16 kHz one after the other."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=16_000, layout="mono") for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="flt", layout="mono")
            frame.sample_rate = 16_000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    return path


DEAD = {
    "constant": (np.full(16_000, -1 / 32_768), None),
    "silent": (np.zeros(16_000), None),
    "short": (0.1 * np.ones(320), "too short: 320 samples at 16000 Hz, at least 0.05 s are needed"),
    "nan": (np.append(0.1 * np.ones(32_000), np.nan), "holds NaN or infinite samples"),
    "loud": (np.append(0.1 * np.ones(32_000), 1e30), "holds samples of 1e+30 times full scale: that is no sound"),
}


@pytest.mark.parametrize("kind", DEAD)
def test_a_track_that_holds_nothing_to_hear_is_passed_over_and_said(tmp_path, speech, kind):
    dead, reason = DEAD[kind]
    path = write_tracks(tmp_path / "a.mkv", dead, speech)
    samples, found = hear(path)
    assert (found.track, [one.reason for one in found.tracks]) == (2, [reason, None])
    np.testing.assert_array_equal(samples[:, 0], speech.astype(np.float32))
    with pytest.raises(InputError, match=f"a.mkv: {reason or 'silent from end to end'}".replace("+", r"\+")):
        hear(path, track=1)
    both = write_tracks(tmp_path / "both.mkv", np.zeros(16_000), dead)
    with pytest.raises(InputError, match="track 1: silent from end to end; track 2: " if reason else r"both\.mkv: silent from end to end"):
        hear(both)


def test_a_constant_is_silence_at_any_rate(tmp_path):
    for rate in (16_000, 44_100):
        sf.write(tmp_path / "a.wav", np.full(rate, 0.02), rate, subtype="FLOAT")
        with pytest.raises(decode.SilentError):
            hear(tmp_path / "a.wav")


def test_what_a_file_says_of_itself_is_print(tmp_path):
    content = (CASES / "several-tracks/two_speakers_two_tracks.mp4").read_bytes().replace(b"esds", b"none")
    place = content.rindex(b"mp4a")  # the second track's coding
    for tag in (b"\x1b[2J", b"a\x85\n\x9b"):
        (tmp_path / "a.mp4").write_bytes(content[:place] + tag + content[place + 4 :])
        _, found = hear(tmp_path / "a.mp4")
        assert found.track == 1
        assert (found.tracks[1].coding + (found.tracks[1].reason or "")).isprintable()
        with pytest.raises(InputError, match=r"a\.mp4: no decoder for") as caught:
            hear(tmp_path / "a.mp4", track=2)
        assert str(caught.value).isprintable()


def test_what_states_no_rate_is_refused():
    with pytest.raises(InputError, match="no decoder reads it"):
        hear(CASES / "headerless/pbx_8k_4s.ul")


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n", "v=0\n"])
def test_a_list_of_other_files_opens_none_of_them(tmp_path, text):
    (tmp_path / "evil.wav").write_text(text.format(CASES / "stereo-call/left.flac"))
    with pytest.raises(InputError, match=r"evil\.wav: no decoder reads it"):
        hear(tmp_path / "evil.wav")


@pytest.fixture
def speech() -> np.ndarray:
    return sf.read(CASES / "stereo-call/left.flac")[0]


def join(place: Path, *parts: Path) -> Path:
    place.write_bytes(b"".join(part.read_bytes() for part in parts))
    return place


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_files_joined_end_to_end_are_heard_each_at_its_own_rate(tmp_path, speech, suffix, rate):
    sf.write(tmp_path / f"one.{suffix}", speech, 16_000)
    sf.write(tmp_path / f"two.{suffix}", speech, rate)
    samples, found = hear(join(tmp_path / f"both.{suffix}", tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"))
    assert len(samples) / 16_000 == pytest.approx(5 + 5 * 16_000 / rate, abs=0.15)  # an MP3 begins with silence of its encoder
    assert found.rates == sorted({16_000, rate})
    assert len(found.clock) == 1


def test_a_link_of_more_channels_widens_the_ones_before(tmp_path, speech):
    sf.write(tmp_path / "one.ogg", speech, 16_000)
    sf.write(tmp_path / "two.ogg", np.stack((speech, -speech), axis=1), 16_000)
    samples, _ = hear(join(tmp_path / "both.ogg", tmp_path / "one.ogg", tmp_path / "two.ogg"))
    assert samples.shape[1] == 2
    first, second = samples[: 4 * 16_000], samples[6 * 16_000 :]
    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    assert np.corrcoef(second.T)[0, 1] < -0.9


def test_flac_files_of_other_bits_are_heard_where_they_are_joined(tmp_path, speech):
    for subtype in ("PCM_16", "PCM_24", "PCM_S8"):
        sf.write(tmp_path / f"{subtype}.flac", speech, 16_000, subtype=subtype)
    parts = [tmp_path / f"{subtype}.flac" for subtype in ("PCM_16", "PCM_24", "PCM_S8", "PCM_16")]
    samples, found = hear(join(tmp_path / "all.flac", *parts))
    np.testing.assert_array_equal(samples[:, 0], np.concatenate([sf.read(part, dtype="float32")[0] for part in parts]))
    assert found.lost == 0
    content = bytearray((tmp_path / "all.flac").read_bytes())
    place = len(parts[0].read_bytes()) + 50_000  # damage is still damage
    content[place : place + 40] = bytes(40)
    (tmp_path / "hurt.flac").write_bytes(content)
    samples, found = hear(tmp_path / "hurt.flac")
    assert 0.1 < found.lost < 0.6
    assert len(samples) / 16_000 == pytest.approx(20 - found.lost, abs=0.02)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_a_link_of_one_channel_after_several_is_heard_as_the_same_in_all(tmp_path, speech, suffix, rate):
    both = np.stack((speech, 0.5 * speech), axis=1)
    for name, part in (("stereo", both), ("mono", speech), ("dual", np.stack((speech, speech), axis=1))):
        sf.write(tmp_path / f"{name}.{suffix}", part, rate)
    found, expected = (
        hear(join(tmp_path / f"{name}-{last}.{suffix}", *(tmp_path / f"{one}.{suffix}" for one in (name, last, name))))[0]
        for name, last in (("stereo", "mono"), ("stereo", "dual"))
    )
    if suffix == "flac":
        np.testing.assert_array_equal(found, expected)
    assert len(found) == pytest.approx(len(expected), abs=200)
    length = min(len(found), len(expected))
    error = np.square(found[:length] - expected[:length]).mean() / np.square(expected).mean()
    assert 10 * np.log10(error + 1e-12) < -15  # a lossy coder writes both alike, but not the same


@pytest.mark.parametrize(("name", "kind"), [("a.wav", "WAV"), ("m4a_art.m4a", "MP4"), ("a.mkv", "film")])
def test_a_second_file_that_would_not_be_heard_is_refused(tmp_path, speech, name, kind):
    if name == "a.wav":
        sf.write(tmp_path / name, speech, 16_000)
    else:
        shutil.copy(next(CASES.rglob(name)), tmp_path / name)
    with pytest.raises(InputError, match=f"another {kind} follows after its end, and would not be heard"):
        hear(join(tmp_path / f"both{name}", tmp_path / name, tmp_path / name))


def test_sound_beyond_a_stale_data_chunk_is_refused(tmp_path, speech):
    sf.write(tmp_path / "a.wav", speech, 16_000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = (32_000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match="128,000 bytes that its data chunk does not count follow"):
        hear(tmp_path / "a.wav")


@pytest.mark.parametrize("stated", [0, 36, 10**9])
def test_a_wrong_riff_size_beside_a_right_data_chunk_is_no_truncation(tmp_path, speech, stated):
    sf.write(tmp_path / "a.wav", speech, 16_000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = stated.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content + b"LIST\x04\0\0\0abcd")
    samples, found = hear(tmp_path / "a.wav")
    assert (len(samples), found.unfinished) == (len(speech), "")


def cut(name: str, share: float, tmp_path: Path) -> Path:
    source = next(CASES.rglob(name))
    (tmp_path / name).write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
    return tmp_path / name


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", ["wavc_pcm_s24le.wav", "rf64.wav", "a.w64", "a.aiff", "a.au", "left.flac", "a.mkv"])
def test_a_file_that_is_cut_says_how_much_of_it_is_there(tmp_path, name, share):
    with pytest.raises(InputError, match=r"truncated: [\d.]+ of [45]\.\d\d s can be read; fetch the file again") as caught:
        hear(cut(name, share, tmp_path))
    heard, whole = (float(word) for word in str(caught.value).split("truncated: ")[1].split(" s ")[0].split(" of "))
    assert heard / whole == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("name", ["mp3_two_id3.mp3", "a.caf", "m4a_art.m4a"])
def test_so_does_one_whose_bytes_are_not_spread_evenly(tmp_path, name):
    with pytest.raises(InputError, match=r"truncated: [\d.,]+ of [\d.,]+ (s can be read|bytes are there); fetch the file again"):
        hear(cut(name, 0.3, tmp_path))


@pytest.mark.parametrize("name", ["a.ts", "adts_44100_then_22050_7.1s.aac", "abr_no_xing_4.05s.mp3", "webm_live.webm"])
def test_what_states_no_length_is_counted_to_its_end(tmp_path, name):
    whole, _ = hear(next(CASES.rglob(name)))
    samples, _ = hear(cut(name, 0.6, tmp_path))
    assert 0.3 < len(samples) / len(whole) < 0.9


def test_an_ogg_without_its_end_mark_is_read_and_said_to_be_unfinished(tmp_path):
    assert hear(cut("a.oga", 0.6, tmp_path))[1].unfinished in ("its last page is cut", "its end mark is missing")


@pytest.mark.parametrize(("suffix", "damaged"), [("flac", 40), ("mp3", 1500), ("ogg", 40)])
def test_damage_is_lost_and_the_rest_is_heard(tmp_path, speech, suffix, damaged):
    path = tmp_path / f"a.{suffix}"
    sf.write(path, np.tile(speech, 4), 16_000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + damaged] = np.random.default_rng(0).bytes(damaged)
    path.write_bytes(content)
    samples, found = hear(path, DecodingParams(max_lost_share=0.3))
    assert 0 < found.lost < 6
    assert found.seconds + found.lost == pytest.approx(20, abs=0.3)
    assert np.abs(samples).max() < 1.2  # damage is no sound
    with pytest.raises(InputError, match=r"damaged: [\d.]+ of [\d.]+ s cannot be decoded"):
        hear(path, DecodingParams(max_lost_share=0.0))


def test_times_are_those_of_the_file(tmp_path):
    """Sound that begins late, and sound with a gap."""
    tone = (0.3 * np.sin(np.arange(48_000 * 3) / 15)).astype(np.float32)

    def film(place: Path, starts: list[float]) -> Path:
        with av.open(str(place), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
            for start in starts:
                frame = av.AudioFrame.from_ndarray((tone[None] * 32_767).astype(np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), round(start * 48_000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return place

    _, late = hear(film(tmp_path / "late.mkv", [2.0]))
    assert late.clock == [(0, pytest.approx(2.0, abs=0.05))]
    samples, gap = hear(film(tmp_path / "gap.mkv", [0.0, 5.0]))
    assert [time for _, time in gap.clock] == [0, pytest.approx(5.0, abs=0.05)]
    assert gap.clock[1][0] / 16_000 == pytest.approx(3.0, abs=0.05)
    assert len(samples) / 16_000 == pytest.approx(6.0, abs=0.1)


def test_a_mended_file_reads_like_one_that_lies_there():
    content, claim = bytes(range(200)), Claim(cut_at=150, tail=b"tail", head=b"HEAD", links=[0, 20])
    for link, expected in ((0, b"HEAD" + content[4:20]), (1, content[20:150] + b"tail")):
        claim.head = b"HEAD" if link == 0 else b""
        mended = Mended(io.BytesIO(content), claim, link)
        whole = b""
        while part := mended.read(7):
            whole += part
        assert whole == expected
        assert mended.seek(-6, io.SEEK_END) == len(expected) - 6
        assert mended.read(2) + mended.read() + mended.read() == expected[-6:]


def test_claims_of_random_bytes_are_none():
    rng = np.random.default_rng(1)
    for magic in (
        b"RIFF\0\0\0\0WAVE",
        b"FORM",
        b"caff",
        b"riff",
        b"fLaC",
        b"ID3",
        b"\0\0\0\x20ftyp",
        b"\x1a\x45\xdf\xa3",
        b"OggS",
        b".snd",
        b"\xff\xfb",
        b"NIST_1A\n   1024\n",
        b"wvpk",
        b"#!AMR\n",
        b"\0\0\x01\xba",
    ):
        for size in (0, 1, 7, 40, 300):
            assert isinstance(examine(io.BytesIO(magic + rng.bytes(size))), Claim)


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF - 44])
def test_a_stream_that_could_not_know_its_length_is_read(tmp_path, speech, size):
    sf.write(tmp_path / "a.wav", speech, 16_000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    samples, found = hear(tmp_path / "a.wav")
    assert (len(samples), found.unfinished) == (len(speech), "its header states no length")


LIST = b"LIST\x04\0\0\0abcd"
TAILS = {
    "chunk and zeros": LIST + bytes(1000), "chunk and ID3v1": LIST + b"TAG" + bytes(125), "APE tag": b"APETAGEX" + bytes(100),
    "odd chunk without its pad byte": b"iXML\x05\0\0\0abcde" + LIST, "cut chunk": b"LIST\x0a\0\0\0abcd",
    "note": b"a note of twenty-eight bytes",
}  # fmt: skip


@pytest.mark.parametrize("tail", TAILS)
def test_what_programs_leave_after_the_sound_is_no_sound(tmp_path, speech, tail):
    sf.write(tmp_path / "a.wav", speech, 16_000, subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes() + TAILS[tail])
    assert len(hear(tmp_path / "a.wav")[0]) == len(speech)


@pytest.mark.parametrize("between", [bytes(4096), b"TAG", b"ID3"])
def test_sound_after_silence_or_what_looks_like_a_tag_is_not_left_unheard(tmp_path, speech, between):
    sf.write(tmp_path / "a.wav", speech, 16_000, subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:40] + (32_000).to_bytes(4, "little") + content[44:32_044] + between + content[44:])
    with pytest.raises(InputError, match="bytes that its data chunk does not count follow"):
        hear(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.aiff", "a.caf", "a.w64"])
def test_a_container_that_goes_on_after_its_end_is_refused(tmp_path, name):
    path = CASES / "formats-that-work" / name
    with pytest.raises(InputError, match=r"another (AIFF|CAF|W64) follows after its end, and would not be heard"):
        hear(join(tmp_path / name, path, path))


@pytest.mark.parametrize(("level", "reason"), [(3.3e38, "that is no sound"), (1e-40, "silent from end to end")])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_floats_that_are_no_samples_are_refused(tmp_path, level, reason, rate):
    signs = np.sign(np.random.default_rng(0).standard_normal(rate))
    sf.write(tmp_path / "a.wav", (level * signs).astype(np.float32), rate, subtype="FLOAT")
    with pytest.raises(InputError, match=reason):
        hear(tmp_path / "a.wav")


def test_a_wrong_byte_rate_changes_nothing(tmp_path, speech):
    sf.write(tmp_path / "a.wav", speech, 16_000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[28:32] = (64_000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert len(hear(tmp_path / "a.wav")[0]) == len(speech)
    assert decode.probe(tmp_path / "a.wav", DECODING)[0] == pytest.approx(5.0)
