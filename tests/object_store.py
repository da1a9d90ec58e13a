"""A real S3 server for tests, over HTTP, and what starting any server needs."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import boto3

BUCKET = "earmark"
S3_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(answers: Callable[[], bool], what: str, process: subprocess.Popen | None = None, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not answers():
        if time.monotonic() > until or (process and process.poll() is not None):
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.1)


def http_answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


PROGRAM = """
import sys, time
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
application = DomainDispatcherApplication(create_backend_app)
def answer(environment, start_response):
    time.sleep(float(sys.argv[2]))
    return application(environment, start_response)
run_simple("127.0.0.1", int(sys.argv[1]), answer, threaded=True)
"""


class S3:
    """An S3 server over HTTP with one bucket; it answers no request before `latency_seconds`."""

    def __init__(self, latency_seconds: float = 0.0):
        self.address = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-c", PROGRAM, str(port), str(latency_seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: http_answers(self.address), "the S3 server", self.process)
        self.client = boto3.client(
            "s3", endpoint_url=self.address, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
        )
        self.client.create_bucket(Bucket=BUCKET)

    def stored(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def check_credentials(self, wanted: bool) -> None:
        """Let nobody in whose credentials are not known here, and that is nobody; or everybody."""
        body = b"0" if wanted else b"inf"  # how many requests are served unchecked
        request = urllib.request.Request(f"{self.address}/moto-api/reset-auth", body, {"Content-Type": "text/plain"})
        urllib.request.urlopen(request, timeout=10).close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
