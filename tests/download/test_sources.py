"""Known corpora in parts, and every other kind of address."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote

import numpy as np
import pytest

from download.conftest import files
from download.test_archive import GOOD, NOISE, tar, zipped
from download.web import Web
from earmark import InputError
from earmark.corpora.asvspoof import read_2019_la
from earmark.download import catalogue as catalogues
from earmark.download import plan as plans
from earmark.download.catalogue import Archive, Catalogue, File, Known, catalogue
from earmark.download.fetch import fetch
from earmark.provenance import LICENCES
from object_store import BUCKET

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
    assert set(catalogue().corpora) == set(LICENCES) | {"in_the_wild"}
    for name, source in (catalogue().corpora | catalogue().weights).items():
        assert source.licence == LICENCES.get(name, source.licence)
        assert source.homepage.startswith("https://")
        assert source.holds or source.files
        for file in plans.plan(name).files:
            assert not file.sha256 or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ([file.md5] if isinstance(file.md5, str) else file.md5))
    assert catalogues.catalogue().weights["xls-r-300m"].files[0].digest.trusted


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


def test_unpacking_begins_before_all_has_arrived(web, params, known, tmp_path):
    content, seen = tar(GOOD | MORE, "w"), []
    web.before = lambda path, asked: seen.append((tmp_path / "corpus.download/unpacked-0/LA/flac/a.flac").exists())
    web.seconds_a_step = 0.01
    one = params.model_copy(update={"connections": 1})
    fetch(known(archives=(Archive(parts=(part(web.put("a.tar", content), content),)),)), tmp_path / "corpus", one)
    assert seen[0] is False
    assert seen[-1] is True


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
        fetch(known(archives=(Archive(parts=(File(address=address, md5="0" * 32),)),)), tmp_path / "other", params)


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


@pytest.fixture
def stored(bucket, s3) -> str:
    for name, content in (GOOD | {"other.txt": b"o"}).items():
        s3.client.put_object(Bucket=BUCKET, Key=f"corpora/{name}", Body=content)
    s3.client.put_object(Bucket=BUCKET, Key="corpora.tar.gz", Body=tar(GOOD))
    return bucket


def test_a_prefix_a_key_and_an_archive_of_s3_are_fetched(stored, params, tmp_path):
    fetch(f"{stored}/corpora", tmp_path / "all", params)
    assert files(tmp_path / "all") == GOOD | {"other.txt": b"o"}
    fetch(f"{stored}/corpora/LA/", tmp_path / "la", params)
    assert files(tmp_path / "la") == {name.removeprefix("LA/"): content for name, content in GOOD.items()}
    fetch(f"{stored}/corpora/LA/flac/a.flac", tmp_path / "one", params)
    assert files(tmp_path / "one") == {"a.flac": NOISE}
    fetch(f"{stored}/corpora.tar.gz", tmp_path / "tar", params)
    assert files(tmp_path / "tar") == GOOD


def test_trouble_with_s3_is_named(stored, params, tmp_path, monkeypatch):
    from earmark.download import s3 as ours

    with pytest.raises(InputError, match=r"s3://earmark/none: no object has this key"):
        fetch(f"{stored}/none", tmp_path / "a", params)
    with pytest.raises(InputError, match=r"s3://no-such-bucket/a: not there \(404\)"):
        fetch("s3://no-such-bucket/a", tmp_path / "a", params)
    ours.client.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"no answer, or one that broke off \(4 times\)"):
        fetch(f"{stored}/corpora", tmp_path / "a", params)
    ours.client.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no credentials: AWS_ACCESS_KEY_ID"):
        fetch(f"{stored}/corpora", tmp_path / "a", params)
    ours.client.cache_clear()


def test_an_object_that_changed_in_between_is_fetched_anew(stored, s3, params, tmp_path, caplog):
    from earmark.download.s3 import S3File

    plain, replaced = S3File.read, []

    def read(self, start, end, identity):
        if not replaced:
            replaced.append(s3.client.put_object(Bucket=BUCKET, Key="corpora/LA/flac/a.flac", Body=NOISE[::-1]))
        return plain(self, start, end, identity)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3File, "read", read)
        fetch(f"{stored}/corpora/LA/flac", tmp_path / "flac", params)
    assert files(tmp_path / "flac")["a.flac"] == NOISE[::-1]
    assert "changed while it was fetched" in caplog.text


PROGRAM = """
import sys
from pathlib import Path
from earmark.download.fetch import fetch
from earmark.params import DownloadParams
fetch(sys.argv[1], Path(sys.argv[2]), DownloadParams(connections=1, piece_mb=0.125))
"""


def test_a_killed_download_of_a_folder_fetches_no_file_twice(stored, s3, params, tmp_path):
    rng = np.random.default_rng(3)
    for number in range(40):
        s3.client.put_object(Bucket=BUCKET, Key=f"many/{number:02}.flac", Body=rng.bytes(300_000))
    target, content = tmp_path / "many", tmp_path / "many.download/content"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, f"{stored}/many", str(target)])
    while process.poll() is None and (not content.exists() or len(list(content.iterdir())) < 5):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    had = {path.name: path.stat().st_ino for path in content.iterdir()}
    fetch(f"{stored}/many", target, params)
    fetch(f"{stored}/many", tmp_path / "undisturbed", params)
    assert had
    assert {name: (target / name).stat().st_ino for name in had} == had
    assert files(target) == files(tmp_path / "undisturbed")
    assert (target / "download.json").read_bytes() == (tmp_path / "undisturbed/download.json").read_bytes()


COMMIT = "c0ffee" * 6 + "abcd"


class Hub:
    """As much of the hub as is asked: revisions, trees, and files behind a redirect to another server."""

    def __init__(self, contents: dict[str, bytes], web: Web):
        self.commit, self.asked, self.refuse = COMMIT, Counter(), 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                path = unquote(self.path.partition("?")[0])
                hub.asked[path] += 1
                hub.token = self.headers.get("Authorization")
                if hub.refuse:
                    return self.reply(hub.refuse, {"error": "no"}, {"X-Error-Code": "GatedRepo", "X-Error-Message": "no"})
                if "/resolve/" in path:
                    return self.reply(302, {}, {"Location": web.put(path.rpartition("/")[2], contents[path.partition(f"{COMMIT}/")[2]])})
                if not path.startswith(("/api/datasets/o/n/", "/api/models/o/n/")):
                    return self.reply(404, {}, {})
                if "/revision/" in path:
                    return self.reply(200, {"id": "o/n", "sha": hub.commit, "siblings": [], "private": False, "tags": []}, {})
                wanted = (
                    [name for name in contents if name in parse_qs(body).get("paths", [])] if "/paths-info/" in path else list(contents)
                )
                below = path.partition(f"/tree/{COMMIT}")[2].strip("/")
                return self.reply(200, [self.entry(name) for name in wanted if not below or name.startswith(below + "/")], {})

            do_GET = do_POST = answer

            def entry(self, name: str) -> dict:
                content = contents[name]
                large = {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 130}} if len(content) > 1000 else {}
                return {"type": "file", "path": name, "size": len(content), "oid": "a" * 40} | large

            def reply(self, status: int, content, headers: dict[str, str]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def hub(web, monkeypatch):
    found = Hub(GOOD, web)
    monkeypatch.setenv("HF_ENDPOINT", found.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)  # it would ask, and keep, what is none of ours
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.mark.parametrize("kind", ["hf://datasets/o/n", "hf://o/n@main", f"hf://o/n@{COMMIT}"])
def test_a_repository_of_the_hub_is_fetched_at_one_commit(hub, params, tmp_path, kind):
    record = fetch(kind, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD
    assert [one["revision"] for one in record["addresses"].values()] == [COMMIT]
    assert hub.token == "Bearer hf_secret"


def test_a_folder_and_a_file_of_the_hub_are_fetched_and_its_revision_is_pinned(hub, params, tmp_path):
    fetch("hf://datasets/o/n@main/LA/flac", tmp_path / "flac", params)
    assert files(tmp_path / "flac") == {"a.flac": NOISE, "b.flac": b""}
    fetch("hf://datasets/o/n@main/LA/protocol.txt", tmp_path / "one", params)
    assert files(tmp_path / "one") == {"protocol.txt": GOOD["LA/protocol.txt"]}
    hub.commit = "deadbeef" * 5
    shutil.rmtree(tmp_path / "flac")
    assert (
        fetch("hf://datasets/o/n@main/LA/flac", tmp_path / "flac", params)["addresses"]["hf://datasets/o/n@main/LA/flac"]["revision"]
        == COMMIT
    )


def test_trouble_with_the_hub_is_named(hub, params, tmp_path):
    with pytest.raises(InputError, match=r"write hf://owner/name@revision"):
        fetch("hf://name", tmp_path / "a", params)
    hub.refuse = 403
    with pytest.raises(InputError, match=r"access refused \(403\): set HF_TOKEN .*accept its terms") as refused:
        fetch("hf://datasets/o/n", tmp_path / "a", params)
    assert "hf_secret" not in str(refused.value)
    hub.refuse = 404
    with pytest.raises(InputError, match=r"not there \(404\)"):
        fetch("hf://datasets/o/n", tmp_path / "a", params)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository whose DVC remote is a folder; the files themselves lie there alone."""
    root = tmp_path_factory.mktemp("dvc")
    repository, environment = (
        root / "repository",
        os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
    )
    for name, content in GOOD.items():
        (repository / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / "data" / name).write_bytes(content)
    (repository / "one.bin").write_bytes(NOISE)

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run("git", "init", "-q")
    run("dvc", "init", "-q")
    run("dvc", "remote", "add", "-q", "-d", "store", str(root / "store"))
    run("dvc", "add", "-q", "data", "one.bin")
    run("git", "add", "-A")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "data")
    run("git", "tag", "v1")
    run("dvc", "push", "-q")
    shutil.rmtree(repository / "data")
    shutil.rmtree(repository / ".dvc/cache")
    (repository / "one.bin").unlink()
    return repository


