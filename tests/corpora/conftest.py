import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf


@pytest.fixture
def tone(tmp_path: Path) -> Callable[[str], Path]:
    """Write a tenth of a second of sound at a path below tmp_path."""

    def write(place: str) -> Path:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = 0.1 * np.sin(2 * np.pi * 220 * np.arange(1600) / 16_000)
        sf.write(path, wave.astype(np.float32), 16_000, subtype="PCM_16")
        return path

    return write


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real protocol files, which is not part of the project."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("EARMARK_SHARED", beside))
    if not (folder / "data" / "protocols").is_dir():
        pytest.skip("real protocol files are not here: set EARMARK_SHARED to the folder that holds data/protocols")
    return folder


@pytest.fixture
def unpack(shared: Path) -> Callable[[str, Path], None]:
    """Decompress a real protocol file to a path."""

    def write(name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.decompress((shared / "data" / "protocols" / name).read_bytes()))

    return write
