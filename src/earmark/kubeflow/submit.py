"""Runs, uploads and schedules of compiled pipelines on a Kubeflow Pipelines server, through kfp's own client."""

import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import kfp
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp_server_api import ApiException
from kfp_server_api.rest import RESTClientObject, RESTResponse
from urllib3.exceptions import HTTPError

from earmark import InputError
from earmark.kubeflow.compiled import Compiled
from earmark.storage.files import file_digest

TOKEN = "KF_PIPELINES_TOKEN"
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
TOKEN_FILES = ("/var/run/secrets/kubeflow/pipelines/token", "/var/run/secrets/kubernetes.io/serviceaccount/token")
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT = (10, 60)  # seconds to connect, and to answer


class Away(InputError):
    """The server cannot be reached or fails; it may be well again in a while."""


def credentials() -> dict[str, Any]:
    """What kfp's client is given: the token of the environment, or a file that it reads anew as it is renewed. Errors: InputError."""
    if given := os.environ.get(TOKEN):
        return {"existing_token": given.strip()}
    named = os.environ.get(TOKEN_FILE)
    if named and not os.access(named, os.R_OK):
        raise InputError(f"{TOKEN_FILE}={named} cannot be read")
    found = [path for path in (named, *TOKEN_FILES) if path and os.path.isfile(path)]
    return {"credentials": ServiceAccountTokenVolumeCredentials(found[0])} if found else {}


class Requests(RESTClientObject):
    """HTTP of kfp's client with limits on time. Errors: InputError naming the address and what to do; Away when it may pass."""

    def __init__(self, configuration: Any):
        super().__init__(configuration)
        self.address = configuration.host

    def request(self, *given: Any, **options: Any) -> RESTResponse:
        """Send a request; every answer is JSON, where kfp takes any text for an empty answer."""
        try:
            answer = super().request(*given, **options | {"_request_timeout": TIMEOUT})
            json.loads(answer.data)
        except ApiException as error:
            raise _refusal(self.address, error) from error
        except HTTPError as error:
            raise Away(f"{self.address} cannot be reached ({_cause(error)}): see to --endpoint and to the way there") from error
        except ValueError as error:
            raise InputError(
                f"{self.address} answers, but not as Kubeflow Pipelines does: see to --endpoint, and to {TOKEN} if it is a login page"
            ) from error
        return answer


