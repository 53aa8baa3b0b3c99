"""The client: bounded concurrency, retries, and what a failure becomes. Against a stub server."""

from __future__ import annotations

import gc
import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.endpoint import Stub, answer
from tunelift.engines import client as module
from tunelift.engines.client import Client, Reply, Request
from tunelift.engines.dialect import Dialect
from tunelift.errors import MachineError
from tunelift.runtime.stopping import Stopped
from tunelift.tasks.scorers.tool_calls import parse_calls
from tunelift.tasks.task import DECODING


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF_SECONDS", (0.005, 0.01))


def ask(url: str, questions: list[str], **options: Any) -> dict[str, Reply]:
    settings = {"concurrency": 4, "timeout_seconds": 5, "decoding": {"temperature": 0.0}, "seed": 17, **options}
    replies: list[Reply] = []
    requests = [Request(question, [{"role": "user", "content": question}], 9) for question in questions]
    Client(url, "m", **settings).generate(requests, replies.append)
    assert sorted(reply.id for reply in replies) == sorted(questions), "one reply a request"
    return {reply.id: reply for reply in replies}


def test_every_request_is_asked_once_greedily_and_answered(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (200, answer(body["messages"][-1]["content"].upper())))
    replies = ask(server.url, [f"q{n}" for n in range(20)])
    assert replies["q3"].text == "Q3"
    assert (replies["q3"].tokens_in, replies["q3"].tokens_out, replies["q3"].finish_reason) == (7, 2, "stop")
    assert replies["q3"].error is None
    assert replies["q3"].seconds > 0
    assert set(server.tries.values()) == {1}
    assert all(
        (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("m", 9, 0.0, 17)
        for body in server.bodies
    )


def test_no_more_requests_are_in_flight_than_allowed(stub: Callable[..., Stub]) -> None:
    def slow(body: dict[str, Any], number: int) -> tuple[int, Any]:
        time.sleep(0.03)
        return 200, answer("x")

    server = stub(slow)
    ask(server.url, [f"q{n}" for n in range(20)], concurrency=3)
    assert server.most_busy == 3


def test_replies_are_handed_on_as_they_come(stub: Callable[..., Stub]) -> None:
    release = threading.Event()

    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if body["messages"][-1]["content"] == "slow":
            release.wait(5)
        return 200, answer("x")

    order: list[str] = []

    def on_reply(reply: Reply) -> None:
        order.append(reply.id)
        release.set()

    requests = [Request(name, [{"role": "user", "content": name}], 9) for name in ("slow", "fast")]
    Client(stub(respond).url, "m", concurrency=2, timeout_seconds=9, decoding={}, seed=1).generate(requests, on_reply)
    assert order == ["fast", "slow"]


@pytest.mark.parametrize("failure", [(500, {}), (503, {}), (429, {}), (200, b"no json"), (200, {"choices": []})])
def test_a_passing_failure_is_tried_again(stub: Callable[..., Stub], failure: tuple[int, Any]) -> None:
    server = stub(lambda body, number: failure if number < 3 else (200, answer("late")))
    reply = ask(server.url, ["q"])["q"]
    assert (reply.text, reply.error, server.tries["q"]) == ("late", None, 3)


def test_a_lasting_failure_becomes_a_reply_with_an_error_and_harms_no_other(stub: Callable[..., Stub]) -> None:
    server = stub(
        lambda body, number: (
            (500, {"why": "broken"}) if body["messages"][-1]["content"] == "bad" else (200, answer("x"))
        )
    )
    replies = ask(server.url, ["a", "bad", "b"])
    assert server.tries["bad"] == 3
    assert (replies["bad"].text, replies["bad"].error) == ("", 'HTTP 500: {"why": "broken"}')
    assert replies["a"].error is None
    assert replies["b"].error is None


def test_a_refused_request_is_not_asked_again(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (400, {"message": "too long " + "x" * 9000}))
    reply = ask(server.url, ["q"])["q"]
    assert server.tries["q"] == 1
    assert reply.error is not None
    assert reply.error.startswith("HTTP 400")
    assert len(reply.error) < 600


def test_a_request_that_takes_too_long_is_given_up(stub: Callable[..., Stub]) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        time.sleep(0.3)
        return 200, answer("x")

    reply = ask(stub(respond).url, ["q"], timeout_seconds=0.05)["q"]
    assert reply.error is not None
    assert "Timeout" in reply.error


def test_an_endpoint_that_is_gone_ends_the_whole(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (200, answer("x")))
    server.close()
    with pytest.raises(MachineError, match="the engine has ended"):
        ask(server.url, ["a", "b", "c"])


def test_an_error_while_keeping_a_reply_ends_the_whole(stub: Callable[..., Stub]) -> None:
    def full(reply: Reply) -> None:
        raise OSError(28, "No space left on device")

    server = stub(lambda body, number: (200, answer("x")))
    requests = [Request(str(n), [{"role": "user", "content": str(n)}], 9) for n in range(50)]
    with pytest.raises(OSError, match="No space"):
        Client(server.url, "m", concurrency=2, timeout_seconds=5, decoding={}, seed=1).generate(requests, full)
    assert len(server.bodies) < 10


def test_proxies_of_the_environment_do_not_stand_between_this_machine_and_itself(
    stub: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(stub(lambda body, number: (200, answer("x"))).url, ["q"])["q"].text == "x"


def test_tools_are_rendered_but_not_called_and_the_key_travels_in_a_header(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (200, answer("x")))
    request = Request("q", [{"role": "user", "content": "q"}], 9, tools=[{"type": "function"}])
    client = Client(server.url, "m", concurrency=1, timeout_seconds=5, decoding={}, seed=1, api_key="secret")
    client.generate([request], lambda reply: None)
    assert (server.bodies[0]["tools"], server.bodies[0]["tool_choice"]) == ([{"type": "function"}], "none")
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_earlier_calls_and_bare_tools_are_sent_as_openai_wants_them(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (200, answer("x")))
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
    ]
    client = Client(server.url, "m", concurrency=1, timeout_seconds=5, decoding={}, seed=1)
    client.generate([Request("q", messages, 9, tools=[{"name": "weather"}])], lambda reply: None)
    (body,) = server.bodies
    function = {"name": "weather", "arguments": '{"city": "Köln"}'}
    assert body["messages"][1]["tool_calls"] == [{"id": "call00001", "type": "function", "function": function}]
    assert body["messages"][2] == {"role": "tool", "content": "rain", "tool_call_id": "call00001"}
    assert body["tools"][0]["function"]["name"] == "weather"


def test_text_that_cannot_be_written_to_a_file_is_made_writable(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (200, json.dumps(answer("a\ud800b")).encode()))
    assert ask(server.url, ["q"])["q"].text == "a?b"


def test_a_stop_amid_the_replies_ends_the_whole_without_a_traceback(
    stub: Callable[..., Stub], caplog: pytest.LogCaptureFixture
) -> None:
    def stop(reply: Reply) -> None:
        raise Stopped(signal.SIGINT)

    server = stub(lambda body, number: (200, answer("x")))
    requests = [Request(str(n), [{"role": "user", "content": str(n)}], 9) for n in range(10)]
    client = Client(server.url, "m", concurrency=4, timeout_seconds=5, decoding={}, seed=1)
    with pytest.raises(Stopped):
        client.generate(requests, stop)
    gc.collect()  # Only then asyncio tells of a task whose end nobody asked for.
    assert caplog.text == ""


SCHEMA = {"type": "object", "properties": {"mark": {"type": "integer"}}, "required": ["mark"]}


def test_a_schema_asks_for_structured_output(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (200, answer('{"mark": 3}')))
    request = Request("q", [{"role": "user", "content": "q"}], 9, schema=SCHEMA)
    Client(server.url, "m", concurrency=1, timeout_seconds=5, decoding={}, seed=1).generate([request], lambda _: None)
    assert server.bodies[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert "tools" not in server.bodies[0]


def called(*functions: tuple[str, str], content: str | None = None) -> dict[str, Any]:
    calls = [{"type": "function", "function": {"name": name, "arguments": text}} for name, text in functions]
    return {"choices": [{"message": {"content": content, "tool_calls": calls}, "finish_reason": "tool_calls"}]}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (called(("a", '{"x": "ü"}')), '{"name": "a", "arguments": {"x": "ü"}}'),
        (
            called(("a", "{}"), ("b", '{"y": [1]}')),
            '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"y": [1]}}]',
        ),
        (called(("a", "{broken")), '{"name": "a", "arguments": "{broken"}'),
        (called(("a", "{}"), content="I call a."), '{"name": "a", "arguments": {}}'),
        (called(("a", "{}"), content=" \n"), '{"name": "a", "arguments": {}}'),
        (called(content="said"), "said"),
        ({"choices": [{"message": {"content": None}}]}, ""),
    ],
)
def test_native_tool_calls_become_json_text(stub: Callable[..., Stub], message: dict[str, Any], text: str) -> None:
    reply = ask(stub(lambda body, number: (200, message)).url, ["q"])["q"]
    assert (reply.text, reply.error) == (text, None)


