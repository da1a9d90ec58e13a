"""Tables as Excel, LibreOffice, Windows, macOS, pandas and R leave them."""

import gzip
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from earmark import InputError
from earmark.corpora import folder
from earmark.corpora.checks import find_missing, locate
from earmark.corpora.protocol import RESERVED
from earmark.corpora.text import read_delimited, read_fields, read_text, split_rows
from earmark.doctor.diagnose import read_folder
from earmark.doctor.examine import Examination
from earmark.evaluation.trial_table import ANSWER
from earmark.params import TrialsParams

TABLES = Path(__file__).parent / "tables"
HEADER = "utterance_id\tpath\tkey\tspeaker"


def corpus(root: Path, tone, table: bytes, name: str = "{}.flac") -> Path:
    """The eight bona fide recordings and eight spoofs that the tables below name, and one of the tables."""
    for key in ("bonafide", "spoof"):
        for number in range(8):
            tone(f"audio/{name.format(f'{key}_{number:02}')}")
    (root / "protocol.tsv").write_bytes(table)
    return root


@pytest.mark.parametrize("name", ["backslash", "crlf_bom", "quoted", "ragged", "u2028", "utf16"])
def test_tables_as_people_make_them_are_read(name, tmp_path, tone):
    place = "{}, take 1.flac" if name == "quoted" else "{}.flac"
    table = read_folder(corpus(tmp_path, tone, (TABLES / f"{name}.tsv").read_bytes(), place), TrialsParams())
    assert not find_missing(table).any()
    assert table["key"].value_counts().to_dict() == {"bonafide": 8, "spoof": 8}
    assert set(table["split"]) == {"train", "dev", "eval"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cp1252", r"cannot read .*protocol.tsv: line 5 is not UTF-8 \(byte 0xfc, which would be 'ü' in Windows-1252\): save it as UTF-8"),
        ("dupcol", r"protocol.tsv has the column path more than once"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_in_a_line(name, said, tmp_path, tone):
    with pytest.raises(InputError, match=said) as refused:
        read_folder(corpus(tmp_path, tone, (TABLES / f"{name}.tsv").read_bytes()), TrialsParams())
    assert "\n" not in str(refused.value)


def read(path: Path, text: str | bytes) -> pd.DataFrame:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_delimited(path, "\t", ("utterance_id", "path", "key")).cells


ROWS = f"{HEADER}\na\tä.wav\tspoof\tMüller\nb\tb.wav\tbonafide\t\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    mark = "\ufeff" if encoding in ("utf-16-be", "utf-16-le") else ""
    for pack in (bytes, gzip.compress):
        table = read(tmp_path / "t.tsv", pack((mark + ROWS).replace("\n", end).encode(encoding)))
        assert table.to_numpy().tolist() == [["a", "ä.wav", "spoof", "Müller"], ["b", "b.wav", "bonafide", ""]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ROWS.encode("utf-16-le"), "line 1 holds NUL: it is no text, or UTF-16 without its mark: save it as UTF-8"),
        (ROWS.encode() + ROWS.encode("utf-16-le").replace(b"\xe4", b"a").replace(b"\xfc", b"u"), "line 4 holds NUL"),
        (ROWS.encode("utf-16")[:-1], "its mark says UTF-16, but truncated data: save it as UTF-8"),
        (ROWS.encode("mac-roman"), r"line 2 is not UTF-8 \(byte 0x8a"),
        (f"{HEADER}\r\n\r\nä\tä\tspoof\t\r\n".encode("cp1252"), r"line 3 is not UTF-8 \(byte 0xe4"),
        (f"{HEADER}\rä\tä\tspoof\t\r".encode("cp1252"), r"line 2 is not UTF-8"),
        (b"PK\x03\x04 and the rest of a workbook", "it is a workbook or archive: save its sheet as text"),
        (gzip.compress(ROWS.encode(), mtime=0)[:30], "mend or download it again"),
    ],
)
def test_what_is_no_text_is_named_with_its_line(tmp_path, content, said):
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(InputError, match=rf"cannot read .*t\.tsv.*{said}"):
        read_text(tmp_path / "t.tsv")


