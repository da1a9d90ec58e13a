import gzip
import logging
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from earmark import InputError
from earmark.evaluation.join import join
from earmark.evaluation.scorefile import protocol_of, read_asv_scores, read_protocol, read_scores
from earmark.storage.files import write_table

SCORES = Path(__file__).parent / "scores"  # the same scores of 120 trials as others write them


@pytest.fixture
def write(tmp_path):
    def _write(text, name="file.txt"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return _write


@pytest.mark.parametrize(
    "text",
    [
        "a 1.5\nb -2e-1\n",
        "filename\tcm-score\na\t1.5\nb\t-0.2\n",
        "utterance_id,cm_score\r\na,1.5\r\nb,-0.2\r\n",
        "\ufeffa 1.5\n\n  b -0.2",
    ],
)
def test_plain_scores(write, text):
    assert read_scores(write(text)).to_dict("list") == {"utterance_id": ["a", "b"], "cm_score": [1.5, -0.2]}


def test_keyed_scores_gzipped_negated_and_ids_with_spaces(write):
    table = read_scores(write("a A00 bonafide -1\nmy file A07 spoof 2\nc - bona-fide 3\n", "s.txt.gz"), negate=True)
    assert list(table["utterance_id"]) == ["a", "my file", "c"]
    assert list(table["key"]) == ["bonafide", "spoof", "bonafide"]
    assert list(table["cm_score"]) == [1, -2, -3]
    protocol = protocol_of(table, write("x 1"))
    assert list(protocol["attack"].fillna("none")) == ["none", "A07", "none"]  # A00 only says that a row is bona fide
    assert list(protocol["source"].fillna("none")) == ["none", "A07", "none"]


def test_keyed_scores_without_attack(write):
    assert list(read_scores(write("a spoof 1\nb bonafide 2\n"))["key"]) == ["spoof", "bonafide"]


def test_own_scores(tmp_path):
    write_table(tmp_path / "scores.parquet", pd.DataFrame({"utterance_id": ["a", "b"], "cm_score": [1.0, float("nan")]}))
    with pytest.raises(InputError, match=r"scores.parquet, row 2: 1 scores are NaN"):
        read_scores(tmp_path / "scores.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\n\nb x\n", r"file.txt, line 3: 'x' is not a number"),
        ("a 1\nb nan\n", r"file.txt, line 2: 1 scores are NaN or infinite"),
        ("a 1\nb -inf\n", r"file.txt, line 2: 1 scores are NaN or infinite"),
        ("a 1\nb 2\na 3\n", r"file.txt, line 3: 1 ids come twice \(a\)"),
        ("a 1\nb\n", r"line 2: 'b' is no score"),
        ("a - spoof 1\nb - fake 1\n", r"line 2: unknown key 'fake'"),
        ("", "is empty"),
        ("id score\n", "holds no score"),
    ],
)
def test_bad_scores_name_file_and_line(write, text, message):
    with pytest.raises(InputError, match=message):
        read_scores(write(text))


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_scores(tmp_path / "absent.txt")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a 1\n" * 99)[:20])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("cut.gz", "binary"):
        with pytest.raises(InputError, match=f"cannot read .*{name}"):
            read_scores(tmp_path / name)
    with pytest.raises(InputError, match="cannot read"):
        read_protocol(tmp_path)


LISTS = {
    "asvspoof2019_la": "LA_0039 E1 - A11 spoof\nLA_0001 E2 - - bonafide\n",
    "asvspoof2021_la": "LA_0009 E1 alaw ita_tx A07 spoof notrim eval\nLA_0009 E2 none loc_tx bonafide bonafide only_speech progress\n",
    "asvspoof2021_df": "S1 E1 low_mp3 vcc2020 Task1-team20 spoof notrim eval neural_vocoder Task1 team20 F-F E\n"
    "S2 E2 nocodec asvspoof bonafide bonafide notrim progress bonafide - - - -\n",
}


