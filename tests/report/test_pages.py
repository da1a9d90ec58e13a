"""The pages that people open, in a real browser: whole, quiet, and readable on a desk and on a phone."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from earmark import stages
from earmark.params import ComputeParams
from earmark.report.pages import clock, render
from earmark.verdict.command import Options, check, load_judge

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (1400, 390)
Open = Callable[[Path, int], "Seen"]


class Seen:
    """A page as a reader has it, and what went wrong meanwhile."""

    def __init__(self, page, faults: list[str]):
        self.page, self.faults = page, faults

    def assert_sound(self) -> None:
        """Quiet, no wider than the screen, every figure there."""
        assert self.faults == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        sizes = self.page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert sizes
        assert all(size > 100 for size in sizes)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser) -> Iterator[Open]:
    """Open a file at a width; requests beside the file itself count as faults, and so do console errors."""
    pages = []

    def opened(path: Path, width: int) -> Seen:
        page, faults = browser.new_page(viewport={"width": width, "height": 900}), []
        pages.append(page)
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url[:80]) if not request.url.startswith(("file:", "data:")) else None)
        page.goto(path.as_uri())
        return Seen(page, faults)

    yield opened
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def evidence(done, corpus, tmp_path_factory) -> Path:
    """The evidence page of a clip of a spoof."""
    path = tmp_path_factory.mktemp("pages") / "evidence.html"
    judge = load_judge(done / stages.ARTIFACTS["model"], "model", None, ComputeParams(device="cpu", threads=1), None)
    assert check(judge, [str(corpus / "spoof/eval-spoof-1.flac")], Options(html=path)) == 0
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_the_evaluation_report_says_what_the_metrics_say(done, open_page, width):
    folder = done / stages.ARTIFACTS["evaluation"]
    seen = open_page(folder / "report.html", width)
    seen.assert_sound()
    text, metrics = seen.page.inner_text("body"), json.loads((folder / "metrics.json").read_text())
    assert f"{100 * metrics['tiny/eer']:.1f} %" in text
    assert f"{metrics['tiny/cllr_calibrated']:.3f}" in text
    assert f"{100 * metrics['tiny/tracing/accuracy']:.1f} %" in text
    for heading in ("Detection", "Calibration", "Tracing", "Robustness", "Training", "Data and model"):
        assert heading in text
    manifest = (done / stages.ARTIFACTS["model"] / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest()[:12] in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_evidence_page_is_whole(evidence, open_page, width):
    seen = open_page(evidence, width)
    seen.assert_sound()
    assert len(seen.page.query_selector_all("img")) == 2
    text = seen.page.inner_text("body")
    for words in ("Timeline", "which system made it", "What decided", "branch weighed more", "sha256"):
        assert words in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_doctor_s_page_is_readable(done, open_page, width):
    seen = open_page(done / stages.ARTIFACTS["diagnosis"] / "report.html", width)
    assert seen.faults == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "label conflicts" in seen.page.inner_text("body").lower()


def test_names_of_files_are_text_and_no_markup():
    page = render("base.html.j2")
    assert page.startswith("<!doctype html>")
    assert [clock(seconds) for seconds in (0, 59.96, 3725.25)] == ["0:00.0", "1:00.0", "1:02:05.2"]
