"""As much of the Hugging Face hub as downloads ask for."""

import hashlib
import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote

from download.web import Web

COMMIT = "c0ffee" * 6 + "abcd"


class Hub:
    """As much of the hub as is asked: revisions, trees, and files behind a redirect to another server; `served` are other bytes there."""

    def __init__(self, contents: dict[str, bytes], web: Web):
        self.commit, self.asked, self.served, self.refuse = COMMIT, Counter(), {}, 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                path = unquote(self.path.partition("?")[0])
                hub.asked[path] += 1
                hub.token = self.headers.get("Authorization")
                if hub.refuse:
                    return self.reply(hub.refuse, {"error": "no"}, {"X-Error-Code": "GatedRepo", "X-Error-Message": "no"})
                if "/resolve/" in path:
                    return self.reply(302, {}, self.resolved(path.partition(f"{COMMIT}/")[2]))
                if not path.startswith(("/api/datasets/o/n/", "/api/models/o/n/")):
                    return self.reply(404, {}, {})
                if "/revision/" in path:
                    return self.reply(200, {"id": "o/n", "sha": hub.commit, "siblings": [], "private": False, "tags": []}, {})
                wanted = (
                    [name for name in contents if name in parse_qs(body).get("paths", [])] if "/paths-info/" in path else list(contents)
                )
                below = path.partition(f"/tree/{COMMIT}")[2].strip("/")
                return self.reply(200, [self.entry(name) for name in wanted if not below or name.startswith(below + "/")], {})

            do_GET = do_POST = do_HEAD = answer

            def resolved(self, name: str) -> dict[str, str]:
                content = contents[name]
                tag = {"X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
                return {"X-Repo-Commit": COMMIT, "Location": web.put(name.rpartition("/")[2], hub.served.get(name, content)), **tag}

            def entry(self, name: str) -> dict:
                content = contents[name]
                large = (
                    {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}}
                    if len(content) > 1000
                    else {}
                )
                return {"type": "file", "path": name, "size": len(content), "oid": "a" * 40} | large

            def reply(self, status: int, content, headers: dict[str, str]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
