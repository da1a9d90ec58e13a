import re
import shutil
from pathlib import Path

import pytest

from earmark import InputError
from earmark.copies.copysynthesis import synthesize_folder
from earmark.corpora import folder
from earmark.corpora.checks import find_missing
from earmark.storage.printable import legible


def write(root, *rows):
    (root / "protocol.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")


def test_protocol_columns(tmp_path, tone):
    tone("audio/a b.wav")
    tone("audio/c.flac")
    write(
        tmp_path,
        ("utterance_id", "path", "key", "source", "split", "in_domain", "codec", "copied"),
        ("my a", "audio/a b.wav", "bonafide", "-", "train", "", "mp3", ""),
        ("c", "audio/c.flac", "spoof", "vits", "-", "0", "-", "true"),
    )
    table = folder.read(tmp_path)
    assert not find_missing(table).any()
    assert table["utterance_id"].tolist() == ["my a", "c"]
    assert table["codec"].fillna("?").tolist() == ["mp3", "?"]
    assert table["copied"].tolist() == [False, True]
    assert table["in_domain"].fillna(True).tolist() == [True, False]
    assert table["split"].fillna("?").tolist() == ["train", "?"]


def test_two_folders(tmp_path, tone):
    for place in ("bonafide/x.wav", "bonafide/deep/x.wav", "spoof/vits/x.mp3.wav", "spoof/loose.wav"):
        tone(place)
    (tmp_path / "bonafide" / "notes.txt").write_text("no audio")
    table = folder.read(tmp_path).set_index("utterance_id")
    name = tmp_path.name
    assert table["key"].to_dict() == {
        f"{name}/bonafide/deep/x.wav": "bonafide",
        f"{name}/bonafide/x.wav": "bonafide",
        f"{name}/spoof/loose.wav": "spoof",
        f"{name}/spoof/vits/x.mp3.wav": "spoof",
    }
    assert table["source"].dropna().tolist() == ["vits"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "is empty"),
        ([("utterance_id", "path")], "has no column key"),
        ([("utterance_id", "path", "key"), ("a", "a.wav")], "row 2: 2 fields instead of 3"),
        ([("utterance_id", "path", "key"), ("a", "a.wav", "spoof"), ("b", "-", "spoof")], "row 3: .* may not be empty"),
        ([("utterance_id", "path", "key", "in_domain"), ("a", "a.wav", "spoof", "maybe")], "a: in_domain is 'maybe'"),
    ],
)
def test_bad_protocols_are_refused(tmp_path, rows, said):
    write(tmp_path, *rows)
    with pytest.raises(InputError, match=said):
        folder.read(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"neither protocol\.tsv nor audio"):
        folder.read(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        folder.read(tmp_path / "nothing")


def test_the_real_recordings(shared):
    table = folder.read(shared / "data" / "realset")
    assert not find_missing(table).any()
    assert table["key"].value_counts().to_dict() == {"spoof": 1123, "bonafide": 530}
    assert table["split"].value_counts().to_dict() == {"train": 634, "eval": 564, "dev": 455}
    assert table["source"].nunique() == 74
    assert table["source"][table["in_domain"].fillna(False)].nunique() == 21


def test_recordings_of_any_ending_are_found():
    table = folder.read(Path(__file__).parents[1] / "cases/other-endings/corpus")
    assert table["key"].value_counts().to_dict() == {"bonafide": 3, "spoof": 3}


def test_files_that_are_no_recordings_are_named_and_a_key_that_lost_all_its_files_is_refused(tmp_path, caplog):
    shutil.copytree(Path(__file__).parents[1] / "cases/other-endings/corpus", tmp_path / "corpus")
    (tmp_path / "corpus/spoof/vendor/notes.txt").write_text("no sound")
    assert len(folder.read(tmp_path / "corpus")) == 6
    assert "1 files are left out: notes.txt (no recording, by its ending and its first bytes)" in caplog.text
    for path in (tmp_path / "corpus/bonafide").iterdir():
        path.write_bytes(b"encrypted")
        path.rename(path.with_suffix(".dat"))
    with pytest.raises(InputError, match=r"bonafide holds no recording: bonafide_00\.dat \(no recording"):
        folder.read(tmp_path / "corpus")


@pytest.mark.parametrize("name", ["bonafide/caf\udce9.wav", "spoof/caf\udce9/x.wav", "bonafide/deep/\udcff/x.flac"])
def test_names_that_no_table_can_hold_are_named(tmp_path, tone, name):
    for place in ("bonafide/x.wav", "spoof/vits/x.wav"):
        tone(place)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(tmp_path / "bonafide/x.wav", tmp_path / name)
    said = re.escape(legible(name).partition("/")[2])
    with pytest.raises(InputError, match=f"no UTF-8, which a corpus's names must be: '.*{said}': rename them"):
        folder.read(tmp_path)
    with pytest.raises(InputError, match=said):
        folder.read_recordings(tmp_path)
    with pytest.raises(InputError, match=said):
        synthesize_folder(tmp_path, tmp_path / "made")


def test_a_root_that_no_table_can_hold_is_named(tmp_path, tone):
    tone("a/bonafide/x.wav")
    tone("a/spoof/x.wav")
    root = (tmp_path / "a").rename(tmp_path / "caf\udce9")
    with pytest.raises(InputError, match=r"no UTF-8.*caf\\xe9"):
        folder.read(root)
    write(root, ("utterance_id", "path", "key"), ("x", "spoof/x.wav", "spoof"))
    with pytest.raises(InputError, match=r"no UTF-8.*caf\\xe9"):
        folder.read(root)


@pytest.mark.parametrize("name", ["Bonafide/deep/y.wav", "SPOOF/y.wav", "fake/vits/y.wav", "y.wav"])
def test_recordings_that_no_key_names_stop_it(tmp_path, tone, name):
    for place in ("bonafide/x.wav", "spoof/vits/x.wav"):
        tone(place)
    (tmp_path / "alias").symlink_to("bonafide")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/readme.txt").write_text("no sound")
    assert len(folder.read(tmp_path)) == 2
    tone(name)
    with pytest.raises(InputError, match=rf"1 recordings are in neither bonafide/ nor spoof/ .* but in {name.partition('/')[0]}: move or"):
        folder.read(tmp_path)
