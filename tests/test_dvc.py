"""dvc.yaml, stages.py and the code agree; the pipeline really runs through DVC, and a second time does nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from earmark import params as settings
from earmark.stages import ARTIFACTS, STAGES

ROOT = Path(__file__).resolve().parents[1]
DVC = [name for name, stage in STAGES.items() if "dvc" in stage.runs_on]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# loaded by the command line for every stage; they hold no stage's logic
WIRING = {"src/earmark/__main__.py", "src/earmark/stages.py"}  # which import all, and compute nothing


def outputs(stage: dict) -> list[str]:
    return [name if isinstance(name, str) else next(iter(name)) for name in stage["outs"]]


def test_dvc_runs_the_stages_of_stages_py_in_order():
    assert [name for name in PIPELINE if name != "keep_figures"] == DVC  # that one copies a few files into git's part
    for name in DVC:
        assert PIPELINE[name]["cmd"] == f"earmark {name}"
        assert outputs(PIPELINE[name]) == [ARTIFACTS[STAGES[name].output]]


@pytest.mark.parametrize("name", DVC)
def test_a_stage_follows_just_the_sections_and_inputs_it_uses(name):
    stage, entry = STAGES[name], PIPELINE[name]
    assert set(entry["params"]) == set(stage.sections)
    made = {dependency for dependency in entry["deps"] if dependency.startswith(("artifacts/", "data"))}
    inputs = {ARTIFACTS[key] for key in stage.inputs} | ({"data"} if stage.data else set())
    assert inputs <= made
    # audio files are opened by path: the copies stand behind the protocol's rows
    assert made - inputs <= {"artifacts/copies"}


def test_every_section_stands_in_params_yaml_since_dvc_follows_that_file():
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(written) == set(settings.Params.model_fields)


IMPORTS = """
import json, os, pathlib, sys, traceback
import accelerate, matplotlib.pyplot, nnAudio.features, pandas, scipy.stats, sklearn.mixture, torch, torchaudio  # seconds, once for all
for name in sys.argv[1:]:
    if os.fork():
        if os.wait()[1]:
            sys.exit(1)
        continue
    try:
        from earmark import params, stages
        stages.run(name, params.load(pathlib.Path("params.yaml")))
        loaded = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "earmark"]
        pathlib.Path(f"{name}.json").write_text(json.dumps(loaded))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def imported(done, tiny, tmp_path_factory) -> dict[str, set[str]]:
    """Files of the project that each stage loads, below its root; every stage runs in a process that has loaded none before."""
    workspace = tmp_path_factory.mktemp("imports") / "workspace"
    shutil.copytree(done, workspace)
    (workspace / "params.yaml").write_text(settings.dump(tiny))
    done = subprocess.run([sys.executable, "-c", IMPORTS, *DVC], cwd=workspace, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {name: json.loads((workspace / f"{name}.json").read_text()) for name in DVC}
    return {name: {str(Path(path).resolve().relative_to(ROOT)) for path in paths} for name, paths in found.items()}


@pytest.mark.parametrize("name", DVC)
def test_code_dependencies_are_those_of_the_table_of_stages(name):
    followed = [dependency for dependency in PIPELINE[name]["deps"] if not dependency.startswith(("artifacts/", "data"))]
    assert followed == [*(f"src/earmark/{place}" for place in STAGES[name].code), "requirements-image.lock"]


@pytest.mark.parametrize("name", DVC)
def test_the_table_of_stages_covers_what_a_stage_really_imports(imported, name):
    followed = tuple(f"src/earmark/{place}" for place in STAGES[name].code)
    code = {path for path in imported[name] - WIRING if not path.endswith("__init__.py") and not path.startswith("src/earmark/params/")}
    assert code or name == "precompute_front_end"  # which is idle with these settings
    assert not {path for path in code if not path.startswith(followed)}


def run(workspace: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_audio_behind_a_link_that_dvc_does_not_hash_stops_the_run(corpus, change, tmp_path):
    for file in ("dvc.yaml", "requirements-image.lock"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "params.yaml").write_text(settings.dump(change(corpora=[{"adapter": "folder", "root": "data"}])))
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "data").mkdir()
    shutil.copy(corpus / "protocol.tsv", tmp_path / "data")
    for key in ("bonafide", "spoof"):
        (tmp_path / "data" / key).symlink_to(corpus / key)
    run(tmp_path, "dvc", "init", "--no-scm", "--quiet")
    run(tmp_path, "dvc", "add", "--quiet", "data")
    assert "nfiles: 1" in (tmp_path / "data.dvc").read_text()
    with pytest.raises(AssertionError, match=r"error: DVC does not hash the audio in data/bonafide .*, data/spoof .*docs/dvc.md"):
        run(tmp_path, "dvc", "repro", "synthesize_copies")


@pytest.mark.timeout(600)  # every stage is a process of its own, and loads torch
def test_repro_runs_the_pipeline_and_a_second_time_does_nothing(corpus, change, tmp_path):
    for file in ("dvc.yaml", "requirements-image.lock"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "params.yaml").write_text(settings.dump(change(corpora=[{"adapter": "folder", "root": "data"}])))
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "data").symlink_to(corpus)
    run(tmp_path, "dvc", "init", "--no-scm", "--quiet")
    run(tmp_path, "dvc", "config", "cache.type", "hardlink")  # what the project's own reflink,hardlink comes to on ext4
    run(tmp_path, "dvc", "repro")
    metrics = json.loads((tmp_path / "metrics/metrics.json").read_text())
    assert any(name.endswith("/eer") for name in metrics)
    assert "up to date" in run(tmp_path, "dvc", "repro")
    assert "eer" in run(tmp_path, "dvc", "metrics", "show")
    run(tmp_path, "dvc", "plots", "show", "--out", "plots")
    assert (tmp_path / "plots/index.html").exists()
    shard = next((tmp_path / "artifacts/features").glob("*.safetensors"))
    assert shard.stat().st_nlink > 1  # the cache and the workspace hold one file, not two
