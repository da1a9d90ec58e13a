import logging
from pathlib import Path

import pandas as pd
import pytest

from earmark import InputError
from earmark.corpora.checks import SHOWN, check_needs, validate
from earmark.corpora.prepare import prepare
from earmark.corpora.protocol import CORE
from earmark.params import CorpusParams
from earmark.storage.files import read_table, write_table

HEADER = ("utterance_id", "path", "key", "source", "speaker", "split")


def corpus(root: Path, *splits: str, adapter: str = "folder", name: str | None = None) -> CorpusParams:
    return CorpusParams.model_validate({"adapter": adapter, "root": str(root), "splits": splits or ("train", "dev", "eval"), "name": name})


def lay_out(root: Path, tone, rows, header=HEADER, audio=True) -> Path:
    root.mkdir(exist_ok=True)
    (root / "protocol.tsv").write_text("\n".join("\t".join(row) for row in (header, *rows)) + "\n")
    for row in rows if audio else ():
        tone(f"{root.name}/{row[1]}")
    return root


def three_splits(prefix: str) -> list[tuple[str, ...]]:
    rows = []
    for split in ("train", "dev", "eval"):
        rows.append((f"{prefix}-{split}-b", f"{split}-b.wav", "bonafide", "-", f"{split}-1", split))
        rows.append((f"{prefix}-{split}-s", f"{split}-s.wav", "spoof", "vits" if split != "eval" else "new", f"{split}-2", split))
    return rows


def run(*corpora, **settings):
    return prepare(corpora, **{"seed": 1, "dev_fraction": 0.2, "eval_fraction": 0.2, **settings})


def test_corpora_serve_their_splits_and_keep_their_names(tmp_path, tone):
    a = lay_out(tmp_path / "a", tone, three_splits("a"))
    b = lay_out(tmp_path / "b", tone, three_splits("b"))
    table = run(corpus(a, "train", "dev"), corpus(b, "eval", name="other"))
    assert tuple(table.columns[: len(CORE)]) == CORE
    assert table.groupby(["corpus", "split"]).size().to_dict() == {("a", "dev"): 2, ("a", "train"): 2, ("other", "eval"): 2}
    assert table.set_index("utterance_id")["in_domain"].astype("object").fillna("").to_dict() == {
        "a-train-b": "", "a-train-s": True, "a-dev-b": "", "a-dev-s": True, "b-eval-b": "", "b-eval-s": False,
    }  # fmt: skip
    check_needs(table)
    write_table(tmp_path / "protocol.parquet", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "protocol.parquet"), table)


def test_a_corpus_without_splits_serves_one_as_a_whole_or_is_split(tmp_path, tone):
    for number in range(10):
        tone(f"own/bonafide/{number}.wav")
        tone(f"own/spoof/vits/{number}.wav")
    whole = run(corpus(tmp_path / "own", "eval"))
    assert (whole["split"] == "eval").all()
    assert len(whole) == 20
    split = run(corpus(tmp_path / "own"))
    assert split.groupby(["split", "key"]).size().to_dict() == {
        ("train", "bonafide"): 6, ("train", "spoof"): 6, ("dev", "bonafide"): 2,
        ("dev", "spoof"): 2, ("eval", "bonafide"): 2, ("eval", "spoof"): 2,
    }  # fmt: skip
    assert set(run(corpus(tmp_path / "own", "train", "dev"))["split"]) == {"train", "dev"}


def test_all_culprits_are_named_at_once(tmp_path, tone):
    rows = three_splits("a")
    rows[0] = ("a-train-b", "train-b.wav", "real", "-", "x", "train")
    rows[1] = ("a-train-s", "train-s.wav", "spoof", "vits", "x", "test")
    rows[2] = ("twice", "dev-b.wav", "bonafide", "-", "x", "dev")
    rows[3] = ("twice", "dev-s.wav", "spoof", "vits", "x", "dev")
    root = lay_out(tmp_path / "a", tone, rows)
    (root / "eval-b.wav").unlink()
    with pytest.raises(InputError) as refusal:
        run(corpus(root))
    said = str(refusal.value)
    assert "5 faults in a" in said
    for culprit in ("key is real", "split is test", "twice", "audio file is missing", "eval-b.wav"):
        assert culprit in said


def test_ids_shared_by_two_corpora_are_named(tmp_path, tone):
    a, b = (lay_out(tmp_path / name, tone, three_splits("same")) for name in "ab")
    with pytest.raises(InputError, match="12 faults in a, b"):
        run(corpus(a), corpus(b))