@pytest.mark.parametrize(
    ("written", "cell"),
    [
        ('"a, b"', "a, b"),
        ('"say ""yes"""', 'say "yes"'),
        ('"two\twords"', "two\twords"),
        ('"first\nsecond\n\nfourth"', "first\nsecond\n\nfourth"),
        ('"hello', '"hello'),  # of a transcript: never closed
        ('he said "hello', 'he said "hello'),
        ('"Yes" she said', '"Yes" she said'),
        ("first\u2028second\x85third\x0bfourth\x0cfifth", "first\u2028second\x85third\x0bfourth\x0cfifth"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_quotes_and_signs_that_are_no_line_ends(tmp_path, written, cell, last):
    names, cells = ("transcript", "speaker"), (written, "mary")
    names, cells = (names[::-1], cells[::-1]) if last else (names, cells)
    header = "\t".join(("utterance_id", "path", "key", *names))
    rows = [header, "\t".join(("a", '"a, 1.wav"', "spoof", *cells)), 'b\tb.wav\tspoof\tx"\t"y"', "", "c\tc.wav\tspoof\tx\ty"]
    table = read(tmp_path / "t.tsv", "\n".join(rows))
    assert table["path"].tolist() == ["a, 1.wav", "b.wav", "c.wav"]
    assert table["transcript"][0] == cell
    assert table.iloc[1, 3:].tolist() == ['x"', "y"]


def test_a_wrong_row_is_named_as_a_spreadsheet_and_as_an_editor_counts(tmp_path):
    whole = f'{HEADER}\tnote\n\na\ta.wav\tspoof\tx\t"two\nlines"\nb\tb.wav\n'
    with pytest.raises(InputError, match=r"row 4 \(line 5\): 2 fields instead of 5, key lacking"):
        read(tmp_path / "t.tsv", whole)
    with pytest.raises(InputError, match=r"t.tsv, row 3: 6 fields instead of 5"):
        read(tmp_path / "t.tsv", f"{HEADER}\tnote\na\ta\tspoof\tx\ty\nb\tb\tspoof\tx\ty\tz\n")
    with pytest.raises(InputError, match=r"t.tsv, row 2: 5 fields instead of 4; R's write.table names rows.*row.names=FALSE"):
        read(tmp_path / "t.tsv", f"{HEADER}\n1\ta\ta\tspoof\tx\n2\tb\tb\tspoof\tx\n")


def test_short_rows_are_filled_and_said_and_empty_ends_are_dropped(tmp_path, caplog):
    table = read(tmp_path / "t.tsv", f"{HEADER}\t\t\na\ta\tspoof\nb\tb\tspoof\tx\t\t\t\t\n\t\t\t\nc\tc\tspoof\tx\n")
    assert table.columns.tolist() == HEADER.split("\t")
    assert table["speaker"].tolist() == ["", "x", "x"]
    assert "2 rows end early (row 2, row 5)" in caplog.text


def test_the_index_of_pandas_is_left_out(tmp_path, caplog):
    rows = pd.DataFrame({"utterance_id": ["a", "b"], "path": ['say "hi".wav', "b\tb.wav"], "key": "spoof"})
    rows.to_csv(tmp_path / "p.tsv", sep="\t")
    assert read(tmp_path / "t.tsv", (tmp_path / "p.tsv").read_bytes()).equals(rows.astype("str"))
    assert "a column without a name" in caplog.text


@pytest.mark.parametrize(("sign", "name"), [(",", "commas"), (";", "semicolons"), ("|", "pipes")])
def test_other_separators_are_named(tmp_path, sign, name):
    for first in ("", f"sep={sign}\n"):
        with pytest.raises(InputError, match=rf"t\.tsv is separated by {name}: save it with tabs between the columns"):
            read(tmp_path / "t.tsv", first + ROWS.replace("\t", sign))
    with pytest.raises(InputError, match=f"separated by {name}"):  # R's write.csv
        read(tmp_path / "t.tsv", sign.join(f'"{cell}"' for cell in HEADER.split("\t")) + "\n")
    assert len(read(tmp_path / "t.tsv", "sep=\t\n" + ROWS)) == 2


def test_a_table_under_another_name_is_said(tmp_path, tone, caplog):
    (tmp_path / "protocol.tsv.txt").write_text(ROWS)
    with pytest.raises(InputError, match=r"has protocol\.tsv\.txt, which is not read: save the table as protocol\.tsv"):
        folder.read(tmp_path)
    tone("bonafide/a.wav")
    assert len(folder.read(tmp_path)) == 1
    assert "protocol.tsv.txt is not read" in caplog.text


def test_names_that_stages_give_are_kept_apart(tmp_path, tone, caplog):
    for name in ("a.wav", "b.wav"):
        tone(name)
    (tmp_path / "protocol.tsv").write_text(
        f"{HEADER}\tcorpus\tseconds\tcodec\na\ta.wav\tspoof\tx\tmine\t3\topus\nb\tb.wav\tbonafide\ty\t-\t4\t-\n"
    )
    table = read_folder(tmp_path, TrialsParams())
    assert table["stated_corpus"].tolist()[0] == "mine"
    assert table["stated_seconds"].tolist() == ["3", "4"]
    assert set(table["corpus"]) != {"mine"}
    assert "corpus becomes stated_corpus, seconds becomes stated_seconds" in caplog.text
    (tmp_path / "protocol.tsv").write_text(f"{HEADER}\tseconds\tstated_seconds\na\ta.wav\tspoof\tx\t3\t3\n")
    with pytest.raises(InputError, match="the column stated_seconds is there beside seconds"):
        folder.read(tmp_path)
    assert {*Examination.__dataclass_fields__, *ANSWER, "cm_score", "llr"} <= RESERVED


def test_words_for_missing_values_are_said(tmp_path, tone, caplog):
    (tmp_path / "protocol.tsv").write_text(f"{HEADER}\na\ta.wav\tspoof\tNA\nb\tb.wav\tbonafide\tNA\n")
    folder.read(tmp_path)
    assert "column speaker: NA (2 rows) is read as a name; leave cells empty" in caplog.text


@pytest.mark.parametrize(("disk", "table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_meet_in_whatever_form_of_unicode_they_are(tmp_path, tone, disk, table):
    place = "Käfig\\Ümläut é.wav"
    real = tone(unicodedata.normalize(disk, place.replace("\\", "/")))
    rows = [HEADER, f"ä\t{place}\tspoof\tMüller", f"b\t{place}\tspoof\t{unicodedata.normalize('NFD', 'Müller')}"]
    (tmp_path / "protocol.tsv").write_text(unicodedata.normalize(table, rows[0] + "\n" + rows[1]) + "\n" + rows[2] + "\n")
    found = locate(folder.read(tmp_path))
    assert found["path"].tolist() == [str(real)] * 2
    assert found["speaker"].nunique() == 1  # or speakers would leak unseen
    assert found["utterance_id"][0] == unicodedata.normalize("NFC", "ä")


def test_what_is_there_as_written_is_taken_and_what_is_ambiguous_is_missing(tmp_path, tone):
    both = [tone(unicodedata.normalize(form, "é.wav")) for form in ("NFC", "NFD")]
    (tmp_path / "a\\b.wav").write_bytes(both[0].read_bytes())
    tone("a/b.wav")
    half = "n\u0303o\u0308"  # of two forms, each written once
    for form in ("NFC", "NFD"):
        tone(unicodedata.normalize(form, half) + ".wav")
    mixed = unicodedata.normalize("NFC", "n\u0303") + "o\u0308.wav"
    paths = [*(path.name for path in both), "a\\b.wav", mixed, "..\\x\\nothing.wav"]
    found = locate(pd.DataFrame({"path": [str(tmp_path / path) for path in paths]}))
    assert found["path"].tolist() == [str(tmp_path / path) for path in paths]
    assert find_missing(found).tolist() == [False, False, False, True, True]


def test_lists_end_their_lines_at_newlines_alone(tmp_path):
    (tmp_path / "list.txt").write_bytes("a x\u2028y\r\nb z\r".encode())
    with pytest.raises(InputError, match=r"line 1: 3 fields instead of 2"):
        read_fields(tmp_path / "list.txt", ("one", "two"))
    assert [row.fields for row in split_rows("a\x85b\tc\n\nd\te", "\t")] == [["a\x85b", "c"], ["d", "e"]]
