from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr

from earmark.copies.copysynthesis import SYSTEMS, list_systems, render
from earmark.doctor import twins
from earmark.doctor.bounds import BOUNDS
from earmark.doctor.examine import examine_all
from earmark.doctor.fingerprint import Print, differing_bits, find_pairs, fingerprint
from earmark.doctor.likeness import compare
from earmark.doctor.twins import Twins, find_twins
from earmark.params import DecodingParams

RATE = 16_000
OWN_PHASES = ("world", "world_coded", "griffin_lim_linear", "griffin_lim_mel", "lpc_vocoder", "phase_vocoder", "psola", "mel_source_filter")


@pytest.fixture(scope="module")
def voices(clean) -> list[np.ndarray]:
    paths = sorted(clean.glob("*.flac"))[:4]
    return [np.tile(sf.read(path, dtype="float32")[0], 2) for path in paths]


def lay_out(root: Path, sounds: dict[str, np.ndarray], labels: dict[str, tuple[str, str | None]]) -> pd.DataFrame:
    for name, sound in sounds.items():
        sf.write(root / f"{name}.flac", sound, RATE, subtype="PCM_16")
    rows = [(name, *labels[name], str(root / f"{name}.flac")) for name in sounds]
    table = pd.DataFrame(rows, columns=["utterance_id", "key", "source", "path"])
    return pd.concat([table, examine_all(table["path"].tolist(), 40.0, DecodingParams())], axis=1)


def copies(voices: list[np.ndarray], root: Path, systems: list[str], named: bool) -> Twins:
    """Twins among recordings and their copies by systems; without names, all spoofs are of unknown source."""
    sounds, labels = {}, {}
    for number, voice in enumerate(voices):
        sounds[f"{number}"], labels[f"{number}"] = voice, ("bonafide", None)
        for system in systems:
            sounds[f"{number}-{system}"] = np.clip(render(system, voice, number), -1, 1)
            labels[f"{number}-{system}"] = ("spoof", system if named else None)
    return find_twins(lay_out(root, sounds, labels), DecodingParams())


def test_copy_synthesis_is_no_repetition(voices, tmp_path):
    systems = list_systems()
    assert len(systems) >= len(SYSTEMS) - 2
    twins = copies(voices[:2], tmp_path, systems, named=True)
    assert (twins.near, twins.identical) == ([], [])


def test_a_copy_made_here_is_no_conflict_with_its_recording_but_a_corpus_own_is(voices, tmp_path):
    labels = {"a": ("bonafide", None), "b": ("spoof", "mulaw_sampling")}
    table = lay_out(tmp_path, {"a": voices[0], "b": 0.5 * voices[0]}, labels)
    assert find_twins(table, DecodingParams()).identical == [[0, 1]]
    assert find_twins(table.assign(copied=[False, True]), DecodingParams()).identical == []


def test_copies_with_phases_of_their_own_are_no_repetition_even_under_one_label(voices, tmp_path):
    twins = copies(voices, tmp_path, [name for name in OWN_PHASES if name in list_systems()], named=False)
    assert (twins.near, twins.identical) == ([], [])


@pytest.mark.parametrize(
    ("label", "near", "identical"),
    [(("bonafide", None), [[0, 1]], []), (("spoof", "x"), [], [[0, 1]]), (("spoof", None), [], [[0, 1]])],
)
def test_another_level_and_length_under_one_label_or_two(voices, tmp_path, label, near, identical):
    sounds = {"a": voices[0], "b": -0.3 * voices[0][1234:-300], "c": voices[1]}
    table = lay_out(tmp_path, sounds, {"a": ("bonafide", None), "b": label, "c": ("bonafide", None)})
    twins = find_twins(table, DecodingParams())
    assert (twins.near, twins.identical) == (near, identical)


def test_a_recording_encoded_by_a_spoofing_codec_is_no_label_conflict(voices, tmp_path):
    sounds = {"a": voices[0], "b": render("codec_opus", voices[0], 0)}
    spoofed = lay_out(tmp_path, sounds, {"a": ("bonafide", None), "b": ("spoof", "codec")})
    assert find_twins(spoofed, DecodingParams()) == Twins()


def test_bounds_move_the_threshold(voices, tmp_path, monkeypatch):
    table = lay_out(tmp_path, {"a": voices[0], "b": voices[0][len(voices[0]) * 2 // 5 :]}, dict.fromkeys("ab", ("bonafide", None)))
    assert find_twins(table, DecodingParams()).near == [[0, 1]]
    noisy = voices[0] + 0.35 * voices[0].std() * np.random.default_rng(0).standard_normal(len(voices[0])).astype(np.float32)
    table = lay_out(tmp_path, {"a": voices[0], "b": noisy}, dict.fromkeys("ab", ("bonafide", None)))
    assert find_twins(table, DecodingParams()).near == [[0, 1]]
    monkeypatch.setattr(twins, "BOUNDS", BOUNDS._replace(min_correlation=0.99))
    assert find_twins(table, DecodingParams()).near == []


def test_fingerprints_survive_cuts_and_another_rate(voices):
    slow = soxr.resample(soxr.resample(voices[0], RATE, 8_000), 8_000, RATE)
    prints = [fingerprint(sound) for sound in (voices[0], voices[0][1777:], slow, voices[1], voices[2])]
    pairs = find_pairs(prints, 0.8)
    assert {(pair.first, pair.second) for pair in pairs} == {(0, 1), (0, 2), (1, 2)}
    assert {pair.lag for pair in pairs if pair.second == 1} <= {6, 7}  # 1,777 samples are 6.9 frames


def test_many_forms_of_a_recording_and_no_word_at_all(voices):
    prints = [fingerprint(voices[0] * 0.9**n + 0) for n in range(12)]
    found = {(pair.first, pair.second) for pair in find_pairs(prints, 0.8)}
    assert {(n, n + 1) for n in range(11)} <= found
    assert find_pairs([], 0.8) == []
    assert find_pairs([fingerprint(np.zeros(800, np.float32))] * 2, 0.8) == []


def test_fingerprints_are_kept_whole_in_a_table(voices):
    kept = fingerprint(voices[0])
    again = Print.unpack(*kept.pack())
    assert np.array_equal(kept.words, again.words)
    assert np.array_equal(kept.active, again.active)
    assert differing_bits(kept, again, 0, 0.8) == 0
    assert differing_bits(kept, again, len(kept.words) // 2, 0.8) == 1


def test_likeness_says_lag_and_bands(voices):
    like = compare(voices[0], 0.5 * voices[0][320:])
    assert like.lag_seconds == pytest.approx(0.02)
    assert like.identical
    other = compare(voices[0], voices[1])
    assert other.correlation < 0.5
    assert not other.identical
