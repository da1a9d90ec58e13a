"""The pipelines compile to the same bytes, mean what they say, and wire the stages of stages.py."""

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from pipelines.compile import PIPELINES, STEPS
from pipelines.deployment import read_deployment

from earmark import InputError, params, stages
from earmark.kubeflow.nodes import Job
from earmark.params import Params

ROOT = Path(__file__).resolve().parents[2]
STAGES = {name: stage for name, stage in stages.STAGES.items() if "kubeflow" in stage.runs_on}
BESIDE = {"store", "run", "job"}  # what every step is told, and the output does not follow from


def compile_to(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipelines.compile", "-o", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    done = compile_to(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def training(built) -> tuple[dict, dict]:
    spec, platform = yaml.safe_load_all((built / "training.yaml").read_text())
    return spec, platform


def test_the_same_settings_give_the_same_bytes(built, tmp_path):
    assert compile_to(tmp_path).returncode == 0
    assert {path.name for path in built.iterdir()} == {f"{name}.yaml" for name in PIPELINES}
    for path in built.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.parametrize("name", PIPELINES)
def test_every_field_is_one_that_kubeflow_knows(built, name):
    spec, platform = yaml.safe_load_all((built / f"{name}.yaml").read_text())
    found = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())  # an unknown field is an error
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for config in executors.values():
        json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    assert set(executors) == set(found.deployment_spec["executors"].keys())


@pytest.mark.parametrize("name", STAGES)
def test_a_component_takes_and_gives_what_its_stage_does(name):
    stage, component = STAGES[name], getattr(import_module(f"components.{name}"), name)
    takes, gives = component.component_spec.inputs, component.component_spec.outputs
    given = set(inspect.signature(stage.function).parameters)
    if "sections" in given:  # a stage may take its sections together
        given = given - {"sections"} | set(stage.sections)
    audio = {"data", "copies"} - given if stage.data and stage.output != "copies" else {"data"} if stage.data else set()
    beside = BESIDE | ({"tracking"} if stage.tracked else set())
    assert set(takes) - beside == (given - {"output"}) | audio
    assert {key for key in takes if takes[key].type.startswith("system.")} == set(stage.inputs) | audio
    assert {"output", "metrics"} <= set(gives)


def test_every_stage_that_runs_on_a_cluster_is_a_component_and_in_the_pipeline(training):
    spec, _ = training
    used = {re.sub(r"-\d+$", "", name.removeprefix("exec-")).replace("-", "_") for name in spec["deploymentSpec"]["executors"]}
    assert set(STAGES) <= STEPS
    assert used == (set(STAGES) - {"check_recordings"}) | {"gather", "promote", "report"}


def test_recordings_are_judged_in_shards_with_a_model_of_the_registry(built):
    spec, _ = yaml.safe_load_all((built / "scoring.yaml").read_text())
    used = {name.removeprefix("exec-") for name in spec["deploymentSpec"]["executors"]}
    assert used == {"download", "fetch-model", "check-recordings", "list-verdicts", "report"}
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["model"]["defaultValue"] == "models:/earmark@champion"
    assert set(parameters) == {"download", "model", "tracking", "compute", "store"}


def test_sections_of_params_are_the_parameters_with_their_values(training):
    spec, _ = training
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert set(inputs) == {*Params.model_fields, "store"}
    assert json.loads(inputs["cqt"]["defaultValue"]) == params.load(ROOT / "params.yaml").cqt.model_dump(mode="json")


def test_no_file_of_the_components_imports_more_than_kfp():
    program = "import sys\nimport pkgutil, importlib, components\n"
    program += "for module in pkgutil.iter_modules(components.__path__): importlib.import_module(f'components.{module.name}')\n"
    program += "print(sorted({'torch', 'pandas', 'earmark', 'mlflow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for path in (ROOT / "components").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 34, path


DEPLOYMENT = {"image": "registry/earmark:1", "store": "s3://bucket/prefix", "shards": 3}


@pytest.fixture
def deploy(tmp_path):
    def write(**changes) -> Path:
        path = tmp_path / "deployment.yaml"
        path.write_text(yaml.safe_dump(DEPLOYMENT | changes))
        return path

    return write


