"""Where the base system of the tests in containers is built from."""

import shutil
from pathlib import Path

import pytest

from containers.engine import mirror

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get")
DEB822 = "Types: deb\nURIs: {0}\nSuites: bookworm bookworm-updates\nComponents: main contrib\n"


def options(folder: Path, files: dict[str, str]) -> list[str]:
    """Make apt read these files alone; no list was ever fetched."""
    for name, text in {"sources.list.d/none.list": "", "lists/partial/none": "", "cache/none": "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    places = {"Etc::sourcelist": "sources.list", "Etc::sourceparts": "sources.list.d", "State::lists": "lists", "Cache": "cache"}
    return [part for key, name in places.items() for part in ("-o", f"Dir::{key}={folder / name}")]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, None),
        ({"sources.list": "deb http://one.example/debian bookworm main\n"}, "http://one.example/debian"),
        ({"sources.list.d/a.list": "deb [trusted=yes] https://two.example/d/ bookworm contrib main\n"}, "https://two.example/d"),
        ({"sources.list.d/a.sources": DEB822.format("https://three.example/debian/")}, "https://three.example/debian"),
        ({"sources.list.d/a.sources": "Enabled: no\n" + DEB822.format("https://three.example/debian")}, None),
        ({"sources.list.d/a.sources": DEB822.format("mirror+file:/etc/m https://four.example")}, "https://four.example"),
        ({"sources.list": "# deb http://one.example/debian bookworm main\ndeb-src http://one.example/debian bookworm main\n"}, None),
        ({"sources.list": "deb http://one.example/debian bookworm-updates main\ndeb http://one.example/ubuntu noble main\n"}, None),
    ],
)
def test_the_mirror_is_the_one_that_apt_names(tmp_path, files, found):
    assert mirror(*options(tmp_path, files)) == found
