"""Real servers for tests: PostgreSQL, MLflow on it and on S3, and a relay in front of it that can be cut at a chosen request."""

import base64
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from object_store import BUCKET, S3_ENVIRONMENT, free_port, http_answers, wait_for


def missing() -> str | None:
    """What a test with servers needs and is not here; None when all is there."""
    if binaries() is None:
        return "PostgreSQL's initdb"
    try:
        import flask  # noqa: F401
        import moto.server  # noqa: F401
    except ImportError:
        return "moto[server]"
    return None


def binaries() -> Path | None:
    places = [path for path in (shutil.which("initdb"),) if path]
    places += [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    return Path(places[0]).parent if places else None


class Postgres:
    """A database in a folder of its own; as root it runs as `nobody`, since initdb refuses root."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="earmark-postgres-"))
        self.as_user = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
            self.as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        self.port, self.data = free_port(), self.folder / "data"
        self._run("initdb", "-D", str(self.data), "-U", "earmark", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", str(self.data), "-o", options, "-l", str(self.folder / "log"), "-w", "start")
        self.uri = self.address("postgres")

    def address(self, database: str) -> str:
        return f"postgresql+psycopg://earmark@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A database of its own; its address."""
        import psycopg

        with psycopg.connect(self.uri.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.address(database)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.as_user, str((binaries() or Path()) / program), *arguments]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


ADMIN, PASSWORD = "admin", "a password of tests"
CSRF = """
class CSRFProtect:
    def init_app(self, app):
        pass
    def protect(self):
        raise NotImplementedError
"""


class Mlflow:
    """An MLflow server that can be killed and started again on the same stores; with `accounts`, whoever asks must log in."""

    def __init__(self, database: str, s3: str, *, accounts: bool = False):
        self.database, self.s3, self.port = database, s3, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.accounts = Path(tempfile.mkdtemp(prefix="earmark-accounts-")) if accounts else None
        if self.accounts:
            self._prepare_accounts(self.accounts)
        self.start()

    def _prepare_accounts(self, folder: Path) -> None:
        settings = f"default_permission = READ\ndatabase_uri = {self.database}\nadmin_username = {ADMIN}\nadmin_password = {PASSWORD}\n"
        settings += "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        settings += "auth_cache_ttl_seconds = 60\n"  # without it every request hashes the password anew, a second each
        (folder / "accounts.ini").write_text(f"[mlflow]\n{settings}")
        if importlib.util.find_spec("flask_wtf") is None:  # it guards a form of MLflow's page, which no test opens
            (folder / "flask_wtf").mkdir()
            (folder / "flask_wtf/__init__.py").touch()
            (folder / "flask_wtf/csrf.py").write_text(CSRF)

    def start(self) -> None:
        environment = os.environ | S3_ENVIRONMENT | {"MLFLOW_S3_ENDPOINT_URL": self.s3, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self.database, "--artifacts-destination", f"s3://{BUCKET}"]
        if self.accounts:
            command += ["--app-name", "basic-auth"]
            environment["MLFLOW_AUTH_CONFIG_PATH"] = str(self.accounts / "accounts.ini")
            environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "tests"
            environment["PYTHONPATH"] = f"{self.accounts}{os.pathsep}{environment.get('PYTHONPATH', '')}"
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(lambda: http_answers(f"{self.uri}/health"), "MLflow", self.process)

    def administer(self, path: str, **content: str) -> None:
        """Ask the server for something as its administrator."""
        login = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        asked = urllib.request.Request(f"{self.uri}/api/{path}", json.dumps(content).encode(), headers, method="POST")
        urllib.request.urlopen(asked, timeout=60).close()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Relay:
    """HTTP in front of a server; `cut` makes it answer nothing from a chosen request on, as if the server had gone at that instant."""

    def __init__(self, server: str):
        self.target, self.cuts, self.dead, self.asked = server, None, False, []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def relay(self) -> None:
                body = self.body()
                relay.asked.append(f"{self.command} {self.path}")
                fatal = relay.cuts is not None and relay.cuts[0] in f"{self.command} {self.path}"
                if relay.dead or (fatal and not relay.cuts[1]):
                    relay.dead = True
                    return self.connection.close()
                request = urllib.request.Request(f"{relay.target}{self.path}", body or None, self.kept(), method=self.command)
                try:
                    answer = urllib.request.urlopen(request, timeout=60)
                except urllib.error.HTTPError as error:
                    answer = error
                with answer:
                    content = answer.read()
                if fatal:
                    relay.dead = True
                    return self.connection.close()
                self.send_response(answer.status)
                for name in ("Content-Type", "Content-Disposition"):
                    if answer.headers.get(name):
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def kept(self) -> dict[str, str]:
                hops = ("transfer-encoding", "content-length", "connection", "accept-encoding")
                return {name: value for name, value in self.headers.items() if name.lower() not in hops}

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = relay

            def log_message(self, *arguments) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def cut(self, request: str, *, answered: bool) -> None:
        """Die at the first request that holds this text: before the server has seen it, or after, with the answer lost."""
        self.cuts, self.dead = (request, answered), False

    def mend(self) -> None:
        self.cuts, self.dead = None, False

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
