"""What a server of JSON over HTTP needs, whatever it answers."""

import json
import threading
from email import policy
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def read(kind: str, body: bytes) -> dict:
    """JSON, or the files of a form: name → text."""
    if not kind.startswith("multipart/form-data"):
        return json.loads(body)
    form = BytesParser(policy=policy.HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    return {part.get_filename(): part.get_payload(decode=True).decode() for part in form.iter_parts()}


class Api:
    """A server on a free port; `serve` is the subclass's."""

    def __init__(self):
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                api.serve(self, "GET", {})

            def do_DELETE(self):
                api.serve(self, "DELETE", {})

            def do_POST(self):
                api.serve(self, "POST", read(self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, request: BaseHTTPRequestHandler, method: str, body: dict) -> None:
        raise NotImplementedError

    def answer(
        self, request: BaseHTTPRequestHandler, status: int, content: dict | str, kind: str | None = None, *, missing: bool = False
    ) -> None:
        """JSON of a dict, or a text; `missing`: fewer bytes than were promised."""
        text = (content if isinstance(content, str) else json.dumps(content)).encode()
        request.send_response(status)
        kind = kind or ("text/plain" if isinstance(content, str) else "application/json")
        for name, value in {"Content-Type": kind, "Content-Length": str(len(text) + 9 * missing)}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(text)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
