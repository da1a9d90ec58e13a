"""The registered model judges recordings: loaded by mlflow, fetched by alias, served over HTTP."""

import base64
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from earmark import InputError, stages
from earmark.params import ComputeParams
from earmark.registry.fetch import fetch, folder_of
from earmark.registry.register import register
from earmark.registry.server import address, connected
from earmark.registry.versions import CHALLENGER
from earmark.verdict.judge import load_judge
from registry.examples import make_trials, write_evaluation, write_robustness
from registry.servers import free_port, http_answers, wait_for

MODEL = f"models:/earmark@{CHALLENGER}"


@pytest.fixture
def registered(done, local, tmp_path):
    """The tiny corpus's model in a store of its own."""
    evaluation, robustness = write_evaluation(tmp_path / "evaluation", make_trials(300)), write_robustness(tmp_path / "robustness")
    tables = {"evaluation": evaluation, "robustness": robustness}
    register(local, model=done / stages.ARTIFACTS["model"], output=tmp_path / "registration", **tables)
    return local


@pytest.fixture
def spoof(corpus) -> Path:
    return corpus / "spoof/eval-spoof-1.flac"


def test_a_model_is_loaded_by_mlflow_and_fetched_by_alias(registered, done, spoof, tmp_path, monkeypatch):
    import mlflow

    direct = load_judge(done / stages.ARTIFACTS["model"], "", None, ComputeParams(device="cpu", threads=1), None).judge(spoof)[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(registered))
    model = mlflow.pyfunc.load_model(MODEL)
    rows = pd.DataFrame({"audio": [spoof.read_bytes(), None, b"nothing"], "path": [None, str(spoof), None]})
    answers = model.predict(rows)
    assert answers["cm_score"][:2].tolist() == pytest.approx([direct.cm_score] * 2, abs=1e-5)
    assert answers["decision"][:2].tolist() == [direct.decision] * 2
    assert json.loads(answers["verdict"][1])["sha256"] == direct.sha256
    assert "no decoder reads it" in answers["error"][2]
    assert answers["error"][:2].isna().all()
    folder = fetch(registered, MODEL, tmp_path / "models")
    assert load_judge(folder, MODEL, None, ComputeParams(device="cpu", threads=1), None).model.digest == direct.model.digest
    with monkeypatch.context() as offline:
        offline.setattr("mlflow.artifacts.download_artifacts", None)  # what is there is not fetched again
        assert fetch(registered, "models:/earmark/1", tmp_path / "models") == folder
    with connected(registered) as store:
        run = store.client.get_model_version("earmark", "1").run_id
    with pytest.raises(InputError, match=r"models:/earmark@nobody: .*write models:/NAME@ALIAS"):
        fetch(registered, "models:/earmark@nobody", tmp_path / "models")
    with pytest.raises(InputError, match="holds 0 files manifest"):
        fetch(registered, f"runs:/{run}/evaluations", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert folder_of(MODEL, registered).name == direct.model.digest
    assert folder_of("artifacts/model", registered) == Path("artifacts/model")


def test_a_tampered_upload_is_not_served(registered, spoof, monkeypatch):
    import mlflow

    weights = next(Path(registered.artifacts).rglob("detector/wavespec.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(registered))
    with pytest.raises(InputError, match=r"detector/wavespec\.safetensors: not as packaged"):
        mlflow.pyfunc.load_model(MODEL)


def test_mlflow_serves_it_over_http(registered, spoof):
    port = free_port()
    environment = os.environ | {"MLFLOW_TRACKING_URI": address(registered), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", MODEL, "-p", str(port), "--env-manager", "local"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for(lambda: http_answers(f"http://127.0.0.1:{port}/ping"), "mlflow models serve", server, seconds=120)
        row = {"dataframe_split": {"columns": ["audio"], "data": [[base64.b64encode(spoof.read_bytes()).decode()]]}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", json.dumps(row).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            (found,) = json.load(answer)["predictions"]
        assert found["decision"] in ("bonafide", "spoof", "inconclusive")
        assert json.loads(found["verdict"])["seconds"] == 5
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
