import hashlib
from pathlib import Path

import pytest
import soundfile as sf

from earmark import InputError
from earmark.copies import voices
from earmark.copies.copysynthesis import synthesize
from earmark.corpora.checks import check_needs
from earmark.corpora.prepare import prepare
from earmark.params import CorpusParams, DecodingParams

pytest.importorskip("espeakng_loader", reason="needs espeak-ng: pip install 'earmark[demo]'")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("demo") / "voices"
    voices.speak(place)
    return place


def digest(root: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(root.rglob("*.*")))).hexdigest()


def corpus(root: Path) -> CorpusParams:
    return CorpusParams(adapter="folder", root=str(root))


def test_voices_stand_in_and_share_no_speaker_or_sentence_across_splits(spoken):
    table = prepare([corpus(spoken)], seed=0, dev_fraction=0.2, eval_fraction=0.2)
    assert table["split"].value_counts().to_dict() == {"train": 112, "dev": 40, "eval": 40}
    assert table["speaker"].nunique() == 24
    assert (table.groupby("speaker")["split"].nunique() == 1).all()
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert (table["key"] == "bonafide").all()
    assert "STANDING IN" in (spoken / "README.txt").read_text()


def test_clips_are_16_khz_speech_of_a_few_seconds_and_all_differ(spoken):
    files = sorted(spoken.rglob("*.flac"))
    assert len({path.read_bytes() for path in files}) == len(files) == 192
    for path in files:
        sound = sf.info(path)
        assert (sound.samplerate, sound.channels, sound.subtype) == (16_000, 1, "PCM_16")
        assert 1.5 < sound.duration < 5
        assert 0.05 < abs(sf.read(path)[0]).max() < 0.98, "no clip is silent or clipped"


def test_two_runs_make_the_same_bytes(spoken, tmp_path):
    voices.speak(tmp_path / "again")
    assert digest(tmp_path / "again") == digest(spoken)


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    (tmp_path / "own.wav").write_bytes(b"mine")
    with pytest.raises(InputError, match="is there and not empty"):
        voices.speak(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own.wav"]


def test_an_unknown_voice_is_named():
    with pytest.raises(InputError, match="no voice xx-nowhere"):
        voices.Engine().choose("xx-nowhere")


def test_voices_and_their_copies_make_a_corpus_to_train_on(spoken, tmp_path):
    table = prepare([corpus(spoken)], seed=0, dev_fraction=0.2, eval_fraction=0.2)
    four = table[table["group"].isin(["train0", "dev0", "eval0"])].groupby("split").head(2)
    synthesize(four, ["griffin_lim_mel", "lpc_vocoder"], ["codec_g723"], 1, 0, DecodingParams(), tmp_path / "spoofs", workers=1)
    both = prepare([corpus(spoken), corpus(tmp_path / "spoofs")], seed=0, dev_fraction=0.2, eval_fraction=0.2)
    check_needs(both)
    assert both["copied"].sum() == 6 + 4
    assert set(both["source"][both["split"] == "train"].dropna()) == {"griffin_lim_mel", "lpc_vocoder"}
    assert not both["in_domain"][both["source"] == "codec_g723"].any()
