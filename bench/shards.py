"""Two workers of precompute in two containers, a core and a thread each, against the same two one after the other.

Run: IMAGE=earmark:dev [ENGINE=podman] python bench/shards.py.
"""

import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from earmark import params, stages
from earmark.storage.files import write_table
from timing import row, show

FILES, SECONDS, HOURS, CORES = 20, 30, 40.0, ("0", "1")
LEAST = 1.7


def rows() -> list[dict[str, Any]]:
    """Nothing where no image is named."""
    image = os.environ.get("IMAGE")
    if not image:
        return []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lay_out(root)
        together, apart = measure(root, image, workers=2), measure(root, image, workers=1)
    name = f"two shards of precompute ({HOURS:g} h of speech) in two containers of one core; peer: one after the other"
    return [row(name, together, apart, least=LEAST)]


def lay_out(root: Path) -> None:
    """A table of trials over a few files, many times each: precompute reads every row anew."""
    rng, paths = np.random.default_rng(0), []
    (root / "data").mkdir()
    for number in range(FILES):
        paths.append(f"data/{number}.flac")
        soundfile.write(root / paths[-1], 0.1 * rng.standard_normal(SECONDS * 16_000), 16_000)
    count = int(HOURS * 3600 / SECONDS)
    table = pd.DataFrame({"utterance_id": [str(number) for number in range(count)]})
    table["path"] = [paths[number % FILES] for number in range(count)]
    table = table.assign(corpus="bench", seconds=float(SECONDS), digest=table["path"])
    write_table(root / stages.ARTIFACTS["protocol"], table)
    (root / stages.ARTIFACTS["diagnosis"]).mkdir(parents=True)
    sharding = {"shard_seconds": HOURS * 1800}
    (root / "params.yaml").write_text(params.dump(params.parse({"sharding": sharding, "tracking": {"enabled": False}}, "bench")))
    for path in [root, *root.rglob("*")]:
        path.chmod(0o777)


def measure(root: Path, image: str, workers: int) -> float:
    """Seconds from the first start to the last end."""

    def work(number: int) -> None:
        command = [os.environ.get("ENGINE", "podman"), "run", "--rm", f"--cpuset-cpus={CORES[number]}", "--env=OMP_NUM_THREADS=1"]
        command += [f"--volume={root}:{root}", f"--workdir={root}", image]
        subprocess.run([*command, "earmark", "precompute_cqt", "--shard", f"{number + 1}/2"], check=True, capture_output=True)

    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(2)))
    elapsed = time.perf_counter() - begin
    subprocess.run(["rm", "-r", str(root / stages.ARTIFACTS["features"])], check=True)
    return elapsed


if __name__ == "__main__":
    show(rows())