class Server:
    """One Kubeflow Pipelines server. Errors of every method: as of `Requests`."""

    def __init__(self, endpoint: str):
        if not endpoint.startswith(("http://", "https://")):
            raise InputError(f"--endpoint {endpoint}: an address starts with http:// or https://")
        self.endpoint = endpoint.rstrip("/").removesuffix("/apis/v2beta1")
        authority = os.environ.get("SSL_CERT_FILE")
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # it says that it is for version 2
            # with a namespace the client asks nobody for one, and writes none into the user's home
            self._client: Any = kfp.Client(self.endpoint, namespace="-", ssl_ca_cert=authority, **credentials())
        api = self._client.runs.run_service_get_run.__self__.api_client  # all of the client's requests go through it
        api.rest_client = Requests(api.configuration)
        self.namespace: str | None = None

    def page(self, kind: str, name: str) -> str:
        """Address of the page of a run (`runs`) or a schedule (`recurringrun`)."""
        return f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT', self.endpoint).rstrip('/')}/#/{kind}/details/{name}"

    def enter(self, wanted: str | None) -> None:
        """Choose the namespace to send runs to: none where the server serves a single one."""
        if not self._client.get_kfp_healthz().multi_user:
            return
        own = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.is_file() else None
        self.namespace = wanted or own
        if not self.namespace:
            raise InputError(f"{self.endpoint} serves many namespaces: say which with --namespace")

    def experiment(self, name: str) -> str:
        """Id of the experiment of this name, made when there is none."""
        found = self._client.experiments.experiment_service_list_experiments(filter=_named(name), **self._within)
        if found.experiments:
            return found.experiments[0].experiment_id
        new = self._client.api_models.V2beta1Experiment(display_name=name, **self._within)
        return self._client.experiments.experiment_service_create_experiment(experiment=new).experiment_id

    def upload(self, pipeline: Compiled) -> dict[str, str]:
        """Ids of the pipeline and of its version that is named by the file's SHA-256; what is not there is uploaded."""
        digest, pipeline_id = file_digest(pipeline.path), self._pipeline(pipeline.name)
        found = self._client.list_pipeline_versions(pipeline_id, filter=_named(digest)).pipeline_versions
        with _quietly():
            version = found[0] if found else self._client.upload_pipeline_version(str(pipeline.path), digest, pipeline_id)
        return {"pipeline_id": pipeline_id, "version_id": version.pipeline_version_id}

    def _pipeline(self, name: str) -> str:
        found = self._client.pipelines.pipeline_service_list_pipelines(filter=_named(name), **self._within)
        if found.pipelines:
            return found.pipelines[0].pipeline_id
        new = self._client.api_models.V2beta1Pipeline(name=name, display_name=name, **self._within)
        return self._client.pipelines.pipeline_service_create_pipeline(pipeline=new).pipeline_id

    def start(self, experiment: str, name: str, source: dict[str, str], arguments: dict[str, Any], account: str | None) -> str:
        """Start a run of a pipeline's file or uploaded version; return its id."""
        with _quietly():
            return self._client.run_pipeline(experiment, name, params=arguments, service_account=account, **source).run_id

    def schedule(
        self, experiment: str, name: str, source: dict[str, str], arguments: dict[str, Any], account: str | None, cron: str
    ) -> str:
        """Start runs at the times of a cron expression, in place of the experiment's schedules of this name; return the schedule's id."""
        before = self._client.list_recurring_runs(page_size=100, experiment_id=experiment, filter=_named(name)).recurring_runs or []
        given = {"params": arguments, "service_account": account, "cron_expression": cron, "no_catchup": True}
        made = self._client.create_recurring_run(experiment, name, **given, **source)
        for one in before:  # last, so that a schedule that is refused replaces none
            self._client.delete_recurring_run(one.recurring_run_id)
        return made.recurring_run_id

    def run(self, run: str) -> Any:
        """A run with its tasks, as it is now, and with the pipeline that it is of."""
        found = self._client.get_run(run)
        version = found.pipeline_version_reference
        if not found.pipeline_spec and version:
            found.pipeline_spec = self._client.get_pipeline_version(version.pipeline_id, version.pipeline_version_id).pipeline_spec
        return found

    @property
    def _within(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}


def read_cron(text: str) -> str:
    """A cron expression as Kubeflow takes it, whose first field is the second. Errors: InputError when it has not five fields."""
    if len(text.split()) != 5 or not re.fullmatch(r"[\w*,/?\- ]+", text):
        raise InputError(f'--every {text}: write five fields, "minute hour day month weekday"; "0 3 * * 1" is Mondays at 3:00 UTC')
    return f"0 {text}"


def _named(name: str) -> str:
    """Filter of a list by name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the links that kfp's client prints."""
    with redirect_stdout(io.StringIO()):
        yield


def _refusal(address: str, error: ApiException) -> InputError:
    status, said = error.status or 0, _said(error)
    if status == 401:
        return InputError(f"{address} wants a valid token (401{said}): set {TOKEN}, or {TOKEN_FILE} to a file that holds it")
    if status == 403:
        return InputError(f"{address} forbids it (403{said}): ask for the right to run pipelines there, or see to --namespace")
    if status == 404:
        return InputError(f"{address} has no such thing (404{said}): see to --endpoint, without /apis/…, and to the run's id")
    if status == 0 or status >= 500 or status == 429:
        return Away(f"{address} fails ({status or error.reason}{said}): try again later")
    return InputError(f"{address} refuses it ({status}{said})")


def _said(error: ApiException) -> str:
    """The server's own words; a page of HTML has none."""
    try:
        return f": {' '.join(str(json.loads(error.body or '')['message']).split())[:500]}"
    except (KeyError, TypeError, ValueError):
        return ""


def _cause(error: Exception) -> str:
    """What lies behind an error of a connection, without the objects that its text names."""
    return str(getattr(error, "reason", None) or error).rpartition(">: ")[2] or type(error).__name__
