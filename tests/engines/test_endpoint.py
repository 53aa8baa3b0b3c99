"""An endpoint of somebody else's: found, let in, and asked; or one clear message before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.endpoint import Stub, answer
from tunelift.config.evaluation import EndpointConfig
from tunelift.engines import endpoint as module
from tunelift.engines.client import Reply, Request
from tunelift.engines.endpoint import Endpoint
from tunelift.engines.protocol import Engine
from tunelift.errors import MachineError, UserError


def test_it_answers_like_any_engine_with_its_key(stub: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", " secret\n")
    server = stub(models=("other", "m"), key="secret")
    config = EndpointConfig(url=server.url + "/", model="m", api_key_env="JUDGE_KEY", requests_per_minute=6000)
    replies: list[Reply] = []
    with Endpoint(config) as made:
        engine: Engine = made
        engine.start()
        client = engine.client(concurrency=2, timeout_seconds=5, decoding={"temperature": 0.0}, seed=3)
        client.generate([Request("q", [{"role": "user", "content": "q"}], 9, tools=[{}])], replies.append)
        engine.check()
    assert replies[0].text == "x"
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert (server.bodies[0]["model"], server.bodies[0]["seed"], server.bodies[0]["tool_choice"]) == ("m", 3, "auto")
    assert (engine.url, engine.requests_per_minute) == (server.url, 6000)
    assert engine.description == {"kind": "endpoint", "url": server.url, "model": "m", "substituted": []}


def message(config: EndpointConfig) -> str:
    with pytest.raises(UserError) as caught:
        Endpoint(config).start()
    return str(caught.value)


def test_a_missing_key_is_told_before_anything_is_asked(
    stub: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    config = EndpointConfig(url=stub().url, model="m", api_key_env="JUDGE_KEY")
    assert "JUDGE_KEY" in message(config)
    with pytest.raises(UserError, match="is not set"):
        module.read_key(config)


def test_a_wrong_key_names_the_variable_and_not_the_key(
    stub: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-wrong")
    server = stub(key="secret")
    said = message(EndpointConfig(url=server.url, model="m", api_key_env="JUDGE_KEY"))
    assert "the API key in JUDGE_KEY (HTTP 401)" in said
    assert "sk-wrong" not in said
    assert "api_key_env" in message(EndpointConfig(url=server.url, model="m"))


@pytest.mark.parametrize(
    "key", ["# my key\nsk-SECRET", "sk-SECRET key", "sk-SECRE\u0422", "\u201csk-SECRET\u201d", "sk\x7fSECRET"]
)
def test_a_key_that_no_header_can_carry_is_told_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    said = message(EndpointConfig(url="http://127.0.0.1:9/v1", model="m", api_key_env="JUDGE_KEY"))
    assert "JUDGE_KEY" in said
    assert "holds what no key has" in said
    assert "SECRE" not in said


def test_whatever_the_transport_says_the_key_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    def fail(self: httpx.Client, url: str) -> httpx.Response:
        raise httpx.LocalProtocolError(f"Illegal header value {self.headers['Authorization']!r}")

    monkeypatch.setattr(httpx.Client, "get", fail)
    monkeypatch.setenv("JUDGE_KEY", "sk-SECRET")
    said = message(EndpointConfig(url="http://127.0.0.1:9/v1", model="m", api_key_env="JUDGE_KEY"))
    assert "Bearer ***" in said
    assert "SECRET" not in said


@pytest.mark.parametrize("host", ["xn--", "ä..b"])
def test_a_host_that_cannot_be_a_name_is_told(host: str) -> None:
    assert f"Nothing answers at http://{host}/v1" in message(EndpointConfig(url=f"http://{host}/v1", model="m"))


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (404, "The model `qwen3-8b` does not exist."),
        (404, "nothing here"),
        (400, "/chat/completions: Invalid model name passed in model=qwen3-8b. Call `/v1/models` to view them."),
        (400, "qwen3-8b is not a valid model ID"),
        (400, "Model Not Exist"),
        (422, "model 'qwen3-8b' not found"),
        (403, "Project `p` does not have access to model `qwen3-8b`"),
    ],
)
def test_a_model_that_is_not_served_names_the_near_ones(stub: Callable[..., Stub], status: int, complaint: str) -> None:
    server = stub(
        lambda body, number: (status, {"error": complaint}), models=("qwen3-8b-instruct", "mixtral", "models/gem-2")
    )
    said = message(EndpointConfig(url=server.url, model="qwen3-8b"))
    assert f"serves no model qwen3-8b (HTTP {status}: " in said
    assert "such as qwen3-8b-instruct" in said
    assert len(server.bodies) == 1
    Endpoint(EndpointConfig(url=server.url, model="gem-2")).start()
    assert len(server.bodies) == 1, "a name that is listed costs no request"


def test_a_list_of_models_may_come_bare(stub: Callable[..., Stub]) -> None:
    server = stub(listing=[{"id": "org/m"}])
    Endpoint(EndpointConfig(url=server.url, model="org/m")).start()
    assert server.bodies == []


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (200, ""),
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."),
        (400, "Could not finish the message because max_tokens or model output limit was reached."),
        (429, "insufficient_quota"),
    ],
)
def test_a_model_that_is_served_and_not_listed_is_asked_for_as_it_is(
    stub: Callable[..., Stub], capsys: pytest.CaptureFixture[str], status: int, complaint: str
) -> None:
    """As a deployment's name, an alias, a wildcard, and a name on a further page of the list are."""
    server = stub(
        lambda body, number: (status, {"error": complaint} if complaint else answer("x")),
        listing={"data": [{"id": "openai/*"}], "has_more": True},
    )
    engine = Endpoint(EndpointConfig(url=server.url, model="openai/large"))
    engine.start()
    engine.start()
    assert capsys.readouterr().err.count("does not list openai/large, which is asked for as it is") == 1
    assert (server.bodies[0]["model"], server.bodies[0]["max_tokens"]) == ("openai/large", 1)
    assert len(server.bodies) == 1 + ("max_completion_tokens" in complaint), "one tiny request, as it takes it"


def test_a_url_without_its_end_is_told(stub: Callable[..., Stub]) -> None:
    server = stub()
    said = message(EndpointConfig(url=server.url.removesuffix("/v1"), model="m"))
    assert f"Set url to {server.url}." in said


def test_what_does_not_answer_is_told(stub: Callable[..., Stub]) -> None:
    server = stub()
    server.close()
    assert "Nothing answers at" in message(EndpointConfig(url=server.url, model="m"))


def test_an_endpoint_that_lists_no_models_is_taken_at_its_word(
    stub: Callable[..., Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    Endpoint(EndpointConfig(url=stub().url + "/else/v1", model="m")).start()
    assert "does not list its models" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "content", "kind"), [(500, {}, MachineError), (200, b"<html>", UserError)])
def test_a_strange_answer_is_told(
    status: int, content: Any, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=content if isinstance(content, bytes) else b"{}")

    real = httpx.Client

    def client(**options: Any) -> httpx.Client:
        return real(**{**options, "proxy": None, "transport": httpx.MockTransport(respond)})

    monkeypatch.setattr(httpx, "Client", client)
    with pytest.raises(kind):
        Endpoint(EndpointConfig(url="https://api.example.com/v1", model="m")).start()


def test_a_key_over_plain_http_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    engine = Endpoint(EndpointConfig(url="http://api.example.com/v1", model="m", api_key_env="JUDGE_KEY"))
    monkeypatch.setattr(engine, "_served", lambda key: ["m"])
    engine.start()
    engine.start()
    assert capsys.readouterr().err.count("travels unencrypted") == 1
