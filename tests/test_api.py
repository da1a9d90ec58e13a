import subprocess
import sys

import pytest

import earmark
from earmark.stages import ARTIFACTS


def test_four_lines_judge_a_recording(done, corpus):
    model = earmark.load_model(done / ARTIFACTS["model"], device="cpu")
    clip = next((corpus / "spoof").rglob("*.flac"))
    verdict = model.check(clip)
    assert verdict.decision in ("bonafide", "spoof", "inconclusive")
    assert verdict.source.answer
    assert verdict == model.judge(clip)[0]


def test_a_model_that_is_not_there_is_said(tmp_path):
    with pytest.raises(earmark.InputError, match="none"):
        earmark.load_model(tmp_path / "none")
    with pytest.raises(earmark.InputError, match=r"device: compute\.device"):
        earmark.load_model(tmp_path, device="abacus")


def test_importing_the_package_costs_nothing():
    program = "import sys, earmark; print(sorted({'torch', 'numpy', 'pydantic', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"
