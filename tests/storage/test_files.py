import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from earmark import InputError
from earmark.storage import checkpoint
from earmark.storage.files import complete, read_metadata, read_table, write_json, write_table


def leftovers(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def break_off(path: Path) -> None:
    path.write_text("half")
    raise ZeroDivisionError


def test_a_file_is_there_complete_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(ZeroDivisionError), complete(path) as aside:
        break_off(aside)
    assert leftovers(path.parent) == []
    with complete(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert leftovers(path.parent) == ["a.txt"]


def test_a_failure_leaves_what_was_there_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), complete(path) as aside:
        break_off(aside)
    assert path.read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("one", "two"):
        with complete(path) as aside:
            aside.mkdir()
            (aside / name).write_text(name)
    assert leftovers(path) == ["two"]
    assert leftovers(tmp_path) == ["folder"]


def test_a_file_takes_no_folders_place_and_a_folder_no_files(tmp_path):
    (tmp_path / "precious.html").mkdir()
    (tmp_path / "precious.html/notes.txt").write_text("hi")
    (tmp_path / "link").symlink_to("precious.html")
    for name in ("precious.html", "link"):
        with pytest.raises(InputError, match=f"cannot write .*{name}: a folder is there"):
            write_json(tmp_path / name, {})
    with pytest.raises(InputError, match=r"cannot write the folder .*notes\.txt: a file is there"):  # noqa: SIM117
        with complete(tmp_path / "precious.html/notes.txt") as aside:
            aside.mkdir()
    assert (tmp_path / "precious.html/notes.txt").read_text() == "hi"
    assert leftovers(tmp_path / "precious.html") == ["notes.txt"]
    assert leftovers(tmp_path) == ["link", "precious.html"]


def test_settings_are_written_over_no_folder(tmp_path):
    (tmp_path / "mine.yaml").mkdir()
    (tmp_path / "mine.yaml/notes.txt").write_text("hi")
    done = subprocess.run(
        [sys.executable, "-m", "earmark", "params", "-o", "mine.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "error: cannot write mine.yaml: a folder is there; name another file\n")
    assert (tmp_path / "mine.yaml/notes.txt").read_text() == "hi"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_overwritten(tmp_path, kind):
    make = "aside.write_text('half')" if kind == "file" else "aside.mkdir(); (aside / 'old').write_text('half')"
    program = f"""
import os, signal
from pathlib import Path
from earmark.storage.files import complete
with complete(Path({str(tmp_path)!r}) / "made") as aside:
    {make}
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert leftovers(tmp_path) == [".made.part"]
    with complete(tmp_path / "made") as aside:
        aside.mkdir()
        (aside / "new").write_text("whole")
    assert leftovers(tmp_path) == ["made"]
    assert leftovers(tmp_path / "made") == ["new"]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json", Path("/proc/none/deep/a.json")):
        with pytest.raises(InputError, match=f"cannot write {path}: "):
            write_json(path, {})


@pytest.mark.parametrize("inside", ["", "part"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, inside):
    def overfill():
        with complete(tmp_path / "made") as aside:
            if inside:
                aside.mkdir()
            (aside / inside).symlink_to("/dev/full")
            (aside / inside).write_text("does not fit")

    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full to write to")
    with pytest.raises(InputError, match=r"cannot write .*made: No space left on device"):
        overfill()
    assert leftovers(tmp_path) == []


@pytest.fixture
def file_limit():
    """Files stop growing at 1 MB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


BIG = np.random.default_rng(0).standard_normal(500_000)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_table(path, pd.DataFrame({"a": BIG})),
        lambda path: checkpoint.save(path, {"a": torch.from_numpy(BIG)}, {}),
        lambda path: write_json(path, BIG.tolist()),
    ],
    ids=["table", "checkpoint", "json"],
)
def test_a_write_that_breaks_off_names_the_file_and_leaves_nothing(tmp_path, file_limit, write):
    with pytest.raises(InputError, match=r"cannot write .*made: .*File too large"):
        write(tmp_path / "made")
    assert leftovers(tmp_path) == []


def test_trouble_with_another_file_keeps_its_own_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"source\.wav"), complete(tmp_path / "a.txt"):
        (tmp_path / "source.wav").read_bytes()


def test_json_is_sorted_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": 0.1})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["a", "b"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert leftovers(tmp_path) == ["a.json"]


def test_a_table_comes_back_with_its_metadata_and_has_the_same_bytes_twice(tmp_path):
    table = pd.DataFrame({"utterance_id": ["a", "b"], "cm_score": [0.5, -1.0], "made": pd.array([True, None], dtype="boolean")})
    for name in ("a.parquet", "b.parquet"):
        write_table(tmp_path / name, table, orientation="higher = more bona fide")
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.parquet"), table)
    assert read_metadata(tmp_path / "a.parquet") == {"orientation": "higher = more bona fide"}
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("keep", [0, 4, 60])
def test_a_damaged_table_is_named(tmp_path, keep):
    path = tmp_path / "a.parquet"
    write_table(path, pd.DataFrame({"a": range(100)}))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.parquet is not a readable table"):
        read_table(path)
    with pytest.raises(InputError, match=r"b\.parquet does not exist"):
        read_table(tmp_path / "b.parquet")
