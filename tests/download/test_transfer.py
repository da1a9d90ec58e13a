"""Files behind http arrive whole, whatever happens on the way."""

import contextlib
import hashlib
import json
import logging
import os
import re
import resource
import signal
import ssl
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from download.conftest import files
from download.test_archive import tar
from earmark import InputError
from earmark.download import plan as plans
from earmark.download.catalogue import Catalogue, File, Known
from earmark.download.fetch import fetch
from earmark.download.pins import LOCK

OPENSSL = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1")


def leftovers(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_with_a_record_a_lock_and_nothing_else(web, params, content, tmp_path):
    address = web.put("speech.bin", content)
    record = fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}
    assert leftovers(tmp_path) == ["corpus", LOCK]
    assert web.asked["/speech.bin"] == 1
    assert record == json.loads((tmp_path / "corpus/download.json").read_text())
    assert record["addresses"][address]["files"] == {"speech.bin": hashlib.sha256(content).hexdigest()}
    assert record["bytes"] == len(content)


def test_what_is_complete_is_not_fetched_again_and_another_source_does_not_replace_it(web, params, content, tmp_path):
    address = web.put("speech.bin", content)
    fetch(address, tmp_path / "corpus", params)
    before = web.asked.total()
    fetch(address, tmp_path / "corpus", params)
    assert web.asked.total() == before
    with pytest.raises(InputError, match=r"corpus holds http.*speech\.bin, not http.*other\.bin"):
        fetch(web.put("other.bin", content), tmp_path / "corpus", params)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.wav").write_bytes(b"mine")
    with pytest.raises(InputError, match="mine holds something that was not downloaded"):
        fetch(address, tmp_path / "mine", params)
    assert files(tmp_path / "mine") == {"a.wav": b"mine"}


@pytest.mark.parametrize("size", [0, 1, 131_072, 131_073])
def test_files_of_awkward_sizes_arrive(web, params, size, tmp_path):
    fetch(web.put("a.bin", bytes(size)), tmp_path / "a", params)
    assert files(tmp_path / "a") == {"a.bin": bytes(size)}


@pytest.mark.parametrize(
    "faults",
    [[500, 500], [429, 503], [("reset", 50_000)] * 5, [("short", 70_000)] * 5, [("stall", 20_000)]],
    ids=lambda faults: str(faults[0]),
)
def test_a_failure_that_passes_is_tried_again(web, params, content, faults, tmp_path):
    web.faults["/speech.bin"] = list(faults)
    fetch(web.put("speech.bin", content), tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}
    assert not web.faults["/speech.bin"]


@pytest.mark.parametrize("faults", [[], [("reset", 900_000)], [("short", 900_000), 500]])
def test_a_server_without_ranges_serves_from_the_beginning(web, params, content, faults, tmp_path):
    web.ranges, web.faults["/speech.bin"] = False, list(faults)
    fetch(web.put("speech.bin", content), tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}


@pytest.mark.parametrize(
    ("status", "says"), [(401, "access refused"), (403, r"access refused.*netrc"), (404, "not there"), (418, "answers 418")]
)
def test_a_failure_that_will_not_pass_is_an_error_at_once(web, params, content, status, says, tmp_path):
    address = web.put("speech.bin", content)
    web.faults["/speech.bin"] = [status]
    with pytest.raises(InputError, match=says):
        fetch(address, tmp_path / "corpus", params)
    assert web.asked.total() == 1
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("fault", [500, ("short", 0)])
def test_patience_ends(web, params, content, fault, tmp_path):
    web.faults["/speech.bin"] = [fault] * 100
    with pytest.raises(InputError, match=r"speech\.bin: .*\(4 times\): check network"):
        fetch(web.put("speech.bin", content), tmp_path / "corpus", params)
    assert not (tmp_path / "corpus").exists()


def test_without_network_it_is_said_which_file_to_put_where_and_such_a_file_is_taken(web, params, content, tmp_path):
    web.stop()
    address = f"{web.address}/speech.bin"
    with pytest.raises(
        InputError, match=rf"Without network or access.*{re.escape(str(tmp_path))}/corpus\.download.*\n.*speech\.bin  checksum not known"
    ):
        fetch(address, tmp_path / "corpus", params)
    (tmp_path / "corpus.download/speech.bin").write_bytes(content)
    fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}


def test_a_host_that_does_not_exist_is_said(params, tmp_path):
    with pytest.raises(InputError, match=r"its host is not known here \(3 times\)"):
        fetch("http://nowhere.invalid/a.bin", tmp_path / "corpus", params.model_copy(update={"retries": 9}))


