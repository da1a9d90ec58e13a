"""Object stores, the hub and DVC repositories."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from download.conftest import files
from download.hub import COMMIT, Hub
from download.test_archive import GOOD, NOISE, tar
from earmark import InputError
from earmark.download.fetch import fetch
from earmark.download.places import exact
from earmark.download.progress import Meter
from earmark.storage.redact import refuse_secrets, shown
from object_store import BUCKET


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
    with pytest.raises(InputError, match=r"s3://earmark/none: no object has this key"):
        fetch(f"{stored}/none", tmp_path / "a", params)
    with pytest.raises(InputError, match=r"s3://no-such-bucket/a: not there \(404\)"):
        fetch("s3://no-such-bucket/a", tmp_path / "a", params)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"no answer, or one that broke off .*check network, address and AWS_ENDPOINT_URL"):
        fetch(f"{stored}/corpora", tmp_path / "a", params)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no credentials: AWS_ACCESS_KEY_ID"):
        fetch(f"{stored}/corpora", tmp_path / "a", params)


PROGRAM = """
import sys
from pathlib import Path
from earmark.download.fetch import fetch
from earmark.params import DownloadParams
fetch(sys.argv[1], Path(sys.argv[2]), DownloadParams(connections=1))
"""


def test_a_killed_download_of_a_folder_fetches_no_file_twice(stored, s3, params, tmp_path):
    rng = np.random.default_rng(3)
    for number in range(40):
        s3.client.put_object(Bucket=BUCKET, Key=f"many/{number:02}.flac", Body=rng.bytes(300_000))
    target, content = tmp_path / "many", tmp_path / "many.download/parts/0"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, f"{stored}/many", str(target)])
    while process.poll() is None and len(list(content.glob("*/*.flac"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    had = {path.name: path.stat().st_ino for path in content.glob("*/*.flac")}
    fetch(f"{stored}/many", target, params)
    fetch(f"{stored}/many", tmp_path / "undisturbed", params)
    assert had
    assert {name: (target / name).stat().st_ino for name in had} == had
    assert files(target) == files(tmp_path / "undisturbed")
    assert (target / "download.json").read_bytes() == (tmp_path / "undisturbed/download.json").read_bytes()


def test_a_folder_of_s3_that_changed_since_the_run_that_failed_is_fetched_anew(stored, s3, params, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("earmark.download.fetch.summary", fail)
        with pytest.raises(ZeroDivisionError):
            fetch(f"{stored}/corpora", tmp_path / "corpus", params)
    assert list((tmp_path / "corpus.download").rglob("a.flac"))
    s3.client.put_object(Bucket=BUCKET, Key="corpora/LA/flac/a.flac", Body=NOISE[::-1])
    fetch(f"{stored}/corpora", tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD | {"other.txt": b"o", "LA/flac/a.flac": NOISE[::-1]}


def test_an_object_that_changes_while_it_is_fetched_is_named_and_fetched_anew_next_time(bucket, s3, params, tmp_path, monkeypatch):
    content, plain, replaced = NOISE * 30, Meter.add, []  # three parts of boto3's transfer
    s3.client.put_object(Bucket=BUCKET, Key="large.bin", Body=content)

    def add(meter, count):
        if not replaced:
            replaced.append(s3.client.put_object(Bucket=BUCKET, Key="large.bin", Body=content[::-1]))
        plain(meter, count)

    monkeypatch.setattr(Meter, "add", add)
    with pytest.raises(InputError, match=r"large\.bin: it changed while it was fetched: run it again"):
        fetch(f"{bucket}/large.bin", tmp_path / "large", params.model_copy(update={"connections": 1}))
    assert not (tmp_path / "large").exists()
    fetch(f"{bucket}/large.bin", tmp_path / "large", params)
    assert files(tmp_path / "large") == {"large.bin": content[::-1]}


def fail(*_):
    raise ZeroDivisionError


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


def test_a_download_from_the_hub_that_failed_fetches_no_file_twice(hub, web, params, tmp_path):
    hub.served["LA/flac/a.flac"] = NOISE[:-1]  # it breaks off
    with pytest.raises(InputError, match="the hub does not answer, or broke off"):
        fetch("hf://datasets/o/n", tmp_path / "corpus", params)
    assert not (tmp_path / "corpus").exists()
    hub.served.clear()
    before = web.asked["/protocol.txt"]
    fetch("hf://datasets/o/n", tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD
    assert (before, web.asked["/protocol.txt"]) == (1, 1)


def test_other_bytes_than_the_hub_lists_are_refused(hub, params, tmp_path):
    hub.served["LA/flac/a.flac"] = NOISE[::-1]
    with pytest.raises(InputError, match=r"LA/flac/a\.flac: wrong checksum: sha256 [0-9a-f]{64}, not sha256"):
        fetch("hf://datasets/o/n", tmp_path / "corpus", params)
    hub.served.clear()
    fetch("hf://datasets/o/n", tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == GOOD


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
    ((address, about),) = record["addresses"].items()
    assert address == f"dvc://{repository}@v1/data"
    assert re.fullmatch("[0-9a-f]{40}", about["revision"])
    fetch(f"dvc://{repository}@v1/one.bin", tmp_path / "one", params)
    assert files(tmp_path / "one") == {"one.bin": NOISE}


def test_what_comes_from_a_repository_with_a_cache_here_is_no_link_to_it(repository, params, tmp_path):
    clone, environment = tmp_path / "clone", os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    subprocess.run(["git", "clone", "-q", repository, clone], check=True)
    for command in (["config", "cache.type", "symlink"], ["pull", "-q", "one.bin"]):
        subprocess.run(["dvc", *command], cwd=clone, env=environment, check=True, capture_output=True)
    assert (clone / "one.bin").is_symlink()
    fetch(f"dvc://{clone}@v1/one.bin", tmp_path / "one", params)
    assert files(tmp_path / "one") == {"one.bin": NOISE}
    assert not (tmp_path / "one/one.bin").is_symlink()


def test_trouble_with_a_dvc_repository_is_named(repository, params, tmp_path):
    for address, says in (
        (f"dvc://{repository}@v2/data", "no such revision"),
        (f"dvc://{repository}@v1/none", "nothing is tracked there"),
        (f"dvc://{tmp_path}/none@v1/data", "no git repository can be had there"),
        (f"dvc://{repository}", "write dvc://REPOSITORY@REVISION/PATH"),
    ):
        with pytest.raises(InputError, match=says):
            fetch(address, tmp_path / "corpus", params)


def test_an_address_inside_an_address_shows_no_password_and_none_is_taken():
    assert shown("dvc://https://me:hunter2@host/repository@v1/data") == "dvc://https://host/repository@v1/data"
    assert shown("dvc:///folder/repository@v1/data") == "dvc:///folder/repository@v1/data"
    with pytest.raises(InputError, match="must hold no password") as refused:
        refuse_secrets("dvc://https://me:hunter2@host/repository@v1/data")
    assert "hunter2" not in str(refused.value)
    refuse_secrets("dvc://ssh://git@host/repository@v1/data")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("dvc://git@host:team/repository@main/data/tiny", f"dvc://git@host:team/repository@{COMMIT}/data/tiny"),
        ("hf://datasets/owner/name", f"hf://datasets/owner/name@{COMMIT}"),
        ("hf://owner/name@main/fake", f"hf://owner/name@{COMMIT}/fake"),
    ],
)
def test_an_address_is_made_that_of_its_very_revision(address, found):
    assert exact(address, COMMIT) == exact(found, COMMIT) == found
    assert exact(address, None) == address
