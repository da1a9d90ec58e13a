import importlib.util
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from earmark import InputError
from earmark.copies.copysynthesis import NEED_WORLD, SYSTEMS, list_systems, render, synthesize, synthesize_folder
from earmark.corpora import folder
from earmark.corpora.checks import find_missing
from earmark.params import DecodingParams

WORLD = importlib.util.find_spec("pyworld") is not None
RATE = 16_000


def speech(seconds: float = 1.0, pitch: float = 120.0, seed: int = 0) -> np.ndarray:
    """Something voiced with pauses of noise: a pulse train through two resonances."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * n * time) * np.exp(-(((pitch * n - 600) / 500) ** 2)) for n in range(1, 50))
    voiced = np.sin(2 * np.pi * 1.5 * time) > -0.5
    return (0.1 * wave * voiced + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def lay_out(root: Path, splits=("train", "train", "dev", "eval")) -> pd.DataFrame:
    (root / "audio").mkdir(parents=True)
    rows = ["utterance_id\tpath\tkey\tspeaker\tgroup\tsplit\tlanguage"]
    for number, split in enumerate(splits):
        sf.write(root / f"audio/{number}.wav", speech(0.5, 100 + 20 * number, number), RATE)
        rows.append(f"u{number}\taudio/{number}.wav\tbonafide\ts{number}\tg{number}\t{split}\ten")
    (root / "protocol.tsv").write_text("\n".join(rows) + "\n")
    return folder.read(root)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_copies_at_the_same_length_and_level(system):
    if system in NEED_WORLD and not WORLD:
        pytest.skip("needs pyworld: pip install 'earmark[demo]'")
    wave = speech()
    copy = render(system, wave, seed=7)
    assert copy.shape == wave.shape
    assert copy.dtype == np.float32
    assert np.isfinite(copy).all()
    assert np.sqrt((copy**2).mean()) == pytest.approx(np.sqrt((wave**2).mean()), rel=1e-3)
    assert np.abs(copy - wave).max() > 0.05 * np.abs(wave).max()
    assert np.array_equal(copy, render(system, wave, seed=7))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("length", [800, 1601, 5003])
def test_every_system_bears_short_noise_and_near_silence(system, length):
    if system in NEED_WORLD and not WORLD:
        pytest.skip("needs pyworld: pip install 'earmark[demo]'")
    noise = 1e-4 * np.random.default_rng(0).standard_normal(length).astype(np.float32)
    noise[: length // 2] = 0
    copy = render(system, noise, seed=1)
    assert copy.shape == noise.shape
    assert np.isfinite(copy).all()


def test_copies_keep_their_place_in_time():
    wave = np.zeros(RATE, np.float32)
    wave[RATE // 2 : RATE // 2 + 4000] = speech(0.25)
    for system in list_systems():
        copy = render(system, wave, seed=1)
        assert np.average(np.arange(RATE), weights=copy**2) == pytest.approx(np.average(np.arange(RATE), weights=wave**2), abs=800), system


def test_labels_and_splits_of_the_corpus_made(tmp_path):
    rows = lay_out(tmp_path / "voices")
    synthesize(rows, ["griffin_lim_linear", "psola"], ["sinusoidal"], None, 1, DecodingParams(), tmp_path / "spoofs", workers=1)
    table = folder.read(tmp_path / "spoofs")
    assert not find_missing(table).any()
    assert len(table) == 4 * 2 + 2
    assert table["utterance_id"].is_unique
    assert (table["key"] == "spoof").all()
    assert table["copied"].all()
    assert (table["kind"] == "copysynthesis").all()
    unseen = table[table["source"] == "sinusoidal"]
    assert sorted(unseen["split"]) == ["dev", "eval"]
    assert not unseen["in_domain"].any()
    assert table["in_domain"][table["source"] != "sinusoidal"].all()
    first = table[table["utterance_id"] == "u0-psola"].iloc[0]
    assert first[["speaker", "group", "split", "language"]].tolist() == ["s0", "g0", "train", "en"]
    assert Path(first["path"]).relative_to(tmp_path) == Path("spoofs/spoof/psola/u0.flac")
    assert sf.info(first["path"]).samplerate == RATE
    assert sf.info(first["path"]).frames == RATE // 2


def test_systems_take_turns(tmp_path):
    rows = lay_out(tmp_path / "voices", ["train"] * 6)
    synthesize(rows, ["mulaw_sampling", "mel_wiener", "subband_images"], [], 1, 1, DecodingParams(), tmp_path / "spoofs", workers=1)
    assert folder.read(tmp_path / "spoofs")["source"].value_counts().tolist() == [2, 2, 2]


def test_processes_make_the_same_bytes(tmp_path):
    rows = lay_out(tmp_path / "voices")
    for workers in (1, 2):
        synthesize(rows, ["mulaw_sampling", "codec_opus"], [], None, 1, DecodingParams(), tmp_path / str(workers), workers=workers)
    one, two = ({p.relative_to(tmp_path / w): p.read_bytes() for p in (tmp_path / w).rglob("*.*")} for w in "12")
    assert one == two
    synthesize(rows, ["mulaw_sampling"], [], None, 2, DecodingParams(), tmp_path / "3", workers=1)
    assert one[Path("spoof/mulaw_sampling/u0.flac")] != (tmp_path / "3/spoof/mulaw_sampling/u0.flac").read_bytes()


def test_unreadable_recordings_are_said_and_left_out(tmp_path, caplog):
    rows = lay_out(tmp_path / "voices")
    (tmp_path / "voices/audio/1.wav").write_text("no audio")
    with caplog.at_level(logging.WARNING):
        synthesize(rows, ["mulaw_sampling"], [], None, 1, DecodingParams(), tmp_path / "spoofs", workers=1)
    assert "1 recordings cannot be decoded" in caplog.text
    assert "1.wav" in caplog.text
    assert sorted(folder.read(tmp_path / "spoofs")["utterance_id"]) == [f"u{n}-mulaw_sampling" for n in (0, 2, 3)]


def test_nothing_is_left_when_nothing_can_be_copied(tmp_path):
    rows = lay_out(tmp_path / "voices", ["train"])
    (tmp_path / "voices/audio/0.wav").write_text("no audio")
    with pytest.raises(InputError, match="none of 1 recordings"):
        synthesize(rows, ["mulaw_sampling"], [], None, 1, DecodingParams(), tmp_path / "spoofs", workers=1)
    with pytest.raises(InputError, match="no bona fide rows"):
        synthesize(rows[:0], ["mulaw_sampling"], [], None, 1, DecodingParams(), tmp_path / "spoofs", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["voices"]


@pytest.mark.parametrize(("known", "unseen"), [(["wavenet"], []), (["psola"], ["psola"])])
def test_wrong_systems_are_refused(tmp_path, known, unseen):
    with pytest.raises(InputError, match="system"):
        synthesize(lay_out(tmp_path / "voices", ["train"]), known, unseen, None, 1, DecodingParams(), tmp_path / "spoofs")


def test_any_folder_becomes_a_corpus_that_stands_alone(tmp_path):
    for place in ("a b.wav", "deep/x.wav", "deep_x.wav"):
        path = tmp_path / "mine" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, np.stack([speech(0.5)] * 2, axis=1), RATE)
    synthesize_folder(tmp_path / "mine", tmp_path / "corpus", ["psola", "codec_mp3"], workers=1)
    table = folder.read(tmp_path / "corpus")
    assert not find_missing(table).any()
    assert table["key"].value_counts().to_dict() == {"spoof": 6, "bonafide": 3}
    assert table["path"].is_unique
    assert (table.groupby("group").size() == 3).all(), "a recording and its copies stay together when split"
    assert table["copied"].tolist() == [False] * 3 + [True] * 6
    assert all(sf.info(path).channels == 1 for path in table["path"])


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no recordings"):
        synthesize_folder(tmp_path, tmp_path / "corpus")
    with pytest.raises(InputError, match="is no folder"):
        synthesize_folder(tmp_path / "nothing", tmp_path / "corpus")


def test_what_lies_in_the_folder_to_write_is_kept(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there and not empty: name a new folder"):
        synthesize_folder(tmp_path, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
