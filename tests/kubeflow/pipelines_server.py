"""A Kubeflow Pipelines server for tests: as much of its interface, over HTTP, as a run needs; what it is sent is checked strictly."""

import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from google.protobuf import json_format
from http_api import Api
from kfp.pipeline_spec import pipeline_spec_pb2

BASE = "/apis/v2beta1"


def task(name: str, state: str, number: int = 0, error: str | None = None, children: tuple[str, ...] = ()) -> dict:
    """A task as the server tells of it; it took twelve seconds."""
    found = {"task_id": f"{name}-{number}", "display_name": name, "state": state, "create_time": f"2026-11-21T10:00:{number:02}Z"}
    if state in ("SUCCEEDED", "FAILED"):
        found |= {"start_time": "2026-11-21T10:01:00Z", "end_time": "2026-11-21T10:01:12Z"}
    found |= {"error": {"code": 13, "message": error}} if error else {}
    return found | ({"child_tasks": [{"pod_name": pod} for pod in children]} if children else {})


class Kubeflow(Api):
    """`looks` are what the run is at each look, the last of them for ever; `faults` are statuses of the next answers, by path."""

    def __init__(self):
        self.many, self.token, self.looks, self.faults, self.page = False, None, [("SUCCEEDED", [])], {}, None
        self.experiments: dict[str, dict] = {}
        self.runs: dict[str, dict] = {}
        self.seen: list[tuple[str, str, dict, dict]] = []
        super().__init__()

    def serve(self, request: BaseHTTPRequestHandler, method: str, body: dict) -> None:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.seen.append((method, parts.path, query, {name.lower(): value for name, value in request.headers.items()}))
        if self.page:
            return self.answer(request, 200, self.page, "text/html")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.answer(request, 401, {"message": "no valid token", "code": 16})
        if waiting := self.faults.get(parts.path.removeprefix(BASE)):
            return self.answer(request, waiting.pop(0), {"message": "Internal: it broke\nin two lines", "code": 13})
        found = self.find(method, parts.path.removeprefix(BASE), query, body)
        self.answer(request, 200 if found is not None else 404, found or {"message": f"{parts.path} not found", "code": 5})

    def find(self, method: str, path: str, query: dict, body: dict) -> dict | None:
        if path == "/healthz":
            return {"multi_user": self.many, "pipeline_store": "database"}
        if path == "/experiments" and method == "GET":
            (wanted,) = json.loads(query["filter"])["predicates"]
            assert (wanted["operation"], wanted["key"]) == ("EQUALS", "display_name")
            assert ("namespace" in query) == self.many
            return {"experiments": [one for one in self.experiments.values() if one["display_name"] == wanted["stringValue"]]}
        if path == "/experiments":
            made = {"experiment_id": f"experiment-{len(self.experiments)}", **body}
            return self.experiments.setdefault(made["experiment_id"], made)
        if path == "/runs":
            return self.start(body)
        return self.look(path.rpartition("/")[2]) if path.startswith("/runs/") else None

    def start(self, body: dict) -> dict:
        """Take a run, if everything in it is known to Kubeflow."""
        assert set(body) <= {"experiment_id", "display_name", "pipeline_spec", "runtime_config", "service_account"}
        assert body["experiment_id"] in self.experiments
        spec = json_format.ParseDict(body["pipeline_spec"]["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(body["pipeline_spec"]["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        job = pipeline_spec_pb2.PipelineJob.RuntimeConfig()
        json_format.ParseDict({"parameterValues": body["runtime_config"].get("parameters", {})}, job)
        assert set(job.parameter_values) <= set(spec.root.input_definitions.parameters)
        run_id = f"run-{len(self.runs)}"
        self.runs[run_id] = {"run_id": run_id, "state": "PENDING", **body}
        return self.runs[run_id]

    def look(self, run_id: str) -> dict | None:
        """The run as it is now."""
        if run_id not in self.runs:
            return None
        state, tasks = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        failed = {"error": {"code": 13, "message": "1 of its tasks failed"}} if state == "FAILED" else {}
        return self.runs[run_id] | failed | {"state": state, "run_details": {"task_details": tasks}}