def test_secrets_of_an_address_are_neither_shown_nor_kept(web, params, content, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "earmark")
    web.faults["/speech.bin"] = [500]
    address = web.put("speech.bin", content)
    fetch(f"{address}?token=hunter2", tmp_path / "corpus", params)
    with pytest.raises(InputError, match=r"put it into ~/\.netrc") as refused:
        fetch(address.replace("//", "//me:hunter2@"), tmp_path / "other", params)
    with pytest.raises(InputError, match="not there") as missing:
        fetch(f"{web.address}/none?token=hunter2", tmp_path / "none", params)
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "speech.bin" in kept
    assert "hunter2" not in kept + caplog.text + str(refused.value) + str(missing.value)


def test_credentials_come_from_netrc(web, params, content, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(web.put("speech.bin", content), tmp_path / "corpus", params)
    assert all("Authorization" in headers for _, headers in web.seen)


PROGRAM = """
import sys
from pathlib import Path
from earmark.download.fetch import fetch
from earmark.params import DownloadParams
fetch(sys.argv[1], Path(sys.argv[2]), DownloadParams(timeout_seconds=5))
"""


def kill_in_the_middle(web, address, target) -> Path:
    """SIGKILL a download when a good part of it is here; the part."""
    part = target.with_name(f"{target.name}.download") / "parts/0" / address.rpartition("/")[2]
    web.seconds_a_step = 0.02
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, address, str(target)])
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 1_000_000) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    time.sleep(0.1)
    web.seconds_a_step, web.sent = 0.0, 0
    return part


LONG_AGO = "Thu, 01 Jan 2015 00:00:00 GMT"


@pytest.mark.parametrize("date", ["", LONG_AGO], ids=["tag", "date"])
@pytest.mark.parametrize("name", ["speech.bin", "speech.tar.gz"])
def test_a_killed_download_resumes_inside_the_file_and_ends_with_the_same_bytes(web, params, content, tmp_path, name, date):
    web.date = date
    entries = {f"flac/{number}.flac": content[number * 100_000 :][:200_000] for number in range(20)}
    served = tar(entries) if name.endswith("gz") else content * 2
    address = web.put(name, served)
    had = kill_in_the_middle(web, address, tmp_path / "corpus").stat().st_size
    fetch(address, tmp_path / "corpus", params)
    assert web.sent == len(served) - had
    fetch(address, tmp_path / "undisturbed", params)
    assert files(tmp_path / "corpus") == files(tmp_path / "undisturbed") == (entries if name.endswith("gz") else {name: served})
    assert (tmp_path / "corpus/download.json").read_bytes() == (tmp_path / "undisturbed/download.json").read_bytes()


@pytest.mark.parametrize("date", ["", LONG_AGO], ids=["tag", "date"])
def test_a_file_that_changed_since_the_run_that_was_killed_is_fetched_anew(web, params, content, tmp_path, caplog, date):
    web.date = date
    address = web.put("speech.bin", content)
    kill_in_the_middle(web, address, tmp_path / "corpus")
    web.date = date and "Fri, 02 Jan 2015 00:00:00 GMT"
    web.put("speech.bin", content[::-1])
    fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content[::-1]}
    assert "changed since its first bytes were fetched" in caplog.text


@pytest.mark.parametrize("kind", ["no tag", "weak tag", "date of just now"])
def test_a_part_that_nothing_tells_from_one_of_a_changed_file_is_not_used(web, params, content, tmp_path, kind):
    web.tags, web.weak = kind == "weak tag", kind == "weak tag"
    web.date = formatdate(usegmt=True) if kind.startswith("date") else ""
    address = web.put("speech.bin", content)
    kill_in_the_middle(web, address, tmp_path / "corpus")
    web.put("speech.bin", content[::-1])
    fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content[::-1]}
    assert web.sent == len(content)


@pytest.mark.parametrize("changed", [False, True])
def test_a_part_of_a_file_whose_digest_is_known_is_used_without_any_tag_and_the_digest_tells(web, params, content, tmp_path, changed):
    web.tags = False
    address = web.put("speech.bin", content)
    had = kill_in_the_middle(web, address, tmp_path / "corpus").stat().st_size
    web.put("speech.bin", content[::-1] if changed else content)
    file = File(address=address, sha256=hashlib.sha256(content).hexdigest())
    with pytest.MonkeyPatch.context() as patch:
        known = Known(title="Corpus", licence=None, homepage="https://example.org", files=(file,))
        patch.setattr(plans, "catalogue", lambda: Catalogue(corpora={"corpus": known}, weights={}))
        with pytest.raises(InputError, match="wrong checksum") if changed else contextlib.nullcontext():
            fetch("corpus", tmp_path / "corpus", params)
        assert web.sent == len(content) - had
        web.put("speech.bin", content)
        fetch("corpus", tmp_path / "corpus", params)  # the wrong bytes are gone
    assert files(tmp_path / "corpus") == {"speech.bin": content}