def test_arguments_nested_too_deep_are_a_wrong_answer_and_end_nothing(stub: Callable[..., Stub]) -> None:
    """At every depth, since reading them and writing the answer do not find the same depth too deep."""
    deep = {str(depth): "[" * depth + "]" * depth for depth in (50, *range(900, 1000), 3000)}
    deep["open"] = "[" * 3000

    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return 200, called(("a", deep[body["messages"][0]["content"]]), ("b", "{}"))

    replies = ask(stub(respond).url, list(deep))
    assert {reply.error for reply in replies.values()} == {None}
    assert replies["50"].text.startswith('[{"name": "a", "arguments": [[')
    assert replies["open"].text == json.dumps(
        [{"name": "a", "arguments": deep["open"]}, {"name": "b", "arguments": {}}]
    )
    assert all(parse_calls(reply.text) is None for reply in replies.values())


def test_an_answer_nested_too_deep_to_be_read_is_a_failure_like_any_other(stub: Callable[..., Stub]) -> None:
    reply = ask(stub(lambda body, number: (200, b"[" * 3000)).url, ["q"])["q"]
    assert (reply.error or "").startswith("RecursionError")


def test_what_an_endpoint_does_not_take_is_learned_once_and_told(
    stub: Callable[..., Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    """As OpenAI's reasoning models complain."""

    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if "max_tokens" in body:
            return 400, {
                "error": {"message": "'max_tokens' is not supported with this model. Use 'max_completion_tokens'."}
            }
        if "temperature" in body:
            return 400, {"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model."}}
        return 200, answer("x")

    server, dialect = stub(respond), Dialect()
    replies = ask(server.url, [f"q{n}" for n in range(9)], dialect=dialect)
    assert all(reply.error is None for reply in replies.values())
    assert dialect.substituted == {"max_tokens", "temperature"}
    assert (server.bodies[-1]["max_completion_tokens"], server.bodies[-1]["seed"]) == (9, 17)
    assert capsys.readouterr().err.count("warning:") == 2
    asked = len(server.bodies)
    ask(server.url, ["again"], dialect=dialect)
    assert len(server.bodies) == asked + 1, "what one client learned, the next one knows"


@pytest.mark.parametrize(
    "complaint",
    [
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        "top_p is not supported together with temperature",
        "temperature and top_p are mutually exclusive",
    ],
)
def test_where_two_parameters_exclude_each_other_decoding_stays_greedy(
    stub: Callable[..., Stub], complaint: str
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        both = "temperature" in body and "top_p" in body
        return (400, {"error": {"message": complaint}}) if both else (200, answer("x"))

    server, dialect = stub(respond), Dialect()
    assert ask(server.url, ["q"], decoding=DECODING, dialect=dialect)["q"].error is None
    assert dialect.substituted == {"top_p"}
    assert server.bodies[-1]["temperature"] == 0


def test_an_endpoint_that_takes_neither_of_two_parameters_is_asked_without_both(
    stub: Callable[..., Stub],
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        refused = [name for name in ("temperature", "top_p") if name in body]
        return (400, {"error": f"Unsupported parameters: {refused}"}) if refused else (200, answer("x"))

    dialect = Dialect()
    assert ask(stub(respond).url, ["q"], decoding=DECODING, dialect=dialect)["q"].error is None
    assert dialect.substituted == {"temperature", "top_p"}


def test_tools_go_into_the_prompt_where_native_calls_are_not_offered(stub: Callable[..., Stub]) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if body["tool_choice"] == "auto":
            return 400, b'"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        return 200, answer("x")

    server = stub(respond)
    request = Request("q", [{"role": "user", "content": "q"}], 9, tools=[{"type": "function"}])
    replies: list[Reply] = []
    client = Client(
        server.url, "m", concurrency=1, timeout_seconds=5, decoding={}, seed=1, tool_choice="auto", dialect=Dialect()
    )
    client.generate([request, request], replies.append)
    assert [reply.text for reply in replies] == ["x", "x"]
    assert [body["tool_choice"] for body in server.bodies] == ["auto", "none", "none"]


def test_a_prompt_that_is_too_long_is_refused_and_nothing_learned(stub: Callable[..., Stub]) -> None:
    dialect = Dialect()
    complaint = "'max_tokens' or 'max_completion_tokens' is too large: 9. Your request has 510 tokens (9 > 512 - 510)."
    reply = ask(stub(lambda body, number: (400, complaint.encode())).url, ["q"], dialect=dialect)["q"]
    assert reply.error is not None
    assert "too large" in reply.error
    assert dialect.substituted == set()


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ({"prompt_tokens": 5, "completion_tokens": None}, (5, None)),
        ({"prompt_tokens": 5, "completion_tokens": 0}, (5, 0)),
    ],
)
def test_tokens_that_the_endpoint_does_not_tell_are_unknown_and_not_none(
    stub: Callable[..., Stub], usage: Any, counted: tuple[int | None, int | None]
) -> None:
    server = stub(lambda body, number: (200, {**answer("x"), "usage": usage}))
    reply = ask(server.url, ["q"])["q"]
    assert (reply.tokens_in, reply.tokens_out, reply.error) == (*counted, None)
