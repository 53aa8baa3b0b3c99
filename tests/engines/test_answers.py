"""What endpoints send as an answer, in all its shapes: text, thinking, calls, an answer withheld, an error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.endpoint import Stub
from tests.tasks.scorers.making import one
from tunelift.config.evaluation import EndpointConfig
from tunelift.engines import client as module
from tunelift.engines.answers import Reply, UnusableError, read_reply, refuse_errors
from tunelift.engines.client import Client, Request
from tunelift.engines.endpoint import Endpoint
from tunelift.engines.transport import REFUSED
from tunelift.engines.withheld import WITHHELD


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF_SECONDS", (0.001, 0.001))


def ask(stub: Stub) -> Reply:
    replies: list[Reply] = []
    client = Client(stub.url, "m", concurrency=1, timeout_seconds=5, decoding={}, seed=1, tool_choice="auto")
    client.generate([Request("q", [{"role": "user", "content": "q"}], 9)], replies.append)
    return replies[0]


def said(message: Any, finish: str | None = "stop", **choice: Any) -> dict[str, Any]:
    choices = [{"index": 0, "message": message, "finish_reason": finish, **choice}]
    return {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


def read(message: Any, finish: str | None = "stop", **choice: Any) -> Reply:
    return read_reply("q", refuse_errors(said(message, finish, **choice)), 0.1)


# --- errors with HTTP 200 -------------------------------------------------------------------------------------------

ERRORS = [
    (
        {"error": {"message": "Provider returned error", "code": 502}, "user_id": "u"},
        "HTTP 502 .*Provider returned error",
    ),
    (
        {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "GPU lost"}}},
        "error .GPU lost.",
    ),
    ({"error": "model is loading"}, "HTTP 200: model is loading"),
    ([{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}], "HTTP 503 .*overloaded"),
    (
        {"object": "error", "message": "engine died", "type": "InternalServerError", "code": 500},
        "HTTP 500 .*engine died",
    ),
    ({"errors": [{"message": "gateway is tired"}]}, "gateway is tired"),
    ({"detail": "litellm.APIError: upstream"}, "no choices: litellm.APIError: upstream"),
    (said(None) | {"choices": []}, "the answer has no choices"),
    (said(None) | {"choices": None}, "the answer has no choices"),
    ({"choices": [None]}, "the answer has no choices"),
    (said(None), "the answer holds no message"),
    ({"choices": [{"finish_reason": "stop"}]}, "the answer holds no message"),
    (
        said({"content": "half a te"}, "error", error={"code": 502, "message": "upstream went away"}),
        "upstream went away",
    ),
    (said({"content": "half a te"}, "error"), "broke the answer off .finish_reason error"),
    (said({"content": "half a te"}, "insufficient_system_resource"), "finish_reason insufficient_system_resource"),
    (said({"content": "half a te"}, "abort"), "finish_reason abort"),
    (said({"content": "half a te"}) | {"error": {"message": "stream cut"}}, "stream cut"),
    (["nothing"], "no JSON object"),
    ("nothing", "no JSON object"),
    (b"<html>Bad gateway</html>", "cannot be read: <html>Bad gateway</html>"),
    (b"", "cannot be read: it is empty"),
]


@pytest.mark.parametrize(("content", "words"), ERRORS)
def test_an_error_with_http_200_is_a_failure_with_the_endpoints_own_words(
    stub: Callable[..., Stub], content: Any, words: str
) -> None:
    server = stub(lambda body, number: (200, content))
    reply = ask(server)
    assert reply.text == ""
    assert reply.error is not None
    assert re.search(words, reply.error)
    assert not any(name in reply.error for name in ("KeyError", "TypeError", "AttributeError", "IndexError"))
    assert not REFUSED.match(reply.error) and not WITHHELD.match(reply.error), "no answer of the arm's"
    assert server.tries["q"] == 3


def test_an_error_with_http_200_that_passes_is_asked_again(stub: Callable[..., Stub]) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return 200, {"error": {"message": "upstream", "code": "502"}} if number < 3 else said({"content": "late"})

    assert ask(stub(respond)).text == "late"


def test_an_error_with_http_200_is_as_good_as_the_status_that_it_names(stub: Callable[..., Stub]) -> None:
    def busy(body: dict[str, Any], number: int) -> tuple[int, Any]:
        error = {"message": "slow down", "type": "rate_limit_error"}
        return 200, {"error": error} if number < 5 else said({"content": "late"})

    assert ask(stub(busy)).text == "late", "as a 429, which says nothing about the request"
    server = stub(lambda body, number: (200, {"error": {"message": "prompt too long", "code": 400}}))
    assert REFUSED.match(ask(server).error or "")
    assert server.tries["q"] == 1
    locked = stub(lambda body, number: (200, {"error": {"message": "no credit", "code": 402}}))
    assert (ask(locked).error or "").startswith("HTTP 402")
    assert locked.tries["q"] == 1


@pytest.mark.parametrize(
    "empty",
    [None, {}, "", [], 0, False, "none", {"code": 0, "message": ""}, {"code": None, "message": None}, {"code": "ok"}],
)
def test_an_error_that_is_none_is_no_error(empty: Any) -> None:
    assert read_reply("q", refuse_errors(said({"content": "late"}) | {"error": empty}), 0.1).text == "late"


# --- withheld -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"content": ""}, "content_filter"),
        ({"content": "half a te"}, "content_filter"),
        ({"content": None}, "content-filter"),
        (None, "content_filter"),
        ({"content": ""}, "content_filter: SAFETY"),
        ({"content": ""}, "FinishReason.SAFETY"),
        ({"content": ""}, "IMAGE_SAFETY"),
        ({"content": ""}, "FinishReason.PROHIBITED_CONTENT"),
        ({"content": ""}, "finish_reason_recitation"),
        ({"content": ""}, "BLOCKLIST"),
        ({"content": ""}, "SPII"),
        ({"content": ""}, "sensitive"),
        ({"content": ""}, "refusal"),
        ({"content": ""}, "ERROR_TOXIC"),
        ({"content": None}, "SAFETY"),
        ({"content": None}, "guardrail_intervened"),
        ({"content": None, "refusal": "I can't help with that."}, "stop"),
        ({"content": "I can't help with that.", "refusal": "I can't help with that."}, "stop"),
        ({"content": [{"type": "refusal", "refusal": "I can't help with that."}]}, "stop"),
    ],
)
def test_what_a_filter_or_the_model_withholds_is_no_answer_and_not_asked_again(
    stub: Callable[..., Stub], message: Any, finish: str
) -> None:
    server = stub(lambda body, number: (200, said(message, finish)))
    reply = ask(server)
    assert WITHHELD.match(reply.error or "")
    assert (reply.text, server.tries["q"]) == ("", 1)
    if "refusal" in str(message):
        assert "I can't help with that." in (reply.error or "")


def test_a_prompt_that_a_filter_refuses_is_withheld_whatever_the_status(stub: Callable[..., Stub]) -> None:
    error = {"code": "content_filter", "message": "The response was filtered due to the prompt."}
    assert WITHHELD.match(ask(stub(lambda body, number: (400, {"error": error}))).error or "")
    moderated = {"error": {"code": 403, "message": "Your input was flagged: it requires moderation"}}
    assert WITHHELD.match(ask(stub(lambda body, number: (200, moderated))).error or "")
    assert not WITHHELD.match(ask(stub(lambda body, number: (403, {"error": "no such key"}))).error or "")


FILTER = {"message": "Response blocked due to content filtering", "code": "content_filter"}
NOTES = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}]
FILTERED = [
    (200, {"error": FILTER}),
    (500, {"error": FILTER}),
    (503, {"error": FILTER | {"type": "internal_server_error"}}),
    (429, {"error": FILTER}),
    (200, {"error": FILTER | {"code": 500}}),
    (500, {"error": {"message": "Bad prompt", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    (500, {"error": {"message": "litellm.ContentPolicyViolationError: flagged", "code": "500"}}),
    (502, b"Blocked by the guardrail"),
    (200, {"detail": "blocked by content_filter"}),
    (200, {"choices": [], "prompt_filter_results": NOTES}),
    (200, {"choices": None, "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
    (200, said({"content": ""}, content_filter_results=NOTES[0]["content_filter_results"])),
    (200, said({"content": None}, "content_filter", error=FILTER)),
    (200, said({"content": None}, "error", error=FILTER)),
    (200, said({"content": None}, "stop", native_finish_reason="SAFETY")),
]


@pytest.mark.parametrize(("status", "content"), FILTERED)
def test_a_filter_is_heard_in_whatever_form_it_speaks_and_asked_once(
    stub: Callable[..., Stub], status: int, content: Any
) -> None:
    server = stub(lambda body, number: (status, content))
    assert WITHHELD.match(ask(server).error or "")
    assert server.tries["q"] == 1


UNFILTERED = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, {"error": {"message": "The content filter service is unavailable", "code": "server_error"}}),
        (500, {"error": {"message": "engine died"}, "request": "what is content moderation?"}),
        (200, {"error": {"message": "moderation timed out", "code": 504}}),
        (200, {"choices": [], "prompt_filter_results": UNFILTERED}),
        (200, said(None, content_filter_results=UNFILTERED[0]["content_filter_results"])),
        *(
            (200, said({"content": "half"}, reason))
            for reason in ("connection_error", "engine_error", "unload", "FinishReason.ABORT", "content_filter_error")
        ),
    ],
)
def test_a_filter_or_an_endpoint_that_fails_is_asked_again(
    stub: Callable[..., Stub], status: int, content: Any
) -> None:
    server = stub(lambda body, number: (status, content))
    error = ask(server).error
    assert error and not WITHHELD.match(error) and not REFUSED.match(error)
    assert server.tries["q"] == 3


@pytest.mark.parametrize(
    ("reason", "read_as"),
    [
        *((one, "length") for one in ("length", "model_length", "FinishReason.MAX_TOKENS", "max_output_tokens")),
        *((one, one) for one in ("stop", "tool_calls", "end_turn", "stop_sequence", "eos_token", None)),
    ],
)
def test_every_spelling_of_the_token_limit_is_length(reason: Any, read_as: Any) -> None:
    reply = read({"content": "late"}, reason)
    assert (reply.finish_reason, reply.text, reply.error) == (read_as, "late", None)


@pytest.mark.parametrize("refusal", [None, "", " "])
def test_a_refusal_that_is_none_is_no_refusal(refusal: Any) -> None:
    assert read({"content": "late", "refusal": refusal}).error is None


# --- text and thinking ----------------------------------------------------------------------------------------------

TEXTS: list[tuple[Any, str, str | None]] = [
    ({"content": "late"}, "late", None),
    ({"content": [{"type": "text", "text": "la"}, {"type": "text", "text": "te"}]}, "late", None),
    ({"content": [{"type": "output_text", "text": "late"}]}, "late", None),
    ({"content": ["la", {"text": "te"}]}, "late", None),
    ({"content": {"type": "text", "text": "late"}}, "late", None),
    ({"content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "late"}]}, "late", None),
    (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "late"},
            ]
        },
        "late",
        "hm",
    ),
    ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "late"}]}, "late", "hm"),
    ({"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "late"}]}, "late", "hm"),
    ({"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "late"}]}, "late", None),
    ({"content": "late", "reasoning_content": "hm"}, "late", "hm"),
    (
        {"content": "late", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        "late",
        "hm",
    ),
    ({"content": "late", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}, "late", "hm"),
    ({"content": "late", "thinking_blocks": [{"type": "thinking", "thinking": "hm"}]}, "late", "hm"),
    ({"content": None, "reasoning_content": "hm, and hm"}, "", "hm, and hm"),
    ({"content": "<think>hm</think>late"}, "<think>hm</think>late", None),
    ({"content": "late", "reasoning_content": ""}, "late", None),
    ({"content": [{"type": "text", "text": {"value": "late"}}]}, "late", None),
    ({"content": [{"type": "text", "text": {"value": "late", "annotations": []}}]}, "late", None),
    ({"content": [{"type": "text", "content": "late"}]}, "late", None),
    ({"content": {"content": [{"text": "late"}]}}, "late", None),
    ({"content": [{"type": "text", "text": None}]}, "", None),
    ({"content": [{"type": "refusal", "refusal": ""}, {"type": "text", "text": "late"}]}, "late", None),
    ({"content": []}, "", None),
    ({}, "", None),
    *(
        ({"content": "late", "tool_calls": empty}, "late", None)
        for empty in ("[]", [None], [{"function": {"name": "", "arguments": ""}}], [{"function": {"arguments": ""}}])
    ),
    ({"content": "late", "function_call": {"name": "", "arguments": ""}}, "late", None),
    ({"content": " ", "function_call": {"name": "", "arguments": ""}}, '{"name": "", "arguments": ""}', None),
]


@pytest.mark.parametrize(("message", "text", "thinking"), TEXTS)
def test_text_and_thinking_are_read_in_every_shape(message: Any, text: str, thinking: str | None) -> None:
    reply = read(message)
    assert (reply.text, reply.thinking, reply.error) == (text, thinking, None)


@pytest.mark.parametrize("content", [5, True, [5], [{"type": "blob", "words": "late"}], {"tool": "open"}])
def test_content_of_unknown_shape_is_no_empty_answer(content: Any) -> None:
    with pytest.raises(UnusableError, match=re.escape(json.dumps(content).strip("[]"))):
        read({"content": content})


@pytest.mark.parametrize(
    "usage", [None, {}, [], *({"prompt_tokens": count} for count in (None, "7", True, -1, math.inf, math.nan))]
)
def test_an_answer_without_usage_is_an_answer(usage: Any) -> None:
    reply = read_reply("q", said({"content": "late"}) | {"usage": usage}, 0.1)
    assert (reply.text, reply.tokens_in) == ("late", None)


# --- calls ----------------------------------------------------------------------------------------------------------


def call(arguments: Any, name: Any = "remind") -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}


USED = {"type": "tool_use", "id": "t", "name": "remind", "input": {"text": "x"}}
"""As Anthropic writes a call."""


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (call('{"text": "x"}'), True),
        (call({"text": "x"}), True),
        ({"content": "", "function_call": {"name": "remind", "arguments": '{"text": "x"}'}}, True),
        ({"content": "<think>hm</think>"} | {"tool_calls": call('{"text": "x"}')["tool_calls"]}, True),
        ({"content": None, "tool_calls": [{"name": "remind", "arguments": {"text": "x"}}]}, True),
        ({"content": [{"type": "text", "text": "Sure."}, USED]}, True),
        ({"content": [USED | {"input": '{"text": "x"}'}]}, True),
        ({"content": [USED], "tool_calls": call('{"text": "x"}')["tool_calls"]}, True),
        ({"content": [USED, USED]}, False),
        (call('{"text": "y", "text": "x"}'), False),
        (call('{"text": "x"} and that is all'), False),
        (call('{"text": "x", "minutes": NaN}'), False),
        (call(json.dumps('{"text": "x"}')), False),
        (call(f" {json.dumps(json.dumps(json.dumps({'text': 'x'})))}"), False),
        (call("text: x"), False),
        (call(None), False),
        (call('{"text": "x"}', name=None), False),
        ({"content": None, "tool_calls": [None]}, False),
    ],
)
def test_native_calls_are_read_as_strictly_as_text(message: Any, right: bool) -> None:
    reply = read(message)
    accepted = {"name": "remind", "arguments": {"text": "x"}}
    assert reply.error is None
    json.loads(reply.text)
    assert one("tool_call", reply.text, accepted) == right
    assert one("exact_match", reply.text, accepted) == right


def test_thinking_beside_calls_is_kept() -> None:
    calls = call("{}")["tool_calls"]
    assert read({"content": "<think>hm</think>", "tool_calls": calls}).thinking == "hm"
    assert read({"content": None, "reasoning_content": "hm", "tool_calls": calls}).thinking == "hm"


def test_an_endpoint_is_checked_whatever_the_shape_of_its_answer(stub: Callable[..., Stub]) -> None:
    """A model that is not in the list is asked for a word."""
    for content in (
        said({"content": [{"type": "text", "text": "Hi"}]}),
        {"error": "busy"},
        said(None, "content_filter"),
    ):
        server = stub(lambda body, number, content=content: (200, content))
        Endpoint(EndpointConfig(url=server.url, model="alias")).start()


def test_an_error_tells_its_status_only_where_it_names_one() -> None:
    for code, status in ((502, 502), ("429", 429), ("server_error", None), (1, None), (True, None), (None, None)):
        with pytest.raises(UnusableError) as caught:
            refuse_errors({"error": {"message": "m", "code": code}})
        assert caught.value.status == status
