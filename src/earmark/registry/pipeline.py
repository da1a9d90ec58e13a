"""Which pipeline run a stage belongs to: all that one `dvc repro`, one shell or one program started."""

import getpass
import os
import re
import socket
import sys
from pathlib import Path

import psutil

RUN = "EARMARK_RUN"  # set by a runner that starts each stage on another machine


def pipeline_key() -> str:
    """Name of the pipeline run that this process belongs to."""
    if given := os.environ.get(RUN):
        return re.sub(r"[^\w.\-]", "_", given)[:200]
    starter = _starter()
    return f"{socket.gethostname()}-{starter.pid}-{round(starter.create_time() * 1000)}"


def _starter() -> psutil.Process:
    """The `dvc` above this process; else the shell above the command `earmark`; else the program itself."""
    own = psutil.Process()
    above = own.parents()
    for process in above:
        if _is_dvc(process):
            return process
    program = Path(sys.argv[0])
    return above[0] if above and "earmark" in (program.name, program.parent.name) else own


def _is_dvc(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()[:3]
    except (psutil.AccessDenied, psutil.ZombieProcess, psutil.NoSuchProcess):
        return False
    return any(Path(word).name == "dvc" for word in words)


def who() -> str:
    """User and host, for records."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