@pytest.mark.parametrize("corpus", LISTS)
def test_lists_of_asvspoof(write, corpus):
    table = read_protocol(write(LISTS[corpus], "list.txt.gz"))
    assert set(table["corpus"]) == {corpus}
    assert list(table["utterance_id"]) == ["E1", "E2"]
    assert list(table["key"]) == ["spoof", "bonafide"]
    assert table["source"][0] == table["attack"][0] == LISTS[corpus].split()[{"asvspoof2019_la": 3}.get(corpus, 4)]
    assert table["attack"].isna()[1]
    assert set(table["split"]) == {"eval"}
    assert ("subset" in table) == corpus.startswith("asvspoof2021")


@pytest.mark.parametrize(
    "text", ["file,speaker,label\n0.wav,Someone,spoof\n1.wav,Some One,bona-fide\n", "0.wav eval spoof\n1.wav eval bonafide\n"]
)
def test_in_the_wild(write, text):
    table = read_protocol(write(text))
    assert set(table["corpus"]) == {"in_the_wild"}
    assert list(table["key"]) == ["spoof", "bonafide"]
    assert table["speaker"].notna().any() == ("Someone" in text)


def test_own_protocols(write, tmp_path):
    table = read_protocol(write("utterance_id\tpath\tkey\tkind\na b\tx.wav\tspoof\ttts\nc\ty.wav\tbonafide\t-\n", "protocol.tsv"))
    assert list(table["utterance_id"]) == ["a b", "c"]
    assert table["kind"].isna()[1]
    write_table(tmp_path / "protocol.parquet", table)
    assert read_protocol(tmp_path / "protocol.parquet").equals(table)


def test_trials_without_key_are_left_out(write, caplog):
    assert len(read_protocol(write("s E1 - A1 spoof\ns E2 - - -\n"))) == 1
    assert "1 trials without key" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s E1 - A1 spoof\ns E2 - - fake\n", "line 2: unknown key 'fake'"),
        ("s E1 - A1 spoof\ns E2 - spoof\n", "line 2: 4 fields instead of 5"),
        ("s E1 - A1 spoof\ns E1 - A1 spoof\n", r"line 2: 1 ids come twice \(E1\)"),
        ("one two\n", "lines of 2 fields are no protocol known here"),
        ("file,label\na,spoof\n", "no column speaker"),
        ("utterance_id\tpath\na\tb\n", "no column key"),
    ],
)
def test_bad_protocols_name_file_and_line(write, text, message):
    with pytest.raises(InputError, match=message):
        read_protocol(write(text))


def test_scores_without_keys_need_a_protocol(write):
    path = write("a 1\n")
    with pytest.raises(InputError, match="name its protocol"):
        protocol_of(read_scores(path), path)


def scores(**values):
    return pd.DataFrame({"utterance_id": list(values), "cm_score": list(values.values())})


def trials(*ids):
    return pd.DataFrame({"utterance_id": ids, "key": "spoof"})


def test_join_is_by_id_not_by_place():
    assert list(join(scores(b=2.0, a=1.0), trials("a", "b"))["cm_score"]) == [1.0, 2.0]


def test_join_ignores_audio_extensions_only_where_it_must():
    scored = pd.DataFrame({"utterance_id": ["d/a.flac", "b.2", "c"], "cm_score": [1.0, 2.0, 3.0]})
    assert list(join(scored, trials("c.WAV", "d/a", "b.2"))["cm_score"]) == [3.0, 1.0, 2.0]
    both = pd.DataFrame({"utterance_id": ["a.wav", "a.flac"], "cm_score": [1.0, 2.0]})
    assert list(join(both, trials("a.flac"))["cm_score"]) == [2.0]
    with pytest.raises(InputError, match="differ only in their extension"):
        join(both, trials("a"))


def test_join_reports_what_either_side_lacks(caplog):
    caplog.set_level(logging.WARNING)
    with pytest.raises(InputError, match=r"2 of 3 trials have no score \(b, c\)"):
        join(scores(a=1.0), trials("a", "b", "c"))
    table = join(scores(a=1.0, z=2.0), trials("a", "b", "c"), max_missing=1.0)
    assert list(table["utterance_id"]) == ["a"]
    assert "2 of 3 trials have no score" in caplog.text
    assert "1 scored ids are not trials to report on (z)" in caplog.text
    with pytest.raises(InputError, match="belong together"):
        join(scores(z=1.0), trials("a"), max_missing=1.0)


def test_join_refuses_keys_that_differ():
    with pytest.raises(InputError, match="1 ids different keys"):
        join(scores(a=1.0).assign(key="bonafide"), trials("a"))


