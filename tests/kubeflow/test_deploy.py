"""The manifests are such as Kubernetes takes, and give what the deployment file and the training step ask for."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api import models
from pipelines.compile import STEPS
from pipelines.deployment import read_deployment

from earmark.kubeflow.nodes import RUNTIME

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pipelines/deploy"
VERSION = "1.33"
MANIFESTS = {
    f"{path.name}:{one['kind']}:{one['metadata']['name']}": one
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for one in yaml.safe_load_all(path.read_text())
}


def of(kind: str) -> list[dict]:
    return [one for one in MANIFESTS.values() if one["kind"] == kind]


@pytest.fixture(scope="module")
def deployment():
    return read_deployment(ROOT / "pipelines/deployment.yaml", STEPS)


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_has_only_fields_that_kubernetes_knows(name):
    manifest = MANIFESTS[name]
    if manifest["kind"] == "TrainingRuntime":
        assert models.TrainerV1alpha1TrainingRuntime.from_dict(manifest).to_dict() == manifest
    else:
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_a_misspelt_field_would_be_found():
    (claim,) = of("PersistentVolumeClaim")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(claim | {"spec": {**claim["spec"], "accessMode": []}}, VERSION, strict=True)


def test_the_runtimes_pods_are_such_as_kubernetes_takes():
    (runtime,) = of("TrainingRuntime")
    for job in runtime["spec"]["template"]["spec"]["replicatedJobs"]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": job["template"]["spec"]["template"]["spec"]}
        kubernetes_validate.validate(pod, VERSION, strict=True)


def test_kustomize_applies_all_but_what_is_done_by_hand():
    found = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert set(found) == {"apiVersion", "kind", "namespace", "resources"}
    assert set(found["resources"]) == {path.name for path in FOLDER.glob("*.yaml")} - {
        *("kustomization.yaml", "secrets.yaml", "volume-owner.yaml")
    }
    everywhere = [*MANIFESTS.values(), *(subject for one in of("RoleBinding") for subject in one["subjects"])]
    assert not any("namespace" in one or "namespace" in one.get("metadata", {}) for one in everywhere), "kustomize would not change it"


def test_secrets_are_those_of_the_deployment_and_hold_nothing(deployment):
    assert {one["metadata"]["name"]: set(one["stringData"]) for one in of("Secret")} == {
        name: set(keys) for name, keys in deployment.secrets.items()
    }
    assert {value for one in of("Secret") for value in one["stringData"].values()} == {""}


def test_volume_and_image_are_those_of_the_deployment(deployment):
    (claim,) = of("PersistentVolumeClaim")
    assert claim["metadata"]["name"] == deployment.volume.claim
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (job,) = of("Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == deployment.volume.claim
    assert pod["containers"][0]["image"] == deployment.image
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == pod["containers"][0]["command"][-1] == deployment.volume.mount


def test_the_runtime_is_the_one_that_steps_ask_for():
    (runtime,) = of("TrainingRuntime")
    assert runtime["metadata"]["name"] == RUNTIME


def test_roles_are_bound_to_the_account_and_give_what_a_training_step_does():
    (account,) = of("ServiceAccount")
    roles = {one["metadata"]["name"]: one["rules"] for one in of("Role")}
    bindings = of("RoleBinding")
    assert {one["roleRef"]["name"] for one in bindings} == set(roles)
    assert {subject["name"] for one in bindings for subject in one["subjects"]} == {account["metadata"]["name"]}
    given = {
        (group, resource): set(rule["verbs"])
        for rule in roles["earmark-trainjobs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert given["trainer.kubeflow.org", "trainjobs"] == {"create", "get", "list", "watch", "delete"}
    assert all(given["", resource] == {"get", "list", "watch"} for resource in ("pods", "pods/log", "events"))
    assert not any("*" in verbs for verbs in given.values())
