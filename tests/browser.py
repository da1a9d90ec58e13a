"""A browser for pages."""

import atexit
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Opened:
    """A page in the browser, what its console complained of, and every address it asked for beside its own."""

    page: object
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def run(self, program: str):
        """What a line of JavaScript says in the page."""
        return self.page.evaluate(program)


@cache
def launched() -> object:
    """One browser a process: Playwright starts once."""
    from playwright.sync_api import sync_playwright

    driver = sync_playwright().start()
    chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    atexit.register(driver.stop)
    atexit.register(chromium.close)
    return chromium


@pytest.fixture(scope="session")
def browser() -> object:
    if not CHROMIUM:
        pytest.skip("needs Chromium to open pages")
    return launched()


@pytest.fixture
def page_at(browser) -> Iterator[Callable[[Path, int], Opened]]:
    """Open a file at a width in pixels: page_at(path, 390)."""
    contexts = []

    def opened(path: Path, width: int) -> Opened:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        found = Opened(contexts[-1].new_page())
        found.page.on("console", lambda message: found.errors.append(message.text) if message.type in ("error", "warning") else None)
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        own = path.resolve().as_uri()
        found.page.on("request", lambda request: found.requests.append(request.url) if request.url != own else None)
        found.page.goto(own)
        found.requests = [address for address in found.requests if not address.startswith("data:")]
        return found

    yield opened
    for context in contexts:
        context.close()