def test_asv_scores(write):
    asv = read_asv_scores(write("bonafide target 2\nbonafide nontarget -1\nA07 spoof 1\n", "asv.txt.gz"))
    assert (asv.target, asv.nontarget, asv.spoof) == ([2], [-1], [1])
    with pytest.raises(InputError, match="line 1: 'a b c' is not"):
        read_asv_scores(write("a b c\n"))
    with pytest.raises(InputError, match="holds no nontarget, spoof scores"):
        read_asv_scores(write("bonafide target 2\n"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nii_log.txt", {}),
        ("nii_only.txt", {}),
        ("paths.txt", {}),
        ("utf16.txt", {}),
        ("csv_label_last.csv", {}),
        ("csv_header_prob.csv", {}),
        ("two_logits.txt", {"column": "2"}),
        ("two_logits.txt", {"column": "-1", "negate": True}),
        ("nii_only.txt", {"column": "score"}),
        ("csv_label_last.csv", {"column": "score"}),
        ("csv_label_last.csv", {"column": "2"}),
    ],
)
def test_score_files_as_others_write_them(name, options):
    trials = read_protocol(SCORES / "prot19.txt")
    table = join(read_scores(SCORES / name, **options), trials)
    expected = join(read_scores(SCORES / "paths.txt"), trials)
    assert len(table) == 120
    assert list(table["cm_score"].rank()) == pytest.approx(list(expected["cm_score"].rank()), abs=3)  # rounded otherwise


def test_two_logits_are_not_guessed():
    with pytest.raises(InputError, match=r"two_logits.txt has several numbers beside an id .*--column.*--negate"):
        read_scores(SCORES / "two_logits.txt")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("a, 1.5\nb, -0.2\n", None),
        ("score,key,file\n1.5,spoof,a\n-0.2,bonafide,b\n", None),
        ("label;prob_real;path\r\n1;1.5;a\r\n0;-0.2;b\r\n", None),
        (",file,prob\n0,a,1.5\n1,b,-0.2\n", None),
        ('"file"\t"score"\t"sd"\n"a"\t1.5\t9\n"b"\t-0.2\t9\n', None),
        ("utt spoof_logit real_logit\na 9 1.5\nb 9 -0.2\n", "real_logit"),
        ("utt spoof_logit real_logit\na 9 1.5\nb 9 -0.2\n", "-1"),
        ("a,9,1.5\nb,9,-0.2\n", "3"),
        ("model\tcheckpoint\na\t1.5\nb\t-0.2", "checkpoint"),
        ("INFO: Output, a, 1, 1.5\nINFO: epoch 3, loss 0.1\nINFO: Output, b, 0, -0.2", None),
        ("Output, a, 1, 9, 1.5\nOutput, b, 0, 9, -0.2", "-1"),
    ],
)
def test_columns_in_any_order(write, text, column):
    table = read_scores(write(text), column=column)
    assert table[["utterance_id", "cm_score"]].to_dict("list") == {"utterance_id": ["a", "b"], "cm_score": [1.5, -0.2]}
    assert ("key" in table) == ("key" in text)


def test_a_column_of_our_own_table(tmp_path):
    write_table(tmp_path / "trials.parquet", pd.DataFrame({"utterance_id": ["a"], "cm_score": [1.0], "llr": [2.0]}))
    assert list(read_scores(tmp_path / "trials.parquet", column="llr")["cm_score"]) == [2.0]
    with pytest.raises(InputError, match="has no column lr; it has utterance_id, cm_score, llr"):
        read_scores(tmp_path / "trials.parquet", column="lr")


