"""A stage as a Kubeflow component against its function in a fresh Python, imports included in both.

Run: python bench/steps.py. With IMAGE set and a podman or docker that has it, also in a container.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from earmark import params, stages
from earmark.kubeflow.store import open_store, save
from timing import seconds, show

ROOT = Path(__file__).resolve().parents[1]
CLIPS, REPEATS = 40, 5
PLAIN = "from pathlib import Path\nfrom earmark import params, stages\nstages.run('prepare_protocol', params.load(Path('params.yaml')))"
MOST_HERE, MOST_IN_CONTAINER = 2.0, 5.0  # seconds


def rows() -> list[dict[str, Any]]:
    """Overhead of a component in a process, and in a container where an image is named."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o777)
        given = lay_out(root / "workspace")
        plain = seconds(lambda: python(root / "workspace", "-c", PLAIN), REPEATS)
        found = [overhead("here", plain, min(execute(root, given, []) for _ in range(REPEATS)), MOST_HERE)]
        if image := os.environ.get("IMAGE"):
            engine = os.environ.get("ENGINE", "podman")
            start = [engine, "run", "--rm", "--network=host", f"--volume={root}:{root}", image]
            found.append(overhead("in a container", plain, min(execute(root, given, start) for _ in range(REPEATS)), MOST_IN_CONTAINER))
    return found


def overhead(where: str, plain: float, component: float, most: float) -> dict[str, Any]:
    """A row whose `ours` is what the component costs beyond the function."""
    name = f"component {where}: {component:.2f} s in all, its function in a fresh Python {plain:.2f} s; the difference"
    return {"name": name, "ours": component - plain, "peer": float("nan"), "bar": f"≤ {most:g} s", "met": component - plain <= most}


def lay_out(workspace: Path) -> params.Params:
    """A small corpus, settings, and copies of nothing."""
    rng = np.random.default_rng(0)
    for key, place in (("bonafide", "bonafide"), ("spoof", "spoof/engine")):
        (workspace / "data" / place).mkdir(parents=True)
        for number in range(CLIPS // 2):
            soundfile.write(workspace / "data" / place / f"{key}{number}.flac", 0.1 * rng.standard_normal(32_000), 16_000)
    given = params.parse({"tracking": {"enabled": False}}, "bench")
    (workspace / "params.yaml").write_text(params.dump(given))
    python(workspace, "-c", PLAIN.replace("prepare_protocol", "synthesize_copies"))
    return given


def python(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)


def execute(root: Path, given: params.Params, prefix: list[str]) -> float:
    """Seconds of what Kubeflow runs in a step's container: kfp's executor on the component's source, with the inputs' pointers."""
    from components.prepare_protocol import prepare_protocol

    with tempfile.TemporaryDirectory(dir=root) as scratch:
        place = Path(scratch)
        place.chmod(0o777)
        store = open_store(str(place / "store"))
        Path(place / "store").mkdir(mode=0o777)
        artifacts = {}
        for name in ("data", "copies"):
            pointer = save(root / "workspace" / stages.ARTIFACTS[name], store, place / "packs")
            (place / f"{name}.json").write_text(json.dumps(pointer.content))
            artifacts[name] = described(place / f"{name}.json")
        sections = {name: json.dumps(value) for name, value in json.loads(given.model_dump_json()).items() if name in ("corpora", "trials")}
        outputs = {name: described(place / name) for name in ("output", "metrics")}
        executor = {
            "inputs": {"parameterValues": sections | {"store": store.place, "run": ""}, "artifacts": artifacts},
            "outputs": {"artifacts": outputs, "outputFile": str(place / "executor_output.json")},
        }
        for path in [place, *place.rglob("*")]:
            path.chmod(0o777)
        container = prepare_protocol.component_spec.implementation.container
        words = [json.dumps(executor) if str(word) == "{{$}}" else str(word) for word in [*container.command, *container.args]]
        begin = time.perf_counter()
        done = subprocess.run([*prefix, *words], cwd=ROOT, capture_output=True, text=True)
        found = time.perf_counter() - begin
        if done.returncode or not (place / "output").exists():
            sys.exit(f"error: the component failed:\n{done.stderr[-3000:]}")
        return found


def described(path: Path) -> dict[str, Any]:
    """An artifact as Kubeflow tells a step of it."""
    kind = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": path.stem, "type": kind, "uri": str(path), "metadata": {}}]}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    show(rows())
