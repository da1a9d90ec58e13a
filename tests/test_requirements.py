"""What CI requires is not skipped; what the image holds is pinned as everywhere else."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest_plugins = ["pytester"]

SKIPPING = """
    import pytest

    def test_server():
        pytest.skip("needs a server")

    def test_gpu():
        pytest.skip("there is a GPU")
"""
MODULE = """
    import pytest

    pytest.importorskip("no_such_module", reason="needs a module")
"""


@pytest.mark.parametrize(("required", "failed"), [("1", 2), ("0", 0), (None, 0)])
def test_a_skip_for_what_is_needed_fails_where_all_is_required(pytester, monkeypatch, required, failed):
    monkeypatch.delenv("EARMARK_REQUIRE_ALL", raising=False)
    if required:
        monkeypatch.setenv("EARMARK_REQUIRE_ALL", required)
    pytester.makeconftest((ROOT / "tests/conftest.py").read_text())
    pytester.makepyfile(test_one=SKIPPING, test_two=MODULE)
    outcomes = pytester.runpytest_subprocess("--continue-on-collection-errors", "-p", "no:cacheprovider").parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) + outcomes.get("error", 0) == failed
    assert outcomes["skipped"] == 3 - failed


def pins(lock: str) -> dict[str, list[str]]:
    """Requirement to its hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    return {entry.split()[0]: re.findall(r"sha256:[0-9a-f]{64}", entry) for entry in entries}


def test_the_images_lock_is_a_part_of_the_whole_lock():
    everything, image = pins("requirements.lock"), pins("requirements-image.lock")
    assert all(everything.get(requirement) == hashes for requirement, hashes in image.items())
    assert all(image.values())


def test_the_images_lock_has_what_the_package_needs_and_no_tool_of_ours():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    held = {requirement.split("==")[0] for requirement in pins("requirements-image.lock")}

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9_-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}

    assert names(project["dependencies"]) <= held
    assert not held & {"pytest", "pyright", "ruff", "moto", "playwright", "espeakng-loader", "pyworld"}
