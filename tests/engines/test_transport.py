"""The transport: how it waits, how fast it goes, and what it keeps to itself. Against a stub server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.endpoint import Stub, answer
from tunelift.engines import client as client_module
from tunelift.engines import transport as module
from tunelift.engines.client import Client, Reply, Request
from tunelift.engines.transport import Pace, is_local, masked, proxy_for, retry_after
from tunelift.errors import UserError


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACK_OFF_SECONDS", (0.005, 0.01))


def ask(url: str, count: int, **options: Any) -> list[Reply]:
    replies: list[Reply] = []
    requests = [Request(str(n), [{"role": "user", "content": str(n)}], 9) for n in range(count)]
    settings = {"concurrency": 8, "timeout_seconds": 5, "decoding": {}, "seed": 1, **options}
    Client(url, "m", **settings).generate(requests, replies.append)
    assert len(replies) == count
    return replies


def test_a_busy_endpoint_slows_everybody_down_and_no_request_is_lost(stub: Callable[..., Stub]) -> None:
    """One that takes two at a time, and sends all others away."""
    server: Stub

    def respond(body: dict[str, Any], number: int) -> tuple[Any, ...]:
        if server.busy > 2:
            return 429, {"error": "slow down"}, {"Retry-After": "0.02"}
        time.sleep(0.02)
        return 200, answer("x")

    server = stub(respond)
    replies = ask(server.url, 60, concurrency=16)
    assert [reply.error for reply in replies if reply.error] == []
    sent_away = len(server.bodies) - 60
    assert 1 <= sent_away <= 60, f"{sent_away} of {len(server.bodies)} tries sent away"


def test_an_endpoint_that_stays_busy_ends_in_an_error(
    stub: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_TRIES", 4)
    server = stub(lambda body, number: (429, {"error": "busy"}))
    reply = ask(server.url, 1)[0]
    assert reply.error == 'HTTP 429: {"error": "busy"}'
    assert len(server.bodies) == 4


def test_spent_money_is_not_waited_for(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (429, {"error": {"code": "insufficient_quota"}}))
    assert "insufficient_quota" in (ask(server.url, 1)[0].error or "")
    assert len(server.bodies) == 1


def test_the_wait_that_the_endpoint_asks_for_is_kept(stub: Callable[..., Stub]) -> None:
    times: list[float] = []

    def respond(body: dict[str, Any], number: int) -> tuple[Any, ...]:
        times.append(time.monotonic())
        return (503, {}, {"Retry-After": "0.3"}) if len(times) == 1 else (200, answer("x"))

    assert ask(stub(respond).url, 1)[0].error is None
    assert 0.3 <= times[1] - times[0] < 1, f"waited {times[1] - times[0]:.3f} s"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("-4", 0.0), ("1e9", 60.0), ("nan", None), ("soon", None)],
)
def test_retry_after_is_read_and_capped(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=20)
    assert retry_after(format_datetime(moment, usegmt=True)) == pytest.approx(20, abs=2)


def test_tries_are_spread_so_that_they_stay_below_the_rate(stub: Callable[..., Stub]) -> None:
    times: list[float] = []

    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        times.append(time.monotonic())
        return 200, answer("x")

    ask(stub(respond).url, 10, requests_per_minute=1200)
    assert times[-1] - times[0] >= 9 * 0.05 - 0.03, "ten tries at 20 a second take 0.45 s"
    # Loose, since a loaded machine may deliver two at once; all ten at once would be a burst.
    assert max(sum(1 for other in times if 0 <= other - time_ < 0.1) for time_ in times) <= 6


def test_after_a_pause_there_is_no_burst() -> None:
    async def run() -> list[float]:
        pace, times = Pace(10, 60 / 0.02), []

        async def one() -> None:
            async with pace:
                times.append(time.monotonic())

        pace.slow_down(0.2)
        started = time.monotonic()
        await asyncio.gather(*(one() for _ in range(10)))
        return [moment - started for moment in times]

    times = asyncio.run(run())
    assert times[0] >= 0.19
    assert times[-1] - times[0] >= 9 * 0.02 - 0.005


def test_trouble_halves_what_is_in_flight_once_a_burst_and_success_restores_it() -> None:
    async def run() -> list[int]:
        pace, seen = Pace(8, None), []
        for _ in range(5):
            pace.slow_down(0.05)  # Five refusals of one burst.
        most = busy = 0

        async def one() -> None:
            nonlocal most, busy
            async with pace:
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(0.005)
                busy -= 1

        await asyncio.gather(*(one() for _ in range(12)))
        seen.append(most)
        for _ in range(40):
            pace.speed_up()
        most = 0
        await asyncio.gather(*(one() for _ in range(12)))
        return [*seen, most]

    assert asyncio.run(run()) == [4, 8]


def test_the_key_shows_up_nowhere_but_in_the_header(stub: Callable[..., Stub]) -> None:
    server = stub(lambda body, number: (400, {"error": f"Incorrect API key: {server.headers[0]['Authorization']}"}))
    reply = ask(server.url, 1, api_key="sk-verysecret")[0]
    assert server.headers[0]["Authorization"] == "Bearer sk-verysecret"
    assert reply.error == 'HTTP 400: {"error": "Incorrect API key: Bearer ***"}'
    assert "verysecret" not in str(server.bodies)


def test_a_redirect_is_not_followed_with_the_key(stub: Callable[..., Stub]) -> None:
    other = stub(lambda body, number: (200, answer("x")))
    server = stub(lambda body, number: (307, {}, {"Location": other.url + "/chat/completions"}))
    assert "HTTP 307" in (ask(server.url, 1, api_key="secret")[0].error or "")
    assert other.bodies == []


def test_proxies_are_for_the_world_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("https://api.example.com/v1") is None
    monkeypatch.setenv("https_proxy", "proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", "inside.example.com")
    assert proxy_for("https://api.example.com/v1") == "http://proxy.example.com:3128"
    assert proxy_for("https://inside.example.com/v1") is None
    assert proxy_for("https://localhost:1/v1") is None
    monkeypatch.setenv("https_proxy", "socks5://proxy.example.com:1080")
    with pytest.raises(UserError, match="socks5"):
        proxy_for("https://api.example.com/v1")


def test_the_password_of_a_proxy_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://user:hunter2@127.0.0.1:{server.server_port}")
        reply = ask("https://api.example.com/v1", 1)[0]
        server.shutdown()
    assert asked[0] == "api.example.com:443"
    assert "407" in str(reply.error)
    assert f"http://***@127.0.0.1:{server.server_port}" in str(reply.error)
    assert "hunter2" not in str(reply.error)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://user:p@ss@proxy:1/x, as sk-1 said", "at http://***@proxy:1/x, as *** said"),
        ('{"url":"https://a/b","by":"me@c"}', '{"url":"https://a/b","by":"me@c"}'),
        ("https://token@a and ftp://u:p@b", "https://***@a and ftp://***@b"),
    ],
)
def test_what_is_shown_holds_no_key_and_nobodys_password(text: str, shown: str) -> None:
    assert masked(text, "sk-1") == shown


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.0.0.1/v1", False),
        ("https://localhost.example.com/v1", False),
    ],
)
def test_only_this_machine_is_local(url: str, local: bool) -> None:
    assert is_local(url) is local
