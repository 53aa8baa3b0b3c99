"""A stub of an OpenAI-compatible endpoint, whose answers a test decides."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any], int], tuple[Any, ...]]
"""From a body and the number of the try to status, content (JSON or bytes) and, at will, headers."""


def answer(text: str) -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    }


class Stub:
    """An endpoint whose answer to a request is decided by `respond(body, number of the try)`.

    It lists `models` at /v1/models, or answers there with `listing`, to who has the `key` if there is one.
    """

    def __init__(
        self, respond: Answer, *, models: tuple[str, ...] = ("m",), key: str | None = None, listing: Any = None
    ) -> None:
        self.tries: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.busy = self.most_busy = 0
        lock, stub = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/v1/models":
                    self._send(404, {})
                elif key and self.headers["Authorization"] != f"Bearer {key}":
                    self._send(401, {})
                else:
                    self._send(200, {"data": [{"id": name} for name in models]} if listing is None else listing)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    stub.bodies.append(body)
                    stub.headers.append(dict(self.headers))
                    stub.paths.append(self.path)
                    stub.busy += 1
                    stub.most_busy = max(stub.most_busy, stub.busy)
                    question = body["messages"][-1]["content"] if "messages" in body else str(body["prompt"])
                    stub.tries[question] += 1
                    number = stub.tries[question]
                if "messages" not in body:
                    body = {**body, "path": self.path}
                status, content, *headers = respond(body, number)
                with lock:
                    stub.busy -= 1
                self._send(status, content, *headers)

            def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
