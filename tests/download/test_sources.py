"""Known corpora, in parts, with checksums and layout; folders of this machine."""

import hashlib
import re
from typing import get_args

import pytest

from download.conftest import files
from download.test_archive import GOOD, NOISE, tar, zipped
from earmark import InputError
from earmark.corpora.asvspoof import read_2019_la
from earmark.download import catalogue as catalogues
from earmark.download import plan as plans
from earmark.download.catalogue import Archive, Catalogue, File, Known, catalogue
from earmark.download.fetch import fetch
from earmark.params import Adapter

MORE = {"LA/flac/c.flac": NOISE[::-1], "LA/more.txt": b"more"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def known(monkeypatch):
    """Make a source known by the name `corpus`."""

    def make(**about) -> str:
        about = {"title": "Corpus", "licence": "CC0-1.0", "homepage": "https://example.org"} | about
        found = Catalogue(corpora={"corpus": Known(**about)}, weights={})
        monkeypatch.setattr(plans, "catalogue", lambda: found)
        return "corpus"

    return make


def part(address: str, content: bytes) -> File:
    return File(address=address, sha256=sha256(content), bytes=len(content))


def test_every_known_corpus_has_an_adapter_licence_and_checksums_of_the_right_form():
    assert set(catalogue().corpora) == set(get_args(Adapter)) - {"folder"}
    for name, source in (catalogue().corpora | catalogue().weights).items():
        assert source.licence or name == "in_the_wild"
        assert source.homepage.startswith("https://")
        assert source.holds or source.files
        for file in plans.plan(name).files:
            assert not file.sha256 or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert all(re.fullmatch("[0-9a-f]{32}", one) for one in file.md5)
    assert catalogues.catalogue().weights["xls-r-300m"].files[0].digests


@pytest.mark.parametrize("kind", ["split", "archives"])
def test_an_archive_in_parts_is_unpacked_as_one_beside_another(web, params, known, tmp_path, kind, caplog):
    """Parts may be one archive cut up, or archives of their own."""
    caplog.set_level("INFO")
    if kind == "split":
        whole = tar(GOOD | MORE)
        contents = [whole[:300_000], whole[300_000:300_001], whole[300_001:]]
    else:
        contents = [tar(GOOD), tar(MORE, "w:gz"), tar({})]
    parts = tuple(part(web.put(f"part{number}.tar.gz", content), content) for number, content in enumerate(contents))
    keys = zipped({"keys.txt": b"keys"})
    archives = (Archive(parts=parts), Archive(parts=(part(web.put("keys.zip", keys), keys),), into="LA/keys"))
    record = fetch(known(archives=archives, holds={"LA/keys/keys.txt": sha256(b"keys"), "LA/flac": None}), tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD | MORE | {"LA/keys/keys.txt": b"keys"}
    assert record["licence"] == "CC0-1.0"
    assert "licence CC0-1.0" in caplog.text
    assert len(record["addresses"]) == 4


def test_a_file_that_cannot_be_had_stops_the_others_which_resume(web, params, known, tmp_path):
    web.seconds_a_step = 0.05
    first, second = tar(GOOD, "w"), tar(MORE, "w")
    archives = (Archive(parts=(part(web.put("a.tar", first), first),)), Archive(parts=(part(f"{web.address}/b.tar", second),)))
    with pytest.raises(InputError, match=r"b\.tar: not there"):
        fetch(known(archives=archives), tmp_path / "corpus", params)
    assert web.sent < len(first)
    web.put("b.tar", second)
    fetch(known(archives=archives), tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD | MORE


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.bin"])
def test_a_wrong_checksum_is_named_and_the_bytes_are_fetched_again_next_time(web, params, known, tmp_path, name):
    right = zipped(GOOD) if name == "a.zip" else tar(GOOD)
    wrong = bytearray(right)
    wrong[350_000] ^= 1
    file = part(web.put(name, bytes(wrong)), right)
    source = known(files=(file,)) if name == "a.bin" else known(archives=(Archive(parts=(file,)),))
    with pytest.raises(InputError, match=rf"{re.escape(name)}: wrong checksum: sha256 {sha256(bytes(wrong))}, not sha256 {sha256(right)}"):
        fetch(source, tmp_path / "corpus", params)
    assert not (tmp_path / "corpus").exists()
    web.put(name, right)
    fetch(source, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == ({"a.bin": right} if name == "a.bin" else GOOD)


def test_an_md5_out_of_several_will_do_and_none_of_them_will_not(web, params, known, tmp_path):
    content = tar(GOOD)
    md5 = hashlib.md5(content).hexdigest()
    address = web.put("a.tar.gz", content)
    fetch(known(archives=(Archive(parts=(File(address=address, md5=("0" * 32, md5)),)),)), tmp_path / "corpus", params)
    with pytest.raises(InputError, match=f"wrong checksum: md5 {md5}, not md5 {'0' * 32}"):
        fetch(known(archives=(Archive(parts=(File(address=address, md5=("0" * 32,)),)),)), tmp_path / "other", params)


def test_a_remote_of_another_size_and_an_archive_of_another_layout_are_named(web, params, known, tmp_path):
    content = tar(GOOD)
    address = web.put("a.tar.gz", content)
    with pytest.raises(InputError, match=r"has [\d,]+ bytes, not 5: it is another file"):
        fetch(known(archives=(Archive(parts=(File(address=address, bytes=5),)),)), tmp_path / "corpus", params)
    with pytest.raises(InputError, match="keys is not in what was fetched"):
        fetch(known(archives=(Archive(parts=(File(address=address),)),), holds={"keys": None}), tmp_path / "corpus", params)
    with pytest.raises(InputError, match=r"protocol\.txt is not the published file"):
        fetch(known(archives=(Archive(parts=(File(address=address),)),), holds={"LA/protocol.txt": "0" * 64}), tmp_path / "corpus", params)
    assert not (tmp_path / "corpus").exists()


def test_files_brought_by_hand_are_verified_and_used_without_network(web, params, known, tmp_path):
    content = tar(GOOD)
    web.stop()
    source = known(archives=(Archive(parts=(part(f"{web.address}/a.tar.gz", content),)),))
    with pytest.raises(InputError, match=rf"put them into .*corpus\.download.*\n  a\.tar\.gz  sha256 {sha256(content)}  from http"):
        fetch(source, tmp_path / "corpus", params)
    place = tmp_path / "corpus.download/a.tar.gz"
    place.write_bytes(content[:-1] + b"x")
    with pytest.raises(InputError, match=r"wrong checksum|has .* bytes"):
        fetch(source, tmp_path / "corpus", params)
    assert place.exists()
    place.write_bytes(content)
    fetch(source, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD


def test_a_folder_of_this_machine_is_taken_as_it_is(params, tmp_path):
    for name, content in GOOD.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(content)
    fetch(str(tmp_path / "there"), tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == files(tmp_path / "there") == GOOD
    with pytest.raises(InputError, match="no file or folder, and no known name; known are asvspoof2019_la, "):
        fetch("asvspoof2091_la", tmp_path / "other", params)
    with pytest.raises(InputError, match="ftp://: not known; write https://"):
        fetch("ftp://example.org/a.zip", tmp_path / "other", params)


def test_what_is_unpacked_is_what_the_adapter_reads(web, params, known, tmp_path):
    lines = {split: f"LA_0001 LA_{split} - - bonafide\n".encode() for split in ("train", "dev", "eval")}
    ends = {"train": "trn", "dev": "trl", "eval": "trl"}
    protocols = {f"LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{split}.{ends[split]}.txt": line for split, line in lines.items()}
    audio = {f"LA/ASVspoof2019_LA_{split}/flac/LA_{split}.flac": b"fLaC" for split in lines}
    address = web.put("LA.zip", zipped(protocols | audio))
    fetch(known(archives=(Archive(parts=(File(address=address),)),)), tmp_path / "corpus", params)
    table = read_2019_la(tmp_path / "corpus")
    assert sorted(table["split"]) == ["dev", "eval", "train"]