def test_a_file_that_changes_while_it_is_fetched_is_fetched_anew(web, params, content, tmp_path, caplog):
    def change(path, asked):
        if asked:
            web.put("speech.bin", content[::-1])

    address, web.before, web.faults["/speech.bin"] = web.put("speech.bin", content), change, [("reset", 900_000)] * 2
    fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content[::-1]}
    assert "changed since its first bytes were fetched" in caplog.text


def test_a_file_that_changes_all_the_time_is_given_up(web, params, content, tmp_path):
    web.before = lambda path, asked: web.put("speech.bin", os.urandom(300_000))
    web.faults["/speech.bin"] = [("short", 100_000)] * 100
    with pytest.raises(InputError, match=r"speech\.bin: .*broken off \(4 times\)"):
        fetch(web.put("speech.bin", content), tmp_path / "corpus", params)


def test_a_part_that_is_longer_than_the_file_is_thrown_away(web, params, content, tmp_path):
    address = web.put("speech.bin", content)
    part = kill_in_the_middle(web, address, tmp_path / "corpus")
    part.write_bytes(content + b"more")
    fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}


def test_bytes_that_differ_from_those_of_the_first_time_are_refused_until_the_pin_is_taken_out(web, params, content, tmp_path):
    address = web.put("speech.bin", content)
    fetch(address, tmp_path / "corpus", params)
    web.put("speech.bin", content[::-1])
    with pytest.raises(InputError, match=r"not the bytes \(speech\.bin\) that .*sources\.lock\.json pins"):
        fetch(address, tmp_path / "again", params)
    assert not (tmp_path / "again").exists()
    (tmp_path / LOCK).unlink()
    fetch(address, tmp_path / "again", params)
    assert files(tmp_path / "again") == {"speech.bin": content[::-1]}


def test_a_full_disk_is_named_and_the_download_goes_on_later(web, params, content, tmp_path):
    address, before = web.put("speech.bin", content), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # files stop growing, as on a full disk
    try:
        with pytest.raises(InputError, match=r"cannot write .*speech\.bin: File too large; free space, then run it again"):
            fetch(address, tmp_path / "corpus", params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    web.sent = 0
    fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}
    assert web.sent < len(content)


def test_two_processes_do_not_fetch_into_one_folder(web, params, content, tmp_path):
    address, state = web.put("speech.bin", content), tmp_path / "corpus.download/.lock"
    web.seconds_a_step = 0.02
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, address, str(tmp_path / "corpus")])
    while not state.exists() or not web.asked:
        time.sleep(0.05)
    with pytest.raises(InputError, match="another process downloads into it"):
        fetch(address, tmp_path / "corpus", params)
    process.kill()
    process.wait()


def test_after_a_crash_of_the_machine_a_part_without_known_digest_is_not_used(web, params, content, tmp_path, monkeypatch):
    address = web.put("speech.bin", content)
    part = kill_in_the_middle(web, address, tmp_path / "corpus")
    part.write_bytes(bytes(part.stat().st_size))  # the name was kept, the bytes were not
    monkeypatch.setattr("earmark.download.http._boot", lambda: "another")
    fetch(address, tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}


def test_a_certificate_that_is_not_trusted_says_how_to_trust_it(params, tmp_path):
    subprocess.run([*OPENSSL, "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with pytest.raises(InputError, match="its certificate is not trusted here: REQUESTS_CA_BUNDLE names your own authorities"):
            fetch(f"https://127.0.0.1:{server.server_address[1]}/a.bin", tmp_path / "corpus", params)
    finally:
        server.shutdown()
        server.server_close()


def test_a_proxy_of_the_environment_is_asked(web, params, content, tmp_path, monkeypatch):
    web.put("speech.bin", content)
    monkeypatch.setenv("http_proxy", web.address)
    monkeypatch.setenv("no_proxy", "")
    web.files["http://corpora.invalid/speech.bin"] = content
    fetch("http://corpora.invalid/speech.bin", tmp_path / "corpus", params)
    assert files(tmp_path / "corpus") == {"speech.bin": content}
