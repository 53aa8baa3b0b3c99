"""A stub of an endpoint that tells how likely a prompt's words are."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Completions:
    """`logprob(word, prompt)` gives a word's log-probability; `refuse(prompt)` an HTTP status and a reason."""

    def __init__(self, logprob: Callable[[str, str], float]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.tries: Counter[str] = Counter()
        self.refuse: Callable[[str], tuple[int, str] | None] = lambda prompt: None
        stub, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self.path.endswith("/completions"):
                    self._answer(404, {"error": "not found"})
                    return
                with lock:
                    stub.bodies.append(body)
                    stub.tries[body["prompt"]] += 1
                refused = stub.refuse(body["prompt"])
                if refused:
                    self._answer(refused[0], {"error": refused[1]})
                    return
                words = re.findall(r"\s*\S+", body["prompt"])
                logprobs = [None, *(logprob(word.strip(), body["prompt"]) for word in words[1:])]
                choice = {"text": body["prompt"], "logprobs": {"tokens": words, "token_logprobs": logprobs}}
                self._answer(200, {"choices": [choice], "usage": {"prompt_tokens": len(words)}})

            def _answer(self, status: int, content: Any) -> None:
                raw = json.dumps(content).encode()
                self.send_response(status)
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
