"""The engine with the project's image in it, made once for all tests in containers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.images import Image

from containers.engine import IMAGE, Engine, LackingError, missing


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A running engine that has the image; DOCKER_HOST leads to it."""
    if lacking := missing():
        pytest.skip(f"needs {lacking}")
    made = Engine()
    try:
        try:
            made.base()
        except LackingError as error:
            pytest.skip(f"needs {error}")
        made.build()
        made.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", made.host)
            yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def image(engine: Engine) -> Image:
    """The project's image as the engine knows it."""
    return engine.client().images.get(IMAGE)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that the image's user may write to."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    tmp_path.chmod(0o755)
    return folder
