"""The pages that people open, in a real browser: whole, quiet, and readable on a desk and on a phone."""

from pathlib import Path

import pytest

from earmark import stages
from earmark.cli.check import check
from earmark.params import ComputeParams
from earmark.report.clock import clock
from earmark.verdict.files import Options
from earmark.verdict.judge import load_judge

WIDTHS = (1400, 390)


@pytest.fixture(scope="module")
def evidence(done, corpus, tmp_path_factory) -> Path:
    """The evidence page of a clip of a spoof."""
    path = tmp_path_factory.mktemp("pages") / "evidence.html"
    judge = load_judge(done / stages.ARTIFACTS["model"], "model", None, ComputeParams(device="cpu", threads=1), None)
    assert check(judge, [str(corpus / "spoof/eval-spoof-1.flac")], Options(html=path)) == 0
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_the_evidence_page_is_whole(evidence, page_at, width):
    seen = page_at(evidence, width)
    assert (seen.errors, seen.requests) == ([], [])
    assert seen.run("document.documentElement.scrollWidth <= innerWidth")
    sizes = seen.run("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) == 2
    assert min(sizes) > 1000
    text = seen.page.inner_text("body")
    for words in ("Timeline", "which system made it", "What decided", "The members add to this window's score", "sha256"):
        assert words in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_doctor_s_page_is_readable(done, page_at, width):
    seen = page_at(done / stages.ARTIFACTS["diagnosis"] / "report.html", width)
    assert (seen.errors, seen.requests) == ([], [])
    assert seen.run("document.documentElement.scrollWidth <= innerWidth")
    assert "label conflicts" in seen.page.inner_text("body").lower()


def test_times_are_read_like_a_clock():
    assert [clock(seconds) for seconds in (0, 59.96, 3725.25)] == ["0:00.0", "1:00.0", "1:02:05.2"]
