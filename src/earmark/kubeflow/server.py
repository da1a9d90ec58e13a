"""A Kubeflow Pipelines server: what is asked of it, and what its refusals mean.

Its generated interface is used rather than kfp's client, which prints links, waits half a minute on a wrong address and writes settings
into the user's home.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from earmark import InputError

TOKEN = "KF_PIPELINES_TOKEN"
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
TOKEN_FILES = ("/var/run/secrets/kubeflow/pipelines/token", "/var/run/secrets/kubernetes.io/serviceaccount/token")
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT = (10, 60)  # seconds to connect, and to answer


class Away(InputError):
    """The server cannot be reached or fails; it may be well again in a while."""


def token() -> str | None:
    """From the environment, or of the pod's service account, read anew each time since it is renewed; None where there is none."""
    if given := os.environ.get(TOKEN):
        return given.strip()
    if place := os.environ.get(TOKEN_FILE):
        try:
            return Path(place).read_text().strip()
        except OSError as error:
            raise InputError(f"{TOKEN_FILE}={place} cannot be read: {error.strerror}") from error
    found = [path for path in map(Path, TOKEN_FILES) if path.is_file()]
    return found[0].read_text().strip() if found else None


class Server:
    """One Kubeflow Pipelines server. Errors of every method: InputError naming the address and what to do; Away when it may pass."""

    def __init__(self, endpoint: str):
        import kfp_server_api as api

        if not endpoint.startswith(("http://", "https://")):
            raise InputError(f"--endpoint {endpoint}: an address starts with http:// or https://")
        self.endpoint = endpoint.rstrip("/").removesuffix("/apis/v2beta1")
        settings = api.Configuration(host=self.endpoint)
        settings.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
        settings.api_key_prefix["authorization"] = "Bearer"
        _renew(settings)  # without a first one the hook is never called
        settings.refresh_api_key_hook = _renew
        self._api, self._client = api, (client := api.ApiClient(settings))
        self._health, self._experiments = api.HealthzServiceApi(client), api.ExperimentServiceApi(client)
        self._runs = api.RunServiceApi(client)

    def page(self, run: str) -> str:
        """Address of a run's page."""
        return f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT', self.endpoint).rstrip('/')}/#/runs/details/{run}"

    def namespace(self, wanted: str | None) -> str | None:
        """The namespace to send runs to; None where the server serves a single one."""
        answer = self._ask(self._health.healthz_service_get_healthz)
        if not answer.multi_user:
            return None
        own = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.is_file() else None
        if not (wanted or own):
            raise InputError(f"{self.endpoint} serves many namespaces: say which with --namespace")
        return wanted or own

    def experiment(self, name: str, namespace: str | None) -> str:
        """Id of the experiment of this name, made when there is none."""
        wanted = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
        within = {"namespace": namespace} if namespace else {}
        found = self._ask(self._experiments.experiment_service_list_experiments, filter=wanted, **within)
        if found.experiments:
            return found.experiments[0].experiment_id
        new = self._api.V2beta1Experiment(display_name=name, **within)
        return self._ask(self._experiments.experiment_service_create_experiment, experiment=new).experiment_id

    def start(self, content: dict[str, Any], arguments: dict[str, Any], name: str, experiment: str, account: str | None) -> str:
        """Start a run of a pipeline; return its id."""
        given = self._api.V2beta1RuntimeConfig(parameters=arguments)
        run = self._api.V2beta1Run(
            experiment_id=experiment, display_name=name, pipeline_spec=content, runtime_config=given, service_account=account
        )
        return self._ask(self._runs.run_service_create_run, run=run).run_id

    def run(self, run: str) -> Any:
        """A run with its tasks, as it is now."""
        return self._ask(self._runs.run_service_get_run, run_id=run)

    def _ask(self, call: Callable[..., Any], **given: Any) -> Any:
        from urllib3.exceptions import HTTPError

        try:
            answer = call(_request_timeout=TIMEOUT, **given)
            json.loads(self._client.last_response.data)  # the client takes any text for an empty answer
            return answer
        except self._api.ApiException as error:
            raise self._refusal(error) from error
        except HTTPError as error:
            raise Away(f"{self.endpoint} cannot be reached ({_cause(error)}): see to --endpoint and to the way there") from error
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.endpoint} answers, but not as Kubeflow Pipelines does: see to --endpoint, and to {TOKEN} if it is a login page"
            ) from error

    def _refusal(self, error: Any) -> InputError:
        status, said = error.status, _said(error)
        if status == 401:
            return InputError(f"{self.endpoint} wants a valid token (401{said}): set {TOKEN}, or {TOKEN_FILE} to a file that holds it")
        if status == 403:
            return InputError(f"{self.endpoint} forbids it (403{said}): ask for the right to run pipelines there, or see to --namespace")
        if status == 404:
            return InputError(f"{self.endpoint} has no such thing (404{said}): see to --endpoint, without /apis/…, and to the run's id")
        if status == 0 or status >= 500 or status == 429:
            return Away(f"{self.endpoint} fails ({status or error.reason}{said}): try again later")
        return InputError(f"{self.endpoint} refuses it ({status}{said})")


def _renew(settings: Any) -> None:
    if found := token():
        settings.api_key["authorization"] = found


def _said(error: Any) -> str:
    """The server's own words; a page of HTML has none."""
    try:
        return f": {' '.join(str(json.loads(error.body)['message']).split())[:500]}"
    except (KeyError, TypeError, ValueError):
        return ""


def _cause(error: Exception) -> str:
    """What lies behind an error of a connection, without the objects that its text names."""
    return str(getattr(error, "reason", None) or error).rpartition(">: ")[2] or type(error).__name__
