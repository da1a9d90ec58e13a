"""The stage and the command."""

import json
import logging
import subprocess
import sys

import pytest

from download.conftest import files
from download.test_archive import GOOD, tar
from earmark import InputError, stages
from earmark import params as settings
from earmark.download.progress import Meter
from earmark.params import Params


def configured(**download) -> Params:
    return settings.parse({"download": {"retries": 1, "timeout_seconds": 2} | download}, "test")


def test_the_stage_fetches_every_source_into_its_folder_and_none_twice(web, tmp_path):
    content = tar(GOOD)
    params = configured(sources={"LA": web.put("a.tar.gz", content), "more/plain": web.put("b.bin", b"b")})
    figures = stages.run("download", params, tmp_path)
    assert figures == {"sources": 2, "LA/bytes": len(content), "more/plain/bytes": 1}
    assert files(tmp_path / "data/LA") == GOOD
    assert files(tmp_path / "data/more/plain") == {"b.bin": b"b"}
    asked = web.asked.total()
    assert stages.run("download", params, tmp_path) == figures
    assert web.asked.total() == asked


def test_the_stage_fetches_what_is_there_when_one_source_fails_and_goes_on_with_the_rest_later(web, tmp_path):
    params = configured(sources={"a": web.put("a.bin", b"a"), "b": f"{web.address}/b.bin"})
    with pytest.raises(InputError, match=r"b\.bin: not there"):
        stages.run("download", params, tmp_path)
    assert files(tmp_path / "data/a") == {"a.bin": b"a"}
    web.put("b.bin", b"b")
    stages.run("download", params, tmp_path)
    assert files(tmp_path / "data/b") == {"b.bin": b"b"}


@pytest.mark.parametrize("name", ["/abs", "../out", "a/../../b", "."])
def test_a_source_goes_to_no_folder_outside(name):
    with pytest.raises(InputError, match="must name a folder below data/"):
        configured(sources={name: "asvspoof2019_la"})


def test_no_source_goes_into_the_folder_of_another():
    with pytest.raises(InputError, match="'a/b' lies inside 'a'"):
        configured(sources={"a": "asvspoof2019_la", "a/b": "mlaad"})


def earmark(*arguments: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "earmark", "download", *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_command_fetches_names_and_addresses_and_says_what_is_wrong_in_a_line(web, tmp_path):
    address = web.put("LA.tar.gz", tar(GOOD))
    done = earmark(address, "--to", "corpora", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "corpora/LA") == GOOD
    assert "licence not known" in done.stderr
    assert json.loads((tmp_path / "corpora/LA/download.json").read_text())["source"] == address
    done = earmark("asvspoof2091_la", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no known name; known are asvspoof2019_la" in done.stderr


def test_the_command_lists_what_is_known(tmp_path):
    from earmark.download.catalogue import catalogue

    listed = earmark("--list", cwd=tmp_path).stdout
    assert all(source.title.split()[0] in listed for source in catalogue().corpora.values())
    assert "ODC-By-1.0" in listed


def test_progress_says_rate_and_time_left_where_there_is_no_terminal(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("earmark.download.progress.LOG_SECONDS", 0)
    with Meter("Corpus") as meter:
        meter.expect(10_000_000)
        meter.skip(4_000_000)
        for _ in range(3):
            meter.add(500_000)
    assert "Corpus: 5.5 MB of 10.0 MB, " in caplog.text
    assert "/s, " in caplog.text
    assert " s left" in caplog.text
