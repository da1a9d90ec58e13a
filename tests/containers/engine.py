"""A container engine of the tests' own: packages, a folder for its storage, a base image, and a service that speaks Docker's API.

Works as root on Debian, without a Docker engine, an image registry or systemd. EARMARK_ENGINE=folder keeps images and layers there
between sessions (a session that finds them starts in seconds); by default they are in a folder that goes with the session.
"""

import logging
import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import docker

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("podman", "buildah", "runc", "netavark", "aardvark-dns", "iptables", "debootstrap")
PROGRAMS = ("podman", "buildah", "runc", "debootstrap", "make", "git")
BASE = "docker.io/library/python:3.11-slim-bookworm"
SUITE = "bookworm"
IMAGE = "localhost/earmark:test"
MOST = 32768  # files and processes of a container; podman itself goes no higher
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def missing() -> str | None:
    """What containers need and is not to be had here, after installing what can be; None when all is there."""
    if os.geteuid() != 0:
        return "root"
    if all(map(shutil.which, PROGRAMS)):
        return None
    if not shutil.which("apt-get"):
        return f"{', '.join(PACKAGES)}, or apt-get to install them"
    log.info("installing %s", ", ".join(PACKAGES))
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600"]
    for command in ([*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode:
            return f"packages that apt-get cannot install: {(done.stderr.splitlines() or ['no reason given'])[-1]}"
    return None


class LackingError(Exception):
    """What containers need and is not to be had here."""


def mirror(*options: str) -> str | None:
    """Where this machine's apt has Debian's packages from, of what forms and in what files its sources are; None where it names none."""
    asked = subprocess.run(["apt-get", *options, "update", "--print-uris"], capture_output=True, text=True)  # fetches nothing
    found = re.search(rf"'((?:https?|file):[^']*)/dists/{SUITE}/main/binary-", asked.stdout)
    return found and found[1]


class Engine:
    """podman with storage, configuration and service in one folder."""

    def __init__(self):
        kept = os.environ.get("EARMARK_ENGINE")
        self.kept = bool(kept)
        # not in pytest's folders: it would keep those of the last sessions, and a socket's path has to be short
        self.folder = Path(kept).resolve() if kept else Path(tempfile.mkdtemp(prefix="earmark-engine-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket = self.folder / "podman.sock"
        self.host = f"unix://{self.socket}"
        self.environment = {"CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf", "CONTAINERS_CONF": f"{self.folder}/containers.conf"}
        self.service: subprocess.Popen | None = None
        self._configure()

    def _configure(self) -> None:
        """Without systemd and with no more limits than this machine gives."""
        files, processes = (resource.getrlimit(limit)[1] for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
        files, processes = (limit if 0 < limit < MOST else MOST for limit in (files, processes))
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/graph"\nrunroot = "{self.folder}/run"\n'
        )
        (self.folder / "containers.conf").write_text(
            f'[containers]\nlog_driver = "k8s-file"\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
            f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{self.folder}/networks"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        )

    def run(self, *command: str, log_to: Path | None = None, **options) -> str:
        """What a program says on this engine. Errors: RuntimeError with the last of what it said."""
        done = subprocess.run(
            command, env=os.environ | self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )
        if log_to:
            log_to.write_text(done.stdout)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def has(self, image: str) -> bool:
        return subprocess.run(["podman", "image", "exists", image], env=os.environ | self.environment).returncode == 0

    def base(self) -> None:
        """The image that the Dockerfile starts from: from its registry, else Debian's own Python under the same name.

        Errors: LackingError when there is neither.
        """
        if self.has(BASE):
            return
        try:
            self.run("podman", "pull", "--quiet", BASE, timeout=300)
        except (RuntimeError, subprocess.TimeoutExpired):
            log.info("no registry has %s for us: making it with debootstrap, about a minute", BASE)
            self._bootstrap()

    def _bootstrap(self) -> None:
        root = self.folder / "root"
        source = mirror()
        if source is None:
            raise LackingError(f"{BASE}, or a mirror of Debian {SUITE} among apt's sources to make it from")
        self.run("debootstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-pip,python3-venv", SUITE, str(root), source)
        for name in ("python", "python3"):
            (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
        (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)  # the real image's pip installs, too
        for stale in [*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")]:
            stale.unlink()
        path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        archive = self.folder / "root.tar"
        self.run("tar", "--directory", str(root), "--create", "--file", str(archive), ".")
        changes = [f"--change={line}" for line in ("ENV LANG=C.UTF-8", f"ENV PATH={path}", 'CMD ["python3"]')]
        self.run("podman", "import", "--quiet", *changes, str(archive), BASE)
        archive.unlink()
        shutil.rmtree(root)

    def build(self) -> None:
        """`make image`, with the machine's certificates and the packages that uv has in its cache here."""
        log.info("building %s, about three minutes", IMAGE)
        options = ["--isolation=chroot", "--network=host", "--pull=never", "--format=docker", f"--layers={str(self.kept).lower()}"]
        if CERTIFICATES.exists():
            options.append(f"--secret=id=ca,src={CERTIFICATES}")
        cache = Path(self.run("uv", "cache", "dir").strip())
        cache.mkdir(parents=True, exist_ok=True)
        options += ["--build-arg=UV_CACHE_DIR=/tmp/uv-cache", f"--volume={cache}:/tmp/uv-cache"]
        made = ["make", "image", "ENGINE=podman", f"IMAGE={IMAGE}", f"IMAGE_OPTIONS={' '.join(options)}"]
        self.run(*made, cwd=ROOT, log_to=self.folder / "build.log", timeout=1800)

    def start(self) -> None:
        """The service. Errors: RuntimeError when it does not come up."""
        self.socket.unlink(missing_ok=True)
        with (self.folder / "service.log").open("w") as said:
            command = ["podman", "system", "service", "--time=1800", self.host]  # one whose tests were killed ends itself
            # in its folder, because where a container runs out of memory a file is left in the working folder
            self.service = subprocess.Popen(command, cwd=self.folder, env=os.environ | self.environment, stdout=said, stderr=said)
        until = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > until or self.service.poll() is not None:
                raise RuntimeError(f"podman's service did not start:\n{(self.folder / 'service.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.host, timeout=120)

    def stop(self) -> None:
        """End containers and service; remove what is not to be kept."""
        self.run("podman", "rm", "--all", "--force", "--time=0")
        self.run("podman", "network", "prune", "--force")
        if self.service:
            self.service.terminate()
            self.service.wait(30)
        if not self.kept:
            self.run("podman", "rmi", "--all", "--force")
            shutil.rmtree(self.folder)
