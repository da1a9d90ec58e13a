"""Folders that become few objects and folders again, in a shared folder and in S3 over HTTP."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from earmark import InputError
from earmark.kubeflow import store
from earmark.kubeflow.pointer import Pointer
from earmark.kubeflow.store import OBJECTS, Gone, Store, gone, load, open_store, save
from object_store import BUCKET, S3_ENVIRONMENT


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    server = request.getfixturevalue("s3")
    for name, value in (S3_ENVIRONMENT | {"AWS_ENDPOINT_URL": server.address}).items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Forty small files in two folders, one large one, an empty one and two alike."""
    monkeypatch.setattr(store, "PACK", 4096)
    rng = np.random.default_rng(1)
    root = tmp_path / "tree"
    for number in range(40):
        path = root / ("a" if number % 2 else "b/c") / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.bytes(rng.integers(1, 900)))
    (root / "large.bin").write_bytes(rng.bytes(20_000))
    (root / "empty").write_bytes(b"")
    for name in ("one", "two"):
        (root / f"alike-{name}.bin").write_bytes(bytes(5000))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_folder_comes_back_from_few_objects(place, tree, tmp_path):
    pointer = save(tree, place, tmp_path / "packs")
    assert len(pointer.files) == 44
    assert len(pointer.objects) < 12
    load(pointer, tmp_path / "back", place)
    assert contents(tmp_path / "back") == contents(tree)
    assert not list((tmp_path / "packs").glob("*"))
    assert gone(pointer, place) == []


def test_a_file_and_an_empty_folder_come_back_as_what_they_were(place, tmp_path):
    (tmp_path / "file").write_text("content")
    (tmp_path / "nothing").mkdir()
    for name in ("file", "nothing"):
        pointer = save(tmp_path / name, place, tmp_path / "packs")
        load(pointer, tmp_path / "back" / name, place)
    assert (tmp_path / "back/file").read_text() == "content"
    assert list((tmp_path / "back/nothing").iterdir()) == []


def test_the_same_content_is_stored_once_and_has_one_digest(place, tree, tmp_path):
    first = save(tree, place, tmp_path / "packs")
    (tree / "a").rename(tree / "z")
    moved = save(tree, place, tmp_path / "packs")
    assert moved.digest != first.digest
    (tree / "z").rename(tree / "a")
    assert save(tree, place, tmp_path / "packs") == first


def test_an_object_that_is_gone_is_noticed_and_said(place, tree, tmp_path):
    pointer = save(tree, place, tmp_path / "packs")
    lost = next(file.object for file in pointer.files if file.path == "large.bin")
    if isinstance(place, store.Folder):
        (place.root / OBJECTS / lost).unlink()
    else:
        place.client.delete_object(Bucket=BUCKET, Key=f"{place.prefix}/{OBJECTS}/{lost}")
    assert gone(pointer, place) == [lost]
    with pytest.raises(Gone, match=f"{lost} is gone"):
        load(pointer, tmp_path / "back", place)
    assert not (tmp_path / "back").exists()


def test_a_damaged_object_is_refused_and_nothing_is_left(tree, tmp_path):
    place = open_store(str(tmp_path / "store"))
    pointer = save(tree, place, tmp_path / "packs")
    name = next(file.object for file in pointer.files if file.path == "large.bin")
    damaged = tmp_path / "store" / OBJECTS / name
    os.chmod(damaged, 0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=f"{name} is damaged: remove it"):
        load(pointer, tmp_path / "back", place)
    assert not (tmp_path / "back").exists()


def test_what_is_read_from_a_folder_store_cannot_change_it(tree, tmp_path):
    place = open_store(str(tmp_path / "store"))
    pointer = save(tree, place, tmp_path / "packs")
    load(pointer, tmp_path / "back", place)
    assert (tmp_path / "back/large.bin").stat().st_mode & 0o222 == 0
    (tmp_path / "back/large.bin").unlink()
    load(pointer, tmp_path / "again", place)
    assert contents(tmp_path / "again") == contents(tree)


def test_parts_of_several_workers_become_one(place, tree, tmp_path):
    parts = [save(tree / name, place, tmp_path / "packs") for name in ("a", "b")]
    whole = Pointer.union(parts)
    load(whole, tmp_path / "back", place)
    assert contents(tmp_path / "back") == contents(tree / "a") | contents(tree / "b")
    assert Pointer.union([whole, parts[0]]) == whole
    other = tmp_path / "other"
    other.mkdir()
    (other / "1.bin").write_bytes(b"another content")
    with pytest.raises(InputError, match=r"two workers made different files '1\.bin'"):
        Pointer.union([whole, save(other, place, tmp_path / "packs")])


def test_parts_in_two_stores_are_refused(tree, tmp_path):
    stores = [open_store(str(tmp_path / name)) for name in ("one", "two")]
    with pytest.raises(InputError, match="parts lie in several stores"):
        Pointer.union(save(tree / name, own, tmp_path / "packs") for name, own in zip("ab", stores, strict=True))


def test_a_pointer_is_read_as_it_was_written_and_a_changed_one_refused(tree, tmp_path):
    pointer = save(tree, open_store(str(tmp_path / "store")), tmp_path / "packs")
    path = tmp_path / "pointer"
    path.write_text(json.dumps(pointer.content))
    assert Pointer.read(path) == pointer
    path.write_text(json.dumps(pointer.content | {"files": pointer.content["files"][1:]}))
    with pytest.raises(InputError, match="was changed: its digest is not that of its files"):
        Pointer.read(path)
    for wrong in ("{", "[]", "{}"):
        path.write_text(wrong)
        with pytest.raises(InputError, match="is no pointer to files in a store"):
            Pointer.read(path)


def test_a_store_that_cannot_be_reached_and_a_scheme_that_is_none_are_said(monkeypatch, tmp_path):
    for name, value in (S3_ENVIRONMENT | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"s3://earmark/x: no answer, .*check network, address and AWS_ENDPOINT_URL"):
        save(tmp_path / "file", open_store("s3://earmark/x"), tmp_path / "packs")
    with pytest.raises(InputError, match="store gs://bucket: s3://bucket/prefix or a folder"):
        open_store("gs://bucket")


def test_a_bucket_that_is_not_there_is_said(s3, monkeypatch, tmp_path):
    for name, value in (S3_ENVIRONMENT | {"AWS_ENDPOINT_URL": s3.address}).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"s3://nowhere/x: not there \(404\): check the address"):
        save(tmp_path / "file", open_store("s3://nowhere/x"), tmp_path / "packs")
