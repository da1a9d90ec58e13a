"""A TrainJob looked at until it is over: what its pods wait for, what its nodes say, and that it is gone afterwards."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient
    from kubeflow.trainer.types.types import TrainJob

log = logging.getLogger(__name__)
CONTAINER = "node"
COMPLETE, FAILED = "Complete", "Failed"
POLL_SECONDS, EVENTS_SECONDS = 2.0, 15.0  # between two looks at a job, and at what the cluster says of its pods
PATIENCE_SECONDS = 300.0  # a cluster that does not answer for so long is away; a job of days outlives a shorter pause
LATE_SECONDS = 60.0  # until a file that another node wrote is seen on a network's file system


def delete(client: "TrainerClient", name: str) -> None:
    """Delete it and see it gone, so that one of the same name can be made."""
    with suppress(RuntimeError, ValueError):  # there is none
        client.delete_job(name)
        deadline = time.monotonic() + LATE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            client.get_job(name)


def wait(client: "TrainerClient", name: str, until: Callable[["TrainJob"], bool], minutes: float) -> "TrainJob":
    """Look at a job until it is so; say meanwhile what keeps its pods.

    Errors: TimeoutError; RuntimeError or ValueError when the job is gone, or nobody answers for long.
    """
    start = answered = time.monotonic()
    told, looked = "", -EVENTS_SECONDS
    while time.monotonic() < start + 60 * minutes:
        try:
            job, answered = client.get_job(name), time.monotonic()
            if until(job):
                return job
        except (RuntimeError, ValueError, TimeoutError) as error:
            if not _passes(error) or time.monotonic() > answered + PATIENCE_SECONDS:
                raise
            log.warning("TrainJob %s: %s; asked again", name, why(error))
        if time.monotonic() > looked + EVENTS_SECONDS:
            looked, before, told = time.monotonic(), told, events(client, name)
            if told not in ("", before):
                log.warning("TrainJob %s: %s", name, told)
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"{minutes:g} minutes have passed")


def begun(job: "TrainJob") -> bool:
    """Whether every node runs or ran; a job that was once suspended has no such status of its own."""
    nodes = [step for step in job.steps if step.name.startswith(CONTAINER) and step.status not in (None, "Pending", "Created", "Unknown")]
    return job.status in ("Running", COMPLETE, FAILED) or len(nodes) >= job.num_nodes


def ended(job: "TrainJob") -> bool:
    """Whether it is over."""
    return job.status in (COMPLETE, FAILED)


def show_log(client: "TrainerClient", name: str) -> None:
    """Log what the first node says until it ends. A broken connection ends the showing, not the job."""
    try:
        for line in client.get_job_logs(name, follow=True):
            log.info("node-0: %s", line.rstrip())
    except (RuntimeError, ValueError, TimeoutError) as error:
        log.warning("TrainJob %s: its log is shown no further (%s); it goes on", name, why(error))


def said(client: "TrainerClient", name: str, nodes: int) -> str:
    """The last lines of every node, those that failed among them."""
    found = []
    for number in range(nodes):
        with suppress(RuntimeError, ValueError, TimeoutError):
            lines = [line.rstrip() for line in "\n".join(client.get_job_logs(name, step=f"node-{number}")).splitlines() if line.strip()]
            found += [f"\nnode-{number}: {' / '.join(lines[-3:])}"] if lines else []
    return "".join(found)


def events(client: "TrainerClient", name: str) -> str:
    """What the cluster warns of: no such image, no node with a GPU. Containers without a cluster have no events.

    Asked here, since the client's own list leaves out events without a first timestamp, as the scheduler's are, and those of the Job.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    cluster: Any = client.backend
    if not hasattr(cluster, "core_api"):
        return ""
    try:
        found = cluster.core_api.list_namespaced_event(cluster.namespace, field_selector="type=Warning").items
    except (ApiException, HTTPError) as error:
        return f"its events cannot be read ({getattr(error, 'reason', None) or error})"
    own = [event for event in found if (event.involved_object.name or "").startswith(name)]
    own.sort(key=lambda event: str(event.last_timestamp or event.event_time or ""))
    return "; ".join(dict.fromkeys(event.message or event.reason or "" for event in own[-5:]))


def why(error: BaseException) -> str:
    """An error of the client with what lies behind it, in the cluster's own words where it has some."""
    cause: Any = error.__cause__
    if cause is None:
        return str(error)
    try:
        return f"{error}: {json.loads(cause.body)['message']}"
    except (AttributeError, KeyError, TypeError, ValueError):
        return f"{error}: {getattr(cause, 'reason', None) or cause}"


def _passes(error: BaseException) -> bool:
    """Whether it may be well again in a while: nobody answered, or with a trouble of the cluster's own."""
    if isinstance(error, TimeoutError):
        return True
    status = getattr(error.__cause__, "status", None) or 500
    return error.__cause__ is not None and (status == 429 or status >= 500)


def arrives(path: Path) -> bool:
    """Whether a file that another node wrote is there, sooner or later."""
    deadline = time.monotonic() + LATE_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return path.exists()
