"""What stands before vLLM's routes: the key, and a clear answer to what would not be served as it is meant."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.engines.guard import KEY_VARIABLE, OPEN_PATHS, RefuseUnserved, RequireKey

KEY = "geheim-123"
RIGHT = [(b"authorization", f"Bearer {KEY}".encode())]


class App:
    """What is guarded: it answers 200 to everything, and keeps what reached it."""

    def __init__(self) -> None:
        self.reached: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        if scope["type"] == "http":
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        self.reached.append((scope["type"], scope.get("path"), body))
        await send({"type": "http.response.start", "status": 200, "headers": []})


def call(app: Any, path: str, body: bytes = b"", chunks: int = 1, **scope: Any) -> list[dict[str, Any]]:
    """What is sent back to one connection."""
    size = max(1, -(-len(body) // chunks))
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": path, "headers": []} | scope, receive, send))
    return sent


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def guarded(app: App, monkeypatch: pytest.MonkeyPatch) -> RequireKey:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    return RequireKey(app)


TRICKS = [
    "/v1/chat/completions",
    "/invocations",
    "//invocations",
    "/health/../invocations",
    "/health/",
    "//health",
    "/HEALTH",
    "/health\x00",
    "/health?",
    "/pin",
    "/metrics",
    "/docs",
    "/",
    "",
    "*",
    "http://host/health",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "TRACE"])
@pytest.mark.parametrize("path", TRICKS)
def test_without_the_key_nothing_is_reached_by_any_method(
    method: str, path: str, guarded: RequireKey, app: App
) -> None:
    start, body = call(guarded, path, method=method)
    assert start["status"] == 401
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    error = json.loads(body["body"])["error"]
    assert {"message", "type", "code"} <= error.keys()
    assert KEY not in error["message"]
    assert app.reached == []


@given(st.text(max_size=30), st.sampled_from(["", "/mounted"]))
def test_only_the_two_paths_are_open_however_a_path_is_spelt(path: str, root: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEY_VARIABLE, KEY)
        (app := App(), call(RequireKey(app), root + path, root_path=root))
    assert bool(app.reached) == (root + path in OPEN_PATHS)


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_whether_the_server_is_up_is_told_to_everyone(path: str, guarded: RequireKey) -> None:
    assert call(guarded, path, method="GET")[0]["status"] == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"Bearer {KEY}4",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY} {KEY}",
        "Bearer schlüssel",
    ],
)
def test_another_key_opens_nothing(header: str, guarded: RequireKey) -> None:
    assert call(guarded, "/v1/models", headers=[(b"authorization", header.encode())])[0]["status"] == 401


def test_two_keys_in_one_request_open_nothing(guarded: RequireKey) -> None:
    assert call(guarded, "/v1/models", headers=[*RIGHT, (b"Authorization", b"Bearer other")])[0]["status"] == 401


def test_with_the_key_what_would_not_be_served_is_refused_all_the_same(guarded: RequireKey) -> None:
    assert call(guarded, CHAT, b'{"guided_json": {}}')[0]["status"] == 401
    assert call(guarded, CHAT, b'{"guided_json": {}}', headers=RIGHT)[0]["status"] == 400


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
def test_the_key_opens_every_route(header: str, guarded: RequireKey, app: App) -> None:
    for path in ("/v1/models", "/tokenize", "/metrics"):
        assert call(guarded, path, headers=[(b"Authorization", header.encode())])[0]["status"] == 200
    assert len(app.reached) == 3


def test_a_websocket_is_closed_before_it_is_accepted(guarded: RequireKey, app: App) -> None:
    for path in ("/v1/realtime", *OPEN_PATHS):
        (closed,) = call(guarded, path, type="websocket")
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
    assert app.reached == []
    call(guarded, "/v1/realtime", type="websocket", headers=RIGHT)
    assert app.reached == [("websocket", "/v1/realtime", b"")]


def test_the_start_of_the_server_needs_no_key(guarded: RequireKey, app: App) -> None:
    call(guarded, "", type="lifespan")
    assert app.reached


def test_without_a_key_in_the_environment_there_is_no_guard(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(KeyError, match=KEY_VARIABLE):
        RequireKey(app)


CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "ping"}}


@pytest.mark.parametrize(
    ("path", "request_", "instead"),
    [
        (CHAT, {"messages": [], "guided_json": {"type": "object"}}, "response_format"),
        ("/v1/completions", {"prompt": "a", "guided_regex": "a+"}, "structured_outputs"),
        ("/invocations", {"messages": [], "guided_choice": ["a"]}, "structured_outputs"),
        (CHAT, {"messages": [], "tools": [TOOL]}, '"tool_choice": "none"'),
        (CHAT, {"messages": [], "tools": [TOOL], "tool_choice": "required"}, '"tool_choice": "none"'),
        ("/invocations", {"messages": [], "tools": [TOOL]}, '"tool_choice": "none"'),
        ("/v1/messages", {"messages": [], "tools": [TOOL], "tool_choice": {"type": "auto"}}, '"tool_choice": "none"'),
        ("/v1/responses", {"input": "a", "tools": [TOOL]}, '"tool_choice": "none"'),
        (CHAT, {"messages": [], "functions": [TOOL["function"]]}, '"tool_choice": "none"'),
    ],
)
def test_what_would_not_be_served_is_refused_with_the_form_that_works(
    path: str, request_: dict[str, Any], instead: str, app: App
) -> None:
    start, body = call(RefuseUnserved(app), path, json.dumps(request_).encode(), chunks=3)
    assert start["status"] == 400
    assert instead in json.loads(body["body"])["error"]["message"]
    assert app.reached == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, json.dumps({"messages": [{"role": "user", "content": '{"guided_json": 1}'}]})),
        (CHAT, json.dumps({"messages": [], "tools": [TOOL], "tool_choice": "none"})),
        (CHAT, json.dumps({"messages": [], "tools": []})),
        (CHAT, json.dumps({"messages": [], "guided_json": None})),
        ("/v1/messages", json.dumps({"messages": [], "tools": [TOOL], "tool_choice": {"type": "none"}})),
        (CHAT, json.dumps({"messages": [], "response_format": {"type": "json_object"}})),
        ("/tokenize", json.dumps({"messages": [], "tools": [TOOL]})),
        (CHAT, '{"guided_json": '),
        (CHAT, '["guided_json"]'),
        (CHAT, '{"guided_json": ' + "[" * 100_000),
        (CHAT, ""),
    ],
)
@pytest.mark.parametrize("chunks", [1, 4])
def test_every_other_request_arrives_as_it_was_sent(path: str, body: str, chunks: int, app: App) -> None:
    assert call(RefuseUnserved(app), path, body.encode(), chunks)[0]["status"] == 200
    assert app.reached == [("http", path, body.encode())]
