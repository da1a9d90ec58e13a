from pathlib import Path

import pytest

from earmark import InputError
from earmark.corpora import asvspoof
from earmark.corpora.checks import find_missing, find_surplus

FILES = {"train": "train.trn", "dev": "dev.trl", "eval": "eval.trl"}


def lay_out_2019(root: Path, tone) -> None:
    folder = root / "LA" / "ASVspoof2019_LA_cm_protocols"
    folder.mkdir(parents=True)
    for split, name in FILES.items():
        letter = split[0].upper()
        lines = f"LA_0001 LA_{letter}_1 - - bonafide\nLA_0002 LA_{letter}_2 - {'A11' if split == 'eval' else 'A01'} spoof\n"
        (folder / f"ASVspoof2019.LA.cm.{name}.txt").write_text(lines)
        for number in (1, 2):
            tone(f"LA/ASVspoof2019_LA_{split}/flac/LA_{letter}_{number}.flac")


def test_2019_layout(tmp_path, tone):
    lay_out_2019(tmp_path, tone)
    table = asvspoof.read_2019_la(tmp_path)
    assert not find_missing(table).any()
    assert find_surplus(table) == []
    assert table["split"].tolist() == ["train", "train", "dev", "dev", "eval", "eval"]
    spoof = table[table["utterance_id"] == "LA_E_2"].iloc[0]
    assert (spoof["key"], spoof["attack"], spoof["source"], spoof["speaker"]) == ("spoof", "A11", "A11", "LA_0002")
    assert table[table["key"] == "bonafide"][["attack", "source"]].isna().all(axis=None)
    assert asvspoof.read_2019_la(tmp_path / "LA").equals(table)


def test_2019_counts_of_the_real_protocol(tmp_path, unpack):
    for name in FILES.values():
        file = f"ASVspoof2019.LA.cm.{name}.txt"
        unpack(f"{file}.gz", tmp_path / "LA" / "ASVspoof2019_LA_cm_protocols" / file)
    table = asvspoof.read_2019_la(tmp_path)
    counts = table.groupby(["split", "key"]).size().to_dict()
    assert counts == {
        ("train", "bonafide"): 2580, ("train", "spoof"): 22800,
        ("dev", "bonafide"): 2548, ("dev", "spoof"): 22296,
        ("eval", "bonafide"): 7355, ("eval", "spoof"): 63882,
    }  # fmt: skip
    attacks = table.groupby("split")["attack"].apply(lambda names: sorted(names.dropna().unique()))
    assert attacks["train"] == attacks["dev"] == [f"A{n:02}" for n in range(1, 7)]
    assert attacks["eval"] == [f"A{n:02}" for n in range(7, 20)]
    assert table["utterance_id"].is_unique


def write_keys(root: Path, track: str, *lines: str) -> None:
    path = root / "keys" / track / "CM" / "trial_metadata.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")


def test_2021_la_layout(tmp_path, tone):
    write_keys(
        tmp_path, "LA",
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
        "LA_0020 LA_E_1000147 g722 loc_tx bonafide bonafide only_speech hidden",
        "LA_0020 LA_E_1000148 g722 loc_tx - - trim progress",
    )  # fmt: skip
    tone("ASVspoof2021_LA_eval/flac/LA_E_9332881.flac")
    tone("ASVspoof2021_LA_eval/flac/LA_E_1000147.flac")
    table = asvspoof.read_2021_la(tmp_path)
    assert not find_missing(table).any()
    assert table["utterance_id"].tolist() == ["LA_E_9332881", "LA_E_1000147"], "the trial without key is left out"
    assert (table["split"] == "eval").all()
    assert table["subset"].tolist() == ["eval", "hidden"]
    assert table.iloc[0][["codec", "transmission", "trim", "source"]].tolist() == ["alaw", "ita_tx", "notrim", "A07"]
    assert table.iloc[1][["attack", "source"]].isna().all()


def test_2021_df_layout(tmp_path, tone):
    write_keys(
        tmp_path, "DF",
        "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -",
        "TEF2 DF_E_2000026 mp3m4a vcc2020 Task1-team20 spoof notrim eval neural_vocoder_autoregressive Task1 team20 FF E",
        "TEF2 DF_E_2000027 high_ogg vcc2018 bonafide bonafide notrim eval bonafide - - - E",
    )  # fmt: skip
    for number in (11, 26, 27):
        tone(f"ASVspoof2021_DF_eval/flac/DF_E_20000{number}.flac")
    table = asvspoof.read_2021_df(tmp_path)
    assert not find_missing(table).any()
    assert table["source_corpus"].tolist() == ["asvspoof", "vcc2020", "vcc2018"]
    assert table["source"].fillna("").tolist() == ["A14", "Task1-team20", ""]
    assert table.iloc[1][["compression", "vocoder", "task", "team", "gender_pair", "language"]].tolist() == [
        "mp3m4a", "neural_vocoder_autoregressive", "Task1", "team20", "FF", "E",
    ]  # fmt: skip
    assert table.iloc[0][["task", "team", "language"]].isna().all()


def test_a_line_of_other_fields_is_named(tmp_path):
    write_keys(tmp_path, "LA", "LA_0009 LA_E_1 alaw ita_tx A07 spoof notrim eval", "LA_0009 LA_E_2 alaw spoof")
    with pytest.raises(InputError, match=r"trial_metadata.txt, line 2: 4 fields instead of 8"):
        asvspoof.read_2021_la(tmp_path)


def test_missing_keys_are_named(tmp_path):
    with pytest.raises(InputError, match=r"keys.DF.CM.trial_metadata.txt does not exist"):
        asvspoof.read_2021_df(tmp_path)