def test_a_long_list_of_culprits_is_cut(tmp_path, tone):
    rows = [(f"u{n}", f"{n}.wav", "spoof", "vits", "-", "train") for n in range(50)]
    root = lay_out(tmp_path / "a", tone, rows, audio=False)
    with pytest.raises(InputError, match=f"and {50 - SHOWN} more") as refusal:
        run(corpus(root))
    assert len(str(refusal.value).splitlines()) == SHOWN + 4


def test_few_missing_files_are_said_and_left_out(tmp_path, tone, caplog):
    root = lay_out(tmp_path / "a", tone, three_splits("a"))
    (root / "train-s.wav").unlink()
    with caplog.at_level(logging.WARNING):
        table = run(corpus(root), max_unreadable=0.2)
    assert len(table) == 5
    assert "a-train-s" in caplog.text
    with pytest.raises(InputError, match="a-train-s"):
        run(corpus(root), max_unreadable=0.1)


def test_surplus_audio_is_counted_and_unserved_splits_are_no_surplus(tmp_path, tone, caplog):
    root = lay_out(tmp_path / "a", tone, three_splits("a"))
    with caplog.at_level(logging.INFO):
        run(corpus(root, "eval"))
        assert "in no trial" not in caplog.text
        tone("a/unlisted.wav")
        run(corpus(root, "eval"))
    assert "1 audio files are in no trial, such as" in caplog.text


def test_a_corpus_without_trials_for_its_splits_is_refused(tmp_path, tone):
    root = lay_out(tmp_path / "a", tone, three_splits("a")[:2])
    with pytest.raises(InputError, match="has no trials for eval"):
        run(corpus(root, "eval"))


def test_needs_of_a_run(tmp_path, tone, caplog):
    table = run(corpus(lay_out(tmp_path / "a", tone, three_splits("a"))))
    with caplog.at_level(logging.WARNING):
        check_needs(table)
    assert "single training file: vits" in caplog.text
    with pytest.raises(InputError, match="no corpus brings eval trials"):
        check_needs(table[table["split"] != "eval"])
    with pytest.raises(InputError, match="train is of one class: it has 1 trials and none is bonafide"):
        check_needs(table[table["utterance_id"] != "a-train-b"])


def test_validate_lists_each_folder_once(tmp_path, tone, monkeypatch):
    table = run(corpus(lay_out(tmp_path / "a", tone, three_splits("a"))))
    monkeypatch.setattr(Path, "exists", lambda self: pytest.fail("a look-up per file"))
    assert len(validate(table)) == 6


DEPS = "stages:\n  prepare_protocol:\n    deps: [{0}]\n"


@pytest.fixture
def under_dvc(tmp_path, tone, monkeypatch) -> Path:
    """A workspace in which DVC runs prepare_protocol, with a corpus on another disk."""
    lay_out(tmp_path / "disk", tone, three_splits("a"))
    (tmp_path / "data").mkdir()
    (tmp_path / "dvc.yaml").write_text(DEPS.format("data"))
    monkeypatch.setenv("DVC_STAGE", "prepare_protocol")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_audio_that_dvc_does_not_hash_is_refused(under_dvc, monkeypatch):
    (under_dvc / "data/linked").symlink_to("../disk")
    with pytest.raises(InputError, match=r"does not hash the audio in data/linked \(in truth .*/disk\).*hard-link the files below"):
        run(corpus(Path("data/linked")))
    with pytest.raises(InputError, match=r"DVC does not hash the audio in .*/disk .*deps of prepare_protocol"):
        run(corpus(under_dvc / "disk"))
    (under_dvc / "dvc.yaml").unlink()
    with pytest.raises(InputError, match="DVC does not hash"):
        run(corpus(Path("data/linked")))
    monkeypatch.delenv("DVC_STAGE")  # without DVC nothing is hashed, and nothing missed
    assert len(run(corpus(Path("data/linked")))) == 6


@pytest.mark.parametrize("deps", ["data, disk", "data, data/linked/"])
def test_a_folder_among_the_deps_is_followed_whatever_links_lead_there(under_dvc, deps):
    (under_dvc / "data/linked").symlink_to("../disk")
    (under_dvc / "dvc.yaml").write_text(DEPS.format(deps))
    assert len(run(corpus(Path("data/linked")))) == 6


def test_links_that_dvc_follows_are_no_matter(under_dvc):
    (under_dvc / "data").rmdir()
    (under_dvc / "data").symlink_to("disk")  # hashed as the dependency that it is
    assert len(run(corpus(Path("data")))) == 6
    (under_dvc / "data").unlink()
    (under_dvc / "data/real").mkdir(parents=True)
    for path in (under_dvc / "disk").iterdir():
        (under_dvc / "data/real" / path.name).symlink_to(path)  # DVC hashes what a file's link leads to
    (under_dvc / "data/again").symlink_to("real")
    assert len(run(corpus(Path("data/again")))) == 6
