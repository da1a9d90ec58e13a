"""Decoding in processes of its own, bounded in memory and in time: what a file does to its decoder, it does to itself alone.

A worker is handed open files, no names, so that it can open nothing else; it lives on for the next file, and is replaced when it dies.
"""

import array
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.storage.printable import printable

KEPT = ("LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "MALLOC_PERTURB_", "TMPDIR", "VIRTUAL_ENV")
BEAT = b"."  # a worker says so whenever it has decoded a second
DIED = {-9: "it was killed", -11: "segmentation fault", -6: "aborted"}


class _Worker:
    """The parent's end of a worker."""

    def __init__(self, memory_mb: int):
        self.socket, there = socket.socketpair()
        self.used = False  # whether it has served a file before
        environment = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("LC_")}  # no secrets
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", __spec__.name, str(there.fileno()), str(memory_mb)],
                env=environment | {"OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )

    def ask(self, request: dict[str, Any], files: list[int], stall_seconds: float) -> dict[str, Any]:
        """The answer to a request. Errors: TimeoutError when nothing is heard for too long, EOFError when the worker died."""
        self.socket.settimeout(stall_seconds)
        try:
            socket.send_fds(self.socket, [json.dumps(request).encode() + b"\n"], files)
            answer = b""
            while not answer.endswith(b"\n"):
                if not (more := self.socket.recv(1 << 16)):
                    raise EOFError
                answer = (answer + more).lstrip(BEAT)
        except ConnectionError:
            raise EOFError from None
        return json.loads(answer)

    def end(self) -> int:
        """Kill the worker; return how it had died, if it had."""
        self.socket.close()
        try:
            return self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


_idle: dict[int, list[_Worker]] = {}
_lock = threading.Lock()


def _forget() -> None:
    """A forked child shares no worker with its parent."""
    global _lock
    _idle.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def _lease(memory_mb: int) -> Iterator[_Worker]:
    with _lock:
        kept = _idle.setdefault(memory_mb, [])
        worker = kept.pop() if kept else None
    worker = worker or _Worker(memory_mb)
    try:
        yield worker
    except BaseException:
        worker.end()
        raise
    worker.used = True
    with _lock:
        _idle.setdefault(memory_mb, []).append(worker)


def ask(path: Path, request: dict[str, Any], sink: int | None, memory_mb: int, stall_seconds: float, again: bool = False) -> dict[str, Any]:
    """Have a file decoded into the open file `sink`; `request` names what is wanted (`_answer`).

    Errors: InputError naming the file when there is none, it cannot be decoded, or its decoder died, hung, or asked for too much memory.
    """
    answer: dict[str, Any] = {}
    with _opened(path) as file:
        for again in (False, True):
            worker, fresh = None, True
            try:
                with _lease(memory_mb) as worker:
                    fresh = not worker.used
                    answer = worker.ask(request, [file] if sink is None else [file, sink], stall_seconds)
                    if "memory" in answer:
                        raise InputError(f"{path}: decoding it needs more than {memory_mb} MB (decoding.memory_mb in params)")
                break
            except EOFError:
                code = worker.end() if worker else 0
                if fresh or again:  # else it may have been killed while it waited, which is not this file's doing
                    raise InputError(f"{path}: no decoder reads it: it ends the decoder ({DIED.get(code, f'exit code {code}')})") from None
            except TimeoutError:
                raise InputError(
                    f"{path}: no sound came of it for {stall_seconds:g} s (decoding.stall_seconds in params): its decoder was stopped"
                ) from None
    if "full" in answer:
        raise OSError(answer["full"], os.strerror(answer["full"]))
    if "error" in answer:
        raise InputError(f"{path}: {printable(answer['error'])}")
    return answer


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise InputError(f"{path}: is no file")
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        if not os.fstat(descriptor).st_size:
            raise InputError(f"{path}: empty file")
        yield descriptor
    finally:
        os.close(descriptor)


def _serve(connection: socket.socket) -> None:
    """Answer until the parent is gone."""
    while True:
        try:
            content, received = _receive(connection)
        except (ConnectionError, EOFError):
            return
        files = [os.fdopen(number, mode) for number, mode in zip(received, ("rb", "w+b"), strict=False)]
        try:
            answer = _answer(json.loads(content), files, lambda: connection.send(BEAT))
        except ConnectionError:
            return
        finally:
            for file in files:
                file.close()
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    content, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(2 * array.array("i").itemsize))
    received = array.array("i")
    for _, _, data in ancillary:
        received.frombytes(data[: len(data) // received.itemsize * received.itemsize])
    while content and not content.endswith(b"\n"):
        content += connection.recv(1 << 16)
    if not content:
        raise EOFError
    return content, list(received)


def _answer(request: dict[str, Any], files: list[Any], beat: Any) -> dict[str, Any]:
    """What `decode` found, or `measure` with no second file to write to; else what is wrong."""
    from dataclasses import asdict

    from earmark.audio import ffmpeg

    limits = ffmpeg.Limits(request["lost_share"], request["hours"])
    try:
        if len(files) == 1:
            return {"seconds": ffmpeg.measure(files[0], limits, beat)}
        found = asdict(ffmpeg.decode(files[0], files[1], request.get("track"), limits, beat))
        files[1].flush()
        return found
    except InputError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"memory": True}
    except ConnectionError:
        raise
    except OSError as error:
        return {"full": error.errno} if error.errno else {"error": str(error)}
    except Exception as error:  # whatever a decoder raises is of this file alone
        return {"error": f"no decoder reads it ({type(error).__name__}: {error})"}


def _main() -> None:
    connection, memory_mb = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    import av.logging

    from earmark.audio import ffmpeg  # noqa: F401 - before the first file comes

    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve(connection)


if __name__ == "__main__":
    _main()