def test_what_a_dvc_repository_tracks_is_fetched_at_a_revision(repository, params, tmp_path):
    record = fetch(f"dvc://{repository}@v1/data", tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD
    (address,) = record["addresses"].values()
    assert re.fullmatch("[0-9a-f]{40}", address["revision"])
    fetch(f"dvc://{repository}@v1/one.bin", tmp_path / "one", params)
    assert files(tmp_path / "one") == {"one.bin": NOISE}


def test_trouble_with_a_dvc_repository_is_named(repository, params, tmp_path):
    for address, says in (
        (f"dvc://{repository}@v2/data", "no such revision"),
        (f"dvc://{repository}@v1/none", "nothing is tracked there"),
        (f"dvc://{tmp_path}/none@v1/data", "no git repository can be had there"),
        (f"dvc://{repository}", "write dvc://REPOSITORY@REVISION/PATH"),
    ):
        with pytest.raises(InputError, match=says):
            fetch(address, tmp_path / "corpus", params)


def test_what_is_unpacked_is_what_the_adapter_reads(web, params, known, tmp_path):
    lines = {split: f"LA_0001 LA_{split} - - bonafide\n".encode() for split in ("train", "dev", "eval")}
    ends = {"train": "trn", "dev": "trl", "eval": "trl"}
    protocols = {f"LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{split}.{ends[split]}.txt": line for split, line in lines.items()}
    audio = {f"LA/ASVspoof2019_LA_{split}/flac/LA_{split}.flac": b"fLaC" for split in lines}
    address = web.put("LA.zip", zipped(protocols | audio))
    fetch(known(archives=(Archive(parts=(File(address=address),)),)), tmp_path / "corpus", params)
    table = read_2019_la(tmp_path / "corpus")
    assert sorted(table["split"]) == ["dev", "eval", "train"]
