"""A web server for tests: files with tags and ranges, and all that can go wrong between two machines."""

import contextlib
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEP = 1 << 14


class Web:
    """`faults` are used up one a request of a path: a status, or ("reset"|"stall"|"short", bytes sent before it)."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list] = defaultdict(list)
        self.ranges, self.tags, self.headers, self.before = True, True, {}, lambda path, start: None
        self.weak, self.date = False, ""  # instead of a strong tag: a weak one, a date, or with no `tags` nothing
        self.seconds_a_step = 0.0
        self.asked, self.sent, self.seen, self.counting = Counter(), 0, [], threading.Lock()
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with contextlib.suppress(ConnectionError):
                    web.serve(self)

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads, self.server.handle_error = True, lambda *arguments: None
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"{self.address}/{name}"

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        with self.counting:
            self.asked[path] += 1
            self.seen.append((path, dict(request.headers)))
            fault = self.faults[path].pop(0) if self.faults[path] else None
        if isinstance(fault, int):
            return self.answer(request, fault, b"", {"Retry-After": "0"})
        if path not in self.files:
            return self.answer(request, 404, b"", {})
        content = self.files[path]
        self.before(path, request.headers.get("Range", ""))
        tag = self.tag(content)
        known = next(iter(tag.values()), None)
        wanted = request.headers.get("Range") if self.ranges else None
        if wanted and request.headers.get("If-Range", known) == known:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, len(content)) if last else len(content)
            if start >= len(content):
                return self.answer(request, 416, b"", tag)
            about = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
            return self.answer(request, 206, content[start:end], tag | about, fault)
        self.answer(request, 200, content, tag, fault)

    def tag(self, content: bytes) -> dict[str, str]:
        if self.date:
            return {"Last-Modified": self.date}
        return {"ETag": f'{"W/" if self.weak else ""}"{sha256(content).hexdigest()[:16]}"'} if self.tags else {}

    def answer(self, request, status: int, body: bytes, headers: dict[str, str], fault: tuple[str, int] | None = None) -> None:
        request.send_response(status)
        for name, value in {**headers, **self.headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        kind, kept = fault or ("", len(body))
        for start in range(0, min(kept, len(body)), STEP):
            chunk = body[start : min(start + STEP, kept)]
            request.wfile.write(chunk)
            with self.counting:
                self.sent += len(chunk)
            if self.seconds_a_step:
                time.sleep(self.seconds_a_step)
        if kind == "reset":
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if kind == "stall":
            time.sleep(3)
        if kind:
            request.close_connection = True
            request.connection.close()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
