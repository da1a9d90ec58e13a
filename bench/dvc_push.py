"""`dvc push` of a corpus's shards against that of its recordings, file by file, to one S3 server.

The server is a local one that waits before each answer, since a store is never without a way to it; --latency 0 leaves that out.
Run: python bench/dvc_push.py [--corpus FOLDER with protocol.tsv] [--latency SECONDS]; without a corpus on noise that is made for it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import soundfile as sf
from rich.progress import track

from earmark.audio.decode import probe
from earmark.corpora.folder import read
from earmark.features.shards import precompute
from earmark.params import AudioParams, CqtParams, DecodingParams, ShardingParams
from timing import row, seconds, show

if TYPE_CHECKING:
    from object_store import S3

CLIPS, SECONDS, LATENCY = 1500, 3.85, 0.05
FEWER, FASTER = 20, 5
ONE_BY_ONE = ("--jobs", "1")


def rows(corpus: Path | None = None, latency: float = LATENCY) -> list[dict[str, Any]]:
    """Shards against the recordings one by one, and against as many at a time as DVC sends by itself; each to an empty remote."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the tests' server
    from object_store import S3

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = recordings(corpus) if corpus else make_recordings(folder / "made")
        server = S3(latency)
        try:
            ours, peer = Repository(folder / "shards", server), Repository(folder / "files", server)
            make_shards(files, ours.data)
            for path in files:
                (peer.data / f"{path.parent.name}-{path.name}").symlink_to(path.resolve())
            mine, theirs, together = min(ours.push(), ours.push()), peer.push(*ONE_BY_ONE), peer.push()
        finally:
            server.stop()
    name = f"dvc push of {len(files)} recordings' shards to S3, {1000 * latency:g} ms away: {ours.objects} objects; peer: the recordings"
    found = row(f"{name} one by one, {peer.objects} objects", mine, theirs, least=FASTER)
    found |= {"bar": f"≥ {FASTER}×, 1/{FEWER} of objects", "met": found["met"] and FEWER * ours.objects <= peer.objects}
    return [found, row(f"{name}, as many at a time as DVC sends", mine, together)]


def recordings(corpus: Path) -> list[Path]:
    """The audio files of a folder corpus."""
    return [Path(path) for path in read(corpus)["path"]]


def make_recordings(folder: Path) -> list[Path]:
    """FLAC files of coloured noise: as large as speech."""
    rng, files = np.random.default_rng(0), []
    folder.mkdir()
    for number in track(range(CLIPS), "recordings", transient=True):
        noise = np.cumsum(rng.standard_normal(round(SECONDS * 16_000)))
        files.append(folder / f"{number:04}.flac")
        sf.write(files[-1], 0.3 * (noise - noise.mean()) / np.abs(noise).max(), 16_000, subtype="PCM_16")
    return files


def make_shards(files: list[Path], folder: Path) -> None:
    """What precompute_cqt makes of them."""
    protocol = pd.DataFrame({"utterance_id": [str(number) for number in range(len(files))], "path": [str(path) for path in files]})
    protocol[["seconds", "digest"]] = [probe(path, DecodingParams()) for path in track(files, "probe", transient=True)]
    precompute(protocol, DecodingParams(), AudioParams(), CqtParams(), ShardingParams(), folder)


class Repository:
    """A DVC repository that tracks the folder `data`, each of its pushes to a remote of its own."""

    def __init__(self, folder: Path, server: "S3"):
        self.folder, self.server, self.data, self.objects, self.turn = folder, server, folder / "data", 0, 0
        self.data.mkdir(parents=True)

    def push(self, *options: str) -> float:
        """Seconds that it takes."""
        from object_store import BUCKET

        prefix, self.turn = f"{self.folder.name}-{self.turn}", self.turn + 1
        if self.turn == 1:
            self._run("dvc", "init", "--no-scm", "--quiet")
            self._run("dvc", "add", "--quiet", "data")
        self._run("dvc", "remote", "add", "--quiet", "--force", "--default", "store", f"s3://{BUCKET}/{prefix}")
        self._run("dvc", "remote", "modify", "store", "endpointurl", self.server.address)
        spent = seconds(lambda: self._run("dvc", "push", "--quiet", *options), repeats=1)
        self.objects = sum(key.startswith(f"{prefix}/") for key in self.server.stored())
        return spent

    def _run(self, *command: str) -> None:
        from object_store import S3_ENVIRONMENT

        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        given = S3_ENVIRONMENT | {"PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.folder / "site")}
        subprocess.run(command, cwd=self.folder, env=os.environ | given, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder with protocol.tsv; without it noise is made")
    parser.add_argument("--latency", type=float, default=LATENCY, help="seconds before each of the server's answers")
    chosen = parser.parse_args()
    show(rows(chosen.corpus, chosen.latency))
