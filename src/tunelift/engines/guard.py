"""What a request passes before it reaches vLLM's own routes. vLLM imports these classes by name (`--middleware`).

ASGI classes without an import of a web framework: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

KEY_VARIABLE = "VLLM_API_KEY"
"""Environment variable of the server process that holds the key; its command line would show it to everyone."""
OPEN_PATHS = {"/health", "/ping"}
"""All that is answered without the key: whether the server is up."""
CHAT_PATHS = {
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/invocations",
    "/v1/messages",
    "/v1/responses",
}
"""Where a request may bring tools; OpenAI's, SageMaker's and Anthropic's."""
NO_CALL = ("none", {"type": "none"})
"""`tool_choice`, as OpenAI and Anthropic write that no tool is to be called."""


class RequireKey:
    """Answer 401 to every request that does not carry the API key, whatever its path and method.

    vLLM's own check covers some prefixes (/v1 and a few more) and no OPTIONS request; /invocations, which answers chat
    requests, is not among them. What carries the key goes on to `RefuseUnserved`.

    Raises:
        KeyError: the server was started without a key.
    """

    def __init__(self, app: App) -> None:
        self._app, self._key = RefuseUnserved(app), os.environ[KEY_VARIABLE].encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection. A kind that is not known needs the key too."""
        # The very path that routes are matched by: what is spelt otherwise (//health, /health/) needs the key.
        is_open = scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in OPEN_PATHS)
        if is_open or self._carries_key(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "API key required"})
        else:
            words = "This server needs its API key, in the header `Authorization: Bearer KEY`."
            await _refuse(send, 401, words, "invalid_api_key", [(b"www-authenticate", b"Bearer")])

    def _carries_key(self, scope: Message) -> bool:
        sent = [value for name, value in scope.get("headers", ()) if name.lower() == b"authorization"]
        if len(sent) != 1:
            return False
        scheme, _, token = sent[0].partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(token.strip(), self._key)


REMOVED = (
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_decoding_backend",
    "guided_whitespace_pattern",
)
"""Fields of earlier versions, which vLLM ignores: the answer would be free text, with HTTP 200."""


class RefuseUnserved:
    """Answer 400, with the form that works, to a request that vLLM would not answer as it is meant."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection; the body is read here and handed on."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        read = [await receive()]
        while read[-1].get("more_body"):
            read.append(await receive())
        if problem := unserved(scope["path"], b"".join(message.get("body", b"") for message in read)):
            await _refuse(send, 400, problem, "unsupported_parameter")
            return

        async def again() -> Message:
            return read.pop(0) if read else await receive()

        await self._app(scope, again, send)


def unserved(path: str, body: bytes) -> str | None:
    """What of a request would be ignored or is not served here, and what to send instead; None if nothing is."""
    has_tools = path in CHAT_PATHS and (b'"tools"' in body or b'"functions"' in body)
    if not has_tools and b'"guided_' not in body:  # Nearly always: nothing is parsed twice.
        return None
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None  # vLLM says what is wrong with it.
    if not isinstance(request, dict):
        return None
    if has_tools and _wants_calls(request):
        # vLLM would name flags of its own command line.
        return (
            'This server does not read tool calls out of answers. Send `"tool_choice": "none"` beside `tools`: the '
            "chat template shows them to the model, and a call is the text of the answer, as in evaluation."
        )
    field = next((name for name in REMOVED if request.get(name) is not None), None)
    return field and (
        f'`{field}` is not supported any more and would be ignored. Send `response_format` (`{{"type": '
        '"json_schema", "json_schema": {"name": …, "schema": …}}`) or `structured_outputs` '
        '(`{"json": …}`, `{"regex": …}`, `{"choice": …}`, `{"grammar": …}`) instead.'
    )


def _wants_calls(request: dict[str, Any]) -> bool:
    tools = request.get("tools") and request.get("tool_choice") not in NO_CALL
    return bool(tools or (request.get("functions") and request.get("function_call") != "none"))


async def _refuse(
    send: Send, status: int, words: str, code: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """An error in OpenAI's form."""
    error = {"message": words, "type": "invalid_request_error", "param": None, "code": code}
    body = json.dumps({"error": error}, ensure_ascii=False).encode()
    sent = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