@pytest.mark.parametrize(("store", "given"), [("s3://bucket/store", ["AWS_ACCESS_KEY_ID"]), ("/work-volume/store", [])])
def test_the_step_that_decodes_what_strangers_sent_has_no_secret_but_the_stores(deploy, tmp_path, store, given):
    path = deploy(
        store=store,
        secrets={"keys": {"id": "AWS_ACCESS_KEY_ID", "hub": "HF_TOKEN"}, "registry": {"token": "MLFLOW_TRACKING_TOKEN"}},
        volume={"claim": "work", "mount": "/work-volume"},
    )
    assert compile_to(tmp_path, "--deployment", str(path)).returncode == 0
    _, platform = yaml.safe_load_all((tmp_path / "scoring.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    variables = {
        name: [key["envVar"] for secret in config.get("secretAsEnv", []) for key in secret["keyToEnv"]]
        for name, config in executors.items()
    }
    assert variables["exec-check-recordings"] == given
    assert sorted(variables["exec-download"]) == ["AWS_ACCESS_KEY_ID", "HF_TOKEN", "MLFLOW_TRACKING_TOKEN"]


def test_the_deployment_gives_resources_secrets_volume_and_image(deploy, tmp_path):
    path = deploy(
        environment={"AWS_ENDPOINT_URL": "http://s3"},
        secrets={"keys": {"id": "AWS_ACCESS_KEY_ID"}},
        volume={"claim": "work", "mount": "/work-volume"},
        pull_secrets=["pull"],
        defaults={"cpu": "500m", "memory": "1Gi", "retries": 1},
        steps={
            "train_detector": {
                **{"gpu": {"type": "amd.com/gpu", "count": 2}, "shm": "2Gi", "timeout_minutes": 5, "retries": 3},
                **{"node_selector": {"pool": "gpu"}, "tolerations": [{"key": "gpu", "effect": "NoSchedule"}]},
            }
        },
    )
    assert compile_to(tmp_path, "--deployment", str(path)).returncode == 0
    spec, platform = yaml.safe_load_all((tmp_path / "training.yaml").read_text())
    container = spec["deploymentSpec"]["executors"]["exec-train-detector"]["container"]
    assert container["image"] == "registry/earmark:1"
    assert container["resources"]["accelerator"] == {
        "count": "2",
        "type": "amd.com/gpu",
        "resourceCount": "2",
        "resourceType": "amd.com/gpu",
    }
    assert container["resources"]["memoryLimit"] == container["resources"]["memoryRequest"]
    config = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train-detector"]
    assert config["emptyDirMounts"] == [{"medium": "Memory", "mountPath": "/dev/shm", "sizeLimit": "2Gi", "volumeName": "shm"}]
    assert config["activeDeadlineSeconds"] == "300"
    assert config["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert config["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert config["pvcMount"][0]["mountPath"] == "/work-volume"
    assert config["secretAsEnv"][0]["keyToEnv"][0]["envVar"] == "AWS_ACCESS_KEY_ID"
    assert config["imagePullSecret"] == [{"secretName": "pull", "secretNameParameter": {"runtimeValue": {"constant": "pull"}}}]
    environment = {row["name"]: row["value"] for row in container["env"]}
    assert environment == {"AWS_ENDPOINT_URL": "http://s3", "EARMARK_WORK": "/work-volume"}
    text = (tmp_path / "training.yaml").read_text()
    assert text.count("cacheKey") == 0
    assert "enableCache: true" not in text


def test_a_step_of_several_nodes_starts_a_job_and_asks_for_no_gpu_itself(deploy, tmp_path):
    steps = {"train_detector": {"nodes": 2, "gpu": {"count": 4}, "memory": "8Gi", "tolerations": [{"key": "gpu"}]}}
    assert compile_to(tmp_path, "--deployment", str(deploy(steps=steps, volume={"claim": "work"}))).returncode == 0
    spec, _ = yaml.safe_load_all((tmp_path / "training.yaml").read_text())
    assert "accelerator" not in spec["deploymentSpec"]["executors"]["exec-train-detector"]["container"]["resources"]
    tasks = [dag["dag"]["tasks"] for dag in spec["components"].values() if "dag" in dag]
    (task,) = [found["train-detector"] for found in tasks if "train-detector" in found]
    job = task["inputs"]["parameters"]["job"]["runtimeValue"]["constant"]
    found = Job.model_validate_json(job)
    assert (found.nodes, found.claim, found.mount, found.resources) == (2, "work", "/earmark", {"memory": "8Gi", "nvidia.com/gpu": "4"})
    assert found.tolerations == ({"key": "gpu", "operator": "Exists"},)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imag": "x"}, "imag: Extra inputs are not permitted"),
        ({"store": None}, "store: Input should be a valid string"),
        ({"steps": {"train": {}}}, "steps.train is no component; there are check_recordings"),
        ({"steps": {"train_detector": {"memory": "lots"}}}, "steps.train_detector.memory: String should match"),
        ({"steps": {"train_detector": {"nodes": 2}}}, "steps.train_detector.nodes 2 needs a volume that all nodes mount"),
        ({"steps": {"evaluate": {"nodes": 2}}, "volume": {"claim": "x"}}, "nodes above 1 are for train_detector and train_tracer alone"),
    ],
)
def test_a_wrong_deployment_is_named_with_its_key(deploy, changes, said):
    with pytest.raises(InputError) as caught:
        read_deployment(deploy(**changes), STEPS)
    assert said in str(caught.value)
    assert "deployment.yaml" in str(caught.value)


def test_a_pipeline_without_an_mlflow_server_compiles_with_a_warning(deploy, tmp_path):
    assert "no MLflow server is named" in compile_to(tmp_path, "--deployment", str(deploy())).stderr
    named = deploy(environment={"MLFLOW_TRACKING_URI": "http://mlflow:5000"})
    assert compile_to(tmp_path, "--deployment", str(named)).stderr == ""


def test_the_documented_keys_are_those_of_the_deployment_file(tmp_path):
    said = compile_to(tmp_path / "none", "--describe")
    assert "| `steps.<component>.gpu.count` | 1 |" in said.stdout
    assert said.stdout in (ROOT / "docs/kubeflow.md").read_text(), "write the output of python -m pipelines.compile --describe there"
    assert not (tmp_path / "none").exists()


def test_a_deployment_that_is_not_there_or_no_yaml_is_said(tmp_path):
    done = compile_to(tmp_path, "--deployment", str(tmp_path / "none.yaml"))
    assert done.returncode == 1
    assert done.stderr.strip().endswith("none.yaml does not exist: write one like pipelines/deployment.yaml")
    (tmp_path / "broken.yaml").write_text("image: [")
    with pytest.raises(InputError, match=r"broken\.yaml: not YAML: line 1"):
        read_deployment(tmp_path / "broken.yaml", STEPS)


def test_a_step_that_stands_twice_in_the_deployment_is_named(tmp_path):
    (tmp_path / "d.yaml").write_text("image: a\nsteps:\n  doctor: {memory: 1Gi}\n  doctor: {memory: 2Gi}\n")
    with pytest.raises(InputError, match=r"d\.yaml: the key doctor stands twice, in lines 3 and 4"):
        read_deployment(tmp_path / "d.yaml", STEPS)
