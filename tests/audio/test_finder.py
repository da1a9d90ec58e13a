import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from earmark.audio.finder import find

CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture
def clip(tmp_path) -> Path:
    sf.write(tmp_path / "clip.flac", 0.1 * np.ones(1600), 16_000)
    return tmp_path / "clip.flac"


def names(paths, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_a_folder_of_a_phone_is_found_whole():
    assert names(find(CASES / "other-endings/mix").recordings, CASES / "other-endings/mix") == [
        "IMG_0001.MOV", "a.3gp", "a.mkv", "a.oga", "m.m4a", "memo.qta",
    ]  # fmt: skip


def test_content_tells_where_the_ending_does_not_and_all_else_is_named(tmp_path, clip):
    folder = tmp_path / "mix"
    (folder / "deep/deeper").mkdir(parents=True)
    (folder / "deep/deeper/evidence").write_bytes(clip.read_bytes())
    (folder / "export.dat").write_bytes(clip.read_bytes())
    (folder / "notes.txt").write_text("no sound")
    (folder / "broken.wav").write_text("neither")
    (folder / "._a.wav").write_bytes(b"\0\x05\x16\x07" + bytes(60))
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".hidden.flac").write_bytes(clip.read_bytes())
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere")
    found = find(folder)
    assert names(found.recordings, folder) == [".hidden.flac", "broken.wav", "deep/deeper/evidence", "export.dat"]
    assert {path.name: reason for path, reason in found.left_out.items()} == {
        "gone.wav": "a link to nothing",
        "notes.txt": "no recording, by its ending and its first bytes",
    }


def bare(name: str) -> bytes:
    """Frames of MP3 or AAC with no tag before them."""
    content = next(CASES.rglob(name)).read_bytes()
    assert not content.startswith(b"ID3")
    return content


def test_what_systems_hide_is_named_unless_it_is_no_sound_for_certain(tmp_path, clip):
    mp3, aac = bare("abr_no_xing_4.05s.mp3"), bare("silence_last_10s_ok.aac")
    folder = tmp_path / "case"
    folder.mkdir()
    sounds = {
        ".mp3": mp3,
        ".AAC": aac,
        "._voice.mp3": mp3,
        "Thumbs.db": mp3,
        ".memo": aac,
        "memo": mp3,
        "._x": aac,
        "._a.wav": b"\x01\x02" * 99,
    }
    silent = {
        "._voice2.mp3": b"\0\x05\x16\x07" + bytes(90), ".DS_Store": b"\0\0\0\1Bud1" + bytes(90), ".gitignore": b"*.wav\n",
        ".empty": b"", ".localized": "é\n".encode(), "desktop.ini": "\ufeff[a]\r\n".encode("utf-16-le"), "._b": b"\0\x05\x16\x07\0\2",
    }  # fmt: skip
    named = {
        ".odd": b"\x01\x02\x03\xff" * 99,
        "notes": "\ufeffnone\n".encode("utf-16-le"),
        "ones": b"\xff" * 999,
        "pad": b"\xff\xfb" + bytes(999),
    }
    for name, content in (sounds | silent | named).items():
        (folder / name).write_bytes(content)
    found = find(folder)
    assert set(names(found.recordings, folder)) == set(sounds)
    assert set(names(found.left_out, folder)) == set(named)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    assert folder / "Thumbs.db" not in [*find(folder).recordings, *find(folder).left_out]
    (folder / "Thumbs.db").write_bytes(b"\x05" * 600)
    assert folder / "Thumbs.db" in find(folder).left_out


def test_linked_folders_are_followed_once_and_loops_end(tmp_path, clip):
    folder = tmp_path / "case"
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a.flac").write_bytes(clip.read_bytes())
    folder.mkdir()
    (folder / "one").symlink_to(tmp_path / "disk")
    (folder / "two").symlink_to(tmp_path / "disk")
    (folder / "loop").symlink_to(folder)
    found = find(folder)
    assert names(found.recordings, folder) == ["one/a.flac"]
    assert names(found.left_out, folder) == ["loop", "two"]


def test_hidden_folders_are_named_and_not_searched(tmp_path, clip):
    (tmp_path / "case/.dvc").mkdir(parents=True)
    (tmp_path / "case/.dvc/a.flac").write_bytes(clip.read_bytes())
    found = find(tmp_path / "case")
    assert (found.recordings, names(found.left_out, tmp_path / "case")) == ([], [".dvc"])


def test_names_need_be_no_text(tmp_path, clip):
    place = os.fsencode(tmp_path) + b"/case"
    os.mkdir(place)
    for name in (b"caf\xe9.flac", b"x [dQw4].flac", b"2024-08-20T13:28:35Z.flac", b"n" * 250 + b".flac"):
        with open(place + b"/" + name, "wb") as file:
            file.write(clip.read_bytes())
    assert len(find(tmp_path / "case").recordings) == 4
