"""A Kubeflow Pipelines server for tests: as much of its interface, over HTTP, as a run needs; what it is sent is checked strictly."""

import json
from collections import Counter
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import yaml
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
    """`looks` are what the run is at each look, the last for ever; `faults` are statuses of the next answers, by [method and] path."""

    def __init__(self):
        self.many, self.token, self.looks, self.faults, self.page = False, None, [("SUCCEEDED", [])], {}, None
        self.experiments: dict[str, dict] = {}
        self.runs: dict[str, dict] = {}
        self.pipelines: dict[str, dict] = {}
        self.versions: dict[str, dict] = {}
        self.schedules: dict[str, dict] = {}
        self.made: Counter[str] = Counter()
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
        waiting = self.faults.get(parts.path.removeprefix(BASE)) or self.faults.get(f"{method} {parts.path.removeprefix(BASE)}")
        if waiting:
            return self.answer(request, waiting.pop(0), {"message": "Internal: it broke\nin two lines", "code": 13})
        found = self.find(method, parts.path.removeprefix(BASE), query, body)
        self.answer(request, 200 if found is not None else 404, found or {"message": f"{parts.path} not found", "code": 5})

    def find(self, method: str, path: str, query: dict, body: dict) -> dict | None:
        if path == "/healthz":
            return {"multi_user": self.many, "pipeline_store": "database"}
        if path == "/experiments" and method == "GET":
            return {"experiments": self.list(self.experiments, query, {"namespace"} if self.many else set())}
        if path == "/experiments":
            return self.keep(self.experiments, "experiment", body)
        if path.startswith("/pipelines"):
            return self.find_pipeline(method, path.removeprefix("/pipelines"), query, body)
        if path.startswith("/recurringruns"):
            return self.find_schedule(method, path.removeprefix("/recurringruns").removeprefix("/"), query, body)
        if path == "/runs":
            self.check(body)
            return self.keep(self.runs, "run", body, state="PENDING")
        return self.look(path.rpartition("/")[2]) if path.startswith("/runs/") else None

    def find_pipeline(self, method: str, path: str, query: dict, body: dict) -> dict | None:
        """Pipelines and their versions; one that is created has no version."""
        if path == "" and method == "GET":
            return {"pipelines": self.list(self.pipelines, query, {"namespace"} if self.many else set())}
        if path == "":
            assert set(body) == {"name", "display_name"} | ({"namespace"} if self.many else set())
            return self.keep(self.pipelines, "pipeline", body)
        if (method, path) == ("POST", "/upload_version"):
            (text,) = body.values()
            spec, platform = yaml.safe_load_all(text)
            content = {"pipeline_spec": spec, "platform_spec": platform}
            assert query["pipelineid"] in self.pipelines
            version = {"pipeline_id": query["pipelineid"], "display_name": query["name"], "pipeline_spec": content}
            return self.keep(self.versions, "pipeline_version", version)
        _, pipeline, _, *version = path.split("/")
        own = {name: one for name, one in self.versions.items() if one["pipeline_id"] == pipeline}
        return own.get(version[0]) if version else {"pipeline_versions": self.list(own, query, set())}

    def find_schedule(self, method: str, name: str, query: dict, body: dict) -> dict | None:
        """Recurring runs of an experiment; the list's name is written unlike the others."""
        if method == "DELETE":
            return {} if self.schedules.pop(name, None) else None
        if method == "GET":
            own = {key: one for key, one in self.schedules.items() if one["experiment_id"] == query["experiment_id"]}
            return {"recurringRuns": self.list(own, query, {"experiment_id"})}
        schedule = {"trigger", "mode", "max_concurrency", "no_catchup"}
        assert schedule <= set(body)
        self.check({key: value for key, value in body.items() if key not in schedule})
        return self.keep(self.schedules, "recurring_run", body)

    def list(self, kept: dict[str, dict], query: dict, others: set[str]) -> list[dict]:
        """Those of a name, which must be all that is asked for beside some others."""
        assert {name for name, value in query.items() if value} - {"page_size"} == {"filter"} | others
        (wanted,) = json.loads(query["filter"])["predicates"]
        assert (wanted["operation"], wanted["key"]) == ("EQUALS", "display_name")
        return [one for one in kept.values() if one["display_name"] == wanted["stringValue"]]

    def keep(self, kept: dict[str, dict], kind: str, body: dict, **more: str) -> dict:
        """Keep what is new under an id of its own."""
        name = f"{kind}-{self.made[kind]}"
        self.made[kind] += 1
        return kept.setdefault(name, {f"{kind}_id": name, **more, **body})

    def check(self, body: dict) -> None:
        """Whether everything in a run is known to Kubeflow."""
        source = {"pipeline_spec", "pipeline_version_reference"} & set(body)
        assert len(source) == 1
        assert set(body) - source <= {"experiment_id", "display_name", "runtime_config", "service_account"}
        assert body["experiment_id"] in self.experiments
        content = body.get("pipeline_spec") or self.versions[body["pipeline_version_reference"]["pipeline_version_id"]]["pipeline_spec"]
        spec = json_format.ParseDict(content["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(content["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        job = pipeline_spec_pb2.PipelineJob.RuntimeConfig()
        json_format.ParseDict({"parameterValues": body["runtime_config"].get("parameters", {})}, job)
        assert set(job.parameter_values) <= set(spec.root.input_definitions.parameters)

    def look(self, run_id: str) -> dict | None:
        """The run as it is now."""
        if run_id not in self.runs:
            return None
        state, tasks = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        failed = {"error": {"code": 13, "message": "1 of its tasks failed"}} if state == "FAILED" else {}
        return self.runs[run_id] | failed | {"state": state, "run_details": {"task_details": tasks}}
