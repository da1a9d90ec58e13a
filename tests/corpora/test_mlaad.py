import logging
import zipfile
from pathlib import Path

import pytest

from earmark import InputError
from earmark.corpora import mlaad
from earmark.corpora.checks import find_missing

HEADER = "path|original_file|language|is_original_language|duration|training_data|model_name|architecture|transcript"


def test_meta_layout_with_broken_quotes_and_new_columns(tmp_path, tone):
    tone("fake/de/tts_models_de_x/faust_01_f000001.wav")
    tone("fake/de/tts_models_de_x/faust_01_f000002.wav")
    tone("fake/en/Mars5/dracula_02_f000003.wav")
    name = "faust_01_f00000{0}.wav"
    row = f"./fake/de/tts_models_de_x/{name}|de_DE/faust/wavs/{name}|de|True|1.5|css10|tts_models/de/x|VITS|{{1}}"
    lines = [HEADER, row.format(1, 'Er sprach: "Habe nun, ach'), row.format(2, 'ein "zweites" Wort')]
    (tmp_path / "fake/de/tts_models_de_x/meta.csv").write_text("\n".join(lines) + "\n")
    newer = "fake/en/Mars5/dracula_02_f000003.wav|en/dracula_02_f000003.wav|en|False|2.0|-|Mars5|Mars5|Yes.|en/other.wav"
    (tmp_path / "fake/en/Mars5/meta.csv").write_text(f"{HEADER}|reference_speaker\n{newer}\n")
    table = mlaad.read(tmp_path)
    assert not find_missing(table).any()
    assert table["source"].tolist() == ["tts_models/de/x", "tts_models/de/x", "Mars5"]
    assert table["utterance_id"].tolist()[2] == "fake/en/Mars5/dracula_02_f000003.wav"
    assert table["group"].tolist() == ["faust_01_f000001", "faust_01_f000002", "dracula_02_f000003"]
    assert table["language"].tolist() == ["de", "de", "en"]
    assert (table["key"] == "spoof").all()
    assert table["reference_speaker"].fillna("").tolist() == ["", "", "en/other.wav"]
    assert "transcript" not in table
    assert table["split"].isna().all()


def test_meta_row_of_other_fields_is_named(tmp_path):
    (tmp_path / "fake/en/Mars5").mkdir(parents=True)
    (tmp_path / "fake/en/Mars5/meta.csv").write_text(f"{HEADER}\na.wav|b|en\n")
    with pytest.raises(InputError, match=r"Mars5.meta.csv, row 2: 3 fields instead of 9"):
        mlaad.read(tmp_path)


def test_source_tracing_layout(tmp_path, tone):
    known, unseen = "./fake/en/Mars5/a_1.wav,Mars5\n", "./fake/fr/Bark/b_2.wav,suno/bark\n"
    base = tmp_path / mlaad.PROTOCOL_FOLDER
    (base / "fine").mkdir(parents=True)
    (base / "train.csv").write_text("path,model_name\n" + known.replace("a_1", "a_0"))
    (base / "dev.csv").write_text("path,model_name\n" + unseen)
    (base / "eval.csv").write_text("path,model_name\n" + known + known + "./fake/fr/New/c_3.wav,New\n")
    (base / "fine/eval___lang_seen___model_not_seen.csv").write_text("path,model_name\n" + known)
    for place in ("en/Mars5/a_0", "en/Mars5/a_1", "fr/Bark/b_2", "fr/New/c_3"):
        tone(f"fake/{place}.wav")
    table = mlaad.read_source_tracing(tmp_path)
    assert not find_missing(table).any()
    assert table["split"].tolist() == ["train", "dev", "eval", "eval"]
    assert table["in_domain"].tolist() == [True, False, True, False]
    assert table["misfiled"].tolist() == ["False", "False", "True", "False"]
    assert table["strictly_unseen"].tolist() == ["False", "False", "False", "True"]
    assert table["language"].tolist() == ["en", "fr", "en", "fr"]
    assert table["quadrant"].fillna("").tolist() == ["", "", "lang_seen model_not_seen", ""]


@pytest.fixture(scope="module")
def real_root(shared: Path, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mlaad")
    with zipfile.ZipFile(shared / "data" / "protocols" / "mlaad4sourcetracing.zip") as archive:
        archive.extractall(root / mlaad.PROTOCOL_FOLDER)
    return root


def test_counts_of_the_real_source_tracing_protocol(real_root, caplog):
    with caplog.at_level(logging.INFO):
        table = mlaad.read_source_tracing(real_root)
    assert "109 repeated rows dropped" in caplog.text
    assert "'eval': 109" in caplog.text
    assert table["split"].value_counts().to_dict() == {"train": 11100, "dev": 12000, "eval": 33791}
    assert table["source"][table["split"] == "train"].nunique() == 24
    counts = table.groupby(["split", "in_domain"]).size().to_dict()
    assert counts == {("train", True): 11100, ("dev", True): 4800, ("dev", False): 7200, ("eval", True): 13482, ("eval", False): 20309}
    assert table["source"][table["strictly_unseen"] == "True"].nunique() == 41
    assert (table["misfiled"] == "True").sum() == 91
    assert table["source"][table["misfiled"] == "True"].unique().tolist() == ["tts_models/en/ljspeech/vits--neon"]
    assert table["quadrant"][table["split"] != "train"].notna().all()
    assert table["utterance_id"].is_unique


def test_the_layout_without_own_folder_reads_the_same(real_root):
    below = mlaad.read_source_tracing(real_root)
    alone = mlaad.read_source_tracing(real_root / mlaad.PROTOCOL_FOLDER)
    assert alone.drop(columns="path").equals(below.drop(columns="path"))


def test_a_folder_without_meta_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no fake/<language>/<model>/meta\.csv"):
        mlaad.read(tmp_path)