def test_commas_in_keyed_lines(write):
    table = read_scores(write("my a,A07,spoof,1\nb,-,bonafide,2\n"))
    assert table.to_dict("list") == {
        "utterance_id": ["my a", "b"], "attack": ["A07", "-"], "key": ["spoof", "bonafide"], "cm_score": [1.0, 2.0]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("file,real,fake\na,1,2\n", None, r"several numbers beside an id \(real, fake\): say with --column"),
        ("file,real,fake\na,1,2\n", "score", r"no column score: it has file, real, fake; give a name, or a number from 1 to 3 or -1 to -3"),
        ("a,1,2\n", "4", r"no column 4: its 3 columns have no names"),
        ("file,key\na,spoof\n", None, r"no column of scores; it has file, key: write one, `score`, or name it with --column"),
        ("file;score\na;0,95\n", None, r"line 2: '0,95' is not a number: write a decimal point"),
        ("a 1 2\nmy b 1 2\n", "2", r"line 2: 4 fields instead of 3: separate them by tabs or commas"),
        ("file,score\na,1\nb\n", None, r"line 3: 1 fields instead of 2"),
        ("file,score,key\na,1,spoof\nb,2,real\n", None, r"line 3: unknown key 'real'"),
        ("Output, a, 1, 2\nOutput, a, 1, 2\n", None, r"line 2: 1 ids come twice \(a\)"),
        ("Output, a, 1, x\n", None, r"line 1: 'x' is not a number"),
    ],
)
def test_columns_that_are_no_scores(write, text, column, said):
    with pytest.raises(InputError, match=said):
        read_scores(write(text), column=column)


def test_a_column_that_sounds_like_spoof_is_said_and_not_turned(write, caplog):
    assert list(read_scores(write("file,prob_fake\na,0.9\nb,0.1\n"))["cm_score"]) == [0.9, 0.1]
    assert "column prob_fake is read as higher = more bona fide, as it is; --negate turns it round" in caplog.text


@pytest.mark.parametrize(
    ("scored", "wanted"),
    [
        (("C:\\data\\flac\\a.flac", "C:\\data\\flac\\b.flac"), ("a", "b")),
        (("/data/x/a.flac", "/data/y/a.flac"), ("x/a.wav", "y/a.wav")),
        (("a", "b"), ("corpus/bonafide/a.wav", "corpus/spoof/v/b.wav")),
        (("./x\\a.wav", "x\\b.wav"), ("x/a", "x/b.flac")),
        (("e\u0301.wav", "b.wav"), ("é", "b")),
    ],
)
def test_ids_as_paths_of_any_system(scored, wanted):
    table = join(pd.DataFrame({"utterance_id": scored[::-1], "cm_score": [1.0, 0.0]}), trials(*wanted))
    assert list(table["cm_score"]) == [0.0, 1.0]
    assert list(table["utterance_id"]) == list(wanted)


@pytest.mark.parametrize(
    ("scored", "wanted"),
    [
        (("/d/x/a.flac", "/d/y/a.flac"), ("a",)),
        (("a",), ("x/a.flac", "y/a.flac")),
        (("/d/x/a",), ("a", "x/a")),
    ],
)
def test_folders_are_not_ignored_where_ids_would_be_the_same(scored, wanted):
    with pytest.raises(InputError, match="ids meet only where folders are ignored, and then some are the same"):
        join(pd.DataFrame({"utterance_id": scored, "cm_score": 1.0}), trials(*wanted), max_missing=1.0)


def test_where_nothing_meets_an_id_of_each_side_is_shown():
    with pytest.raises(InputError, match=r"no trial has a score: the protocol has ids such as 'a', the score file such as 'z/b.wav'"):
        join(pd.DataFrame({"utterance_id": ["z/b.wav"], "cm_score": [1.0]}), trials("a"))
    with pytest.raises(InputError, match=r"1 of 2 trials have no score \(b\); scored instead: c:"):
        join(scores(a=1.0, c=2.0), trials("a", "b"))


def test_own_protocols_of_windows(tmp_path, caplog):
    name = unicodedata.normalize("NFD", "é")
    text = f'utterance_id\tpath\tkey\tspeaker\tcorpus\r\n"{name}, 1"\ta\\b.wav\tspoof\tx\tmine\r\nb\tb.wav\tbonafide\r\n'
    (tmp_path / "p.tsv").write_bytes(text.encode("utf-16"))
    table = read_protocol(tmp_path / "p.tsv")
    assert list(table["utterance_id"]) == ["é, 1", "b"]
    assert "corpus becomes stated_corpus" in caplog.text
    for wrong, said in (("utterance_id;key\n", "separated by semicolons"), ("file;speaker;label\n", "separated by semicolons")):
        (tmp_path / "w.tsv").write_text(wrong)
        with pytest.raises(InputError, match=said):
            read_protocol(tmp_path / "w.tsv")
