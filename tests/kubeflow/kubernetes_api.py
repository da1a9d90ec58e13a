"""A Kubernetes API server for tests: as much of it, over HTTP, as a training step's TrainJobs need."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from http_api import Api

TRAINER = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team"
CORE = "/api/v1/namespaces/team"
RUNTIME = Path(__file__).resolve().parents[2] / "pipelines/deploy/runtime.yaml"
NOW = "2026-11-21T10:00:00Z"


def event(kind: str, name: str, message: str, first: str | None = NOW) -> dict:
    """A warning; those of the scheduler have no first timestamp."""
    return {
        **{"metadata": {"name": f"{name}.1", "namespace": "team"}, "involvedObject": {"kind": kind, "name": name}},
        **{"type": "Warning", "message": message, "firstTimestamp": first, "eventTime": "2026-11-21T10:00:00.000000Z"},
    }


class Kubernetes(Api):
    """`looks` say how a job is at each look, the last of them for ever: its condition, and its pods' phase."""

    def __init__(self):
        self.runtime = yaml.safe_load(RUNTIME.read_text())
        self.runtime["metadata"]["namespace"] = "team"
        self.looks: list[tuple[str | None, str]] = [(None, "Pending"), (None, "Running"), ("Complete", "Succeeded")]
        self.logs: dict[str, str | None] = {"node-0": "epoch 1\n", "node-1": "epoch 1\n"}
        self.events: Callable[[str], list[dict]] = lambda name: []
        self.on_end: Callable[[], object] = lambda: None
        self.faults: dict[str, list[int]] = {}
        self.jobs: dict[str, dict] = {}
        self.sent: list[dict] = []
        self.asked: list[tuple[str, str]] = []
        super().__init__()

    def serve(self, request: BaseHTTPRequestHandler, method: str, body: dict) -> None:
        path = urlsplit(request.path).path
        self.asked.append((method, path))
        kind = path.rpartition("/")[0].rpartition("/")[2] if method != "POST" else path.rpartition("/")[2]
        if waiting := self.faults.get(f"{method} {kind}"):
            return self.answer(request, waiting.pop(0), {"message": f"User team cannot {method.lower()} {kind}"})
        if path.startswith(f"{CORE}/pods/"):
            return self.log(request, path.split("/")[-2])
        found = self.find(method, path, body)
        self.answer(request, 200 if found is not None else 404, found or {"message": f"{path} not found"})

    def find(self, method: str, path: str, body: dict) -> dict | None:
        if path == f"{TRAINER}/trainingruntimes/{self.runtime['metadata']['name']}":
            return self.runtime
        if path == f"{TRAINER}/trainjobs":
            self.sent.append(body)
            made = {**body, "metadata": {**body["metadata"], "namespace": "team", "creationTimestamp": NOW}}
            return self.jobs.setdefault(body["metadata"]["name"], made)
        if path.startswith(f"{TRAINER}/trainjobs/"):
            name = path.rpartition("/")[2]
            return self.jobs.pop(name, None) if method == "DELETE" else self.look(name)
        if path == f"{CORE}/pods":
            return {"kind": "PodList", "apiVersion": "v1", "items": [self.pod(name, node) for name in self.jobs for node in (0, 1)]}
        if path == f"{CORE}/events":
            return {"kind": "EventList", "apiVersion": "v1", "items": [one for name in list(self.jobs) for one in self.events(name)]}
        return None

    def look(self, name: str) -> dict | None:
        """A job as it is now."""
        if name not in self.jobs:
            return None
        condition, self.phase = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if condition == "Complete":
            self.on_end()
        state = {"type": condition, "status": "True", "reason": "x", "message": "x", "lastTransitionTime": NOW}
        return self.jobs[name] | ({"status": {"conditions": [state]}} if condition else {})

    def pod(self, name: str, node: int) -> dict:
        labels = {"jobset.sigs.k8s.io/replicatedjob-name": "node", "batch.kubernetes.io/job-completion-index": str(node)}
        return {
            **{"metadata": {"name": f"{name}-node-0-{node}", "namespace": "team", "labels": labels, "creationTimestamp": NOW}},
            **{"spec": {"containers": [{"name": "node", "image": "x"}]}, "status": {"phase": self.phase}},
        }

    def log(self, request: BaseHTTPRequestHandler, pod: str) -> None:
        """What a node said; None: the connection breaks in the middle."""
        text = self.logs[f"node-{pod[-1]}"]
        self.answer(request, 200, text if text is not None else "epoch", missing=text is None)
