"""What a verdict waits for: a short recording is judged in less time than what training and pages need takes to import."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from earmark import stages
from earmark.registry.register import REQUIREMENTS

ROOT = Path(__file__).resolve().parents[2]
REPORT = """
import sys
from earmark.__main__ import main
sys.argv[0] = "earmark"
try:
    main()
finally:
    print(chr(10).join(sorted(sys.modules)), file=sys.stderr)
"""


def run(*arguments: str | Path) -> tuple[str, set[str]]:
    """The command in a process of its own: what it printed, and every module that was imported."""
    done = subprocess.run([sys.executable, "-c", REPORT, *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.splitlines())


@pytest.fixture(scope="module")
def judged(done, corpus) -> set[str]:
    out, modules = run("check", corpus / "spoof/eval-spoof-1.flac", "--model", done / stages.ARTIFACTS["model"], "--json")
    verdict = json.loads(out)
    assert verdict["decision"]
    assert verdict["source"]  # the tracer spoke too
    assert "torch" in modules
    return modules


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        ("transformers", "wav2vec 2.0 is an own module"),
        ("torch.distributed.tensor", "wav2vec 2.0 is an own module"),
        ("torch._dynamo", "nothing is compiled, and no optimizer is made"),
        ("sympy", "the Conformer asks for no padding mask, whose check imports it"),
        ("accelerate", "one process on one device: networks/compute"),
        ("sklearn", "what it fitted is stored as numbers"),
        ("scipy", "what it fitted is stored as numbers; earmark.metrics.odds"),
        ("nnAudio", "its filters are designed in features/cqt"),
        ("matplotlib", "pages are for --html"),
        ("jinja2", "pages are for --html"),
        ("captum", "pages are for --html"),
        ("mlflow", "the model lies in a folder"),
        ("boto3", "the model lies in a folder"),
        ("requests", "the model lies in a folder"),
        ("dvc", "a pipeline's"),
        ("kfp", "a cluster's"),
        ("kubeflow", "a cluster's"),
        ("librosa", "a test's"),
    ],
)
def test_a_verdict_does_not_import(judged, module, cause):
    assert module not in judged, cause


def test_help_imports_nothing_that_computes():
    out, modules = run("--help")
    assert "check" in out
    assert not {"torch", "pandas", "numpy", "scipy", "sklearn", "matplotlib", "mlflow", "transformers", "kfp"} & modules


def test_a_registered_model_asks_for_what_a_verdict_loads_and_no_more(judged):
    makers = packages_distributions()
    needed = {name.lower() for module in {name.split(".")[0] for name in judged} for name in makers.get(module, [])}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    own = {re.split(r"[^\w-]", name)[0].lower() for name in project}
    assert (own & needed) - {"typer"} == set(REQUIREMENTS) - {"av", "soxr", "mlflow"}  # the decoder's, and what serves it
