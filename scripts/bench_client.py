"""How fast the client asks: many small requests against an endpoint that answers after 50 ms.

    python scripts/bench_client.py [--requests 1000] [--concurrency 100] [--runs 5]

The stub runs in a process of its own. In the same run, alternating, the same requests are sent by a plain
httpx.AsyncClient and, where it is installed, by openai's AsyncOpenAI; the machine's speed cancels out of the ratio.
Prints the median of each, the limit (the time that the stub's waiting alone takes), and the ratios to our client.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tunelift.engines.client import Client, Reply, Request

ANSWER_SECONDS = 0.05
MAX_TOKENS = 128
INSTRUCTION = "Turn the request into one JSON object with the keys `tool` and `arguments`, and write nothing else. " * 4


def serve() -> None:
    """Be the stub; print the port once it listens."""
    from aiohttp import web

    message = {"role": "assistant", "content": '{"tool": "create_event", "arguments": {"title": "Dentist"}}'}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 212, "completion_tokens": 24, "total_tokens": 236}
    head = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": "stub"}
    answer = json.dumps({**head, "choices": [choice], "usage": usage}).encode()

    async def complete(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(ANSWER_SECONDS)
        return web.Response(body=answer, content_type="application/json")

    async def run() -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", complete)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


def questions(count: int) -> list[list[dict[str, Any]]]:
    """Conversations of the size of a real request, about 600 characters."""
    return [
        [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": f"Put dentist in my calendar for tomorrow, half past three. Number {number}."},
        ]
        for number in range(count)
    ]


def by_tunelift(url: str, asked: list[list[dict[str, Any]]], concurrency: int) -> int:
    """The client that evaluation uses."""
    client = Client(
        url, "stub", concurrency=concurrency, timeout_seconds=30, decoding={"temperature": 0.0}, seed=17, api_key="k"
    )
    replies: list[Reply] = []
    client.generate([Request(str(n), messages, MAX_TOKENS) for n, messages in enumerate(asked)], replies.append)
    return sum(reply.error is None and reply.tokens_out == 24 for reply in replies)


def by_httpx(url: str, asked: list[list[dict[str, Any]]], concurrency: int) -> int:
    """As most would write it."""
    import httpx

    async def run() -> int:
        limits = httpx.Limits(max_connections=concurrency)
        async with httpx.AsyncClient(timeout=30, limits=limits, trust_env=False) as connection:

            async def ask(messages: list[dict[str, Any]]) -> bool:
                body = {"model": "stub", "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0, "seed": 17}
                answer = await connection.post(f"{url}/chat/completions", json=body)
                return bool(answer.json()["usage"]["completion_tokens"] == 24)

            return sum(await _bounded(ask, asked, concurrency))

    return asyncio.run(run())


def by_openai(url: str, asked: list[list[dict[str, Any]]], concurrency: int) -> int:
    """By the vendor's own library."""
    import httpx
    from openai import AsyncOpenAI

    async def run() -> int:
        connection = httpx.AsyncClient(limits=httpx.Limits(max_connections=concurrency), trust_env=False)
        async with AsyncOpenAI(base_url=url, api_key="k", timeout=30, http_client=connection) as client:

            async def ask(messages: list[dict[str, Any]]) -> bool:
                answer = await client.chat.completions.create(
                    model="stub", messages=messages, max_tokens=MAX_TOKENS, temperature=0, seed=17
                )
                return bool(answer.usage and answer.usage.completion_tokens == 24)

            return sum(await _bounded(ask, asked, concurrency))

    return asyncio.run(run())


async def _bounded(ask: Callable[[Any], Any], asked: list[Any], concurrency: int) -> list[bool]:
    waiting, answers = iter(asked), []

    async def worker() -> None:
        for messages in waiting:
            answers.append(await ask(messages))  # noqa: PERF401

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return answers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    ways = {"tunelift": by_tunelift, "httpx.AsyncClient": by_httpx}
    if importlib.util.find_spec("openai"):
        ways["openai.AsyncOpenAI"] = by_openai
    asked = questions(given.requests)
    stub = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert stub.stdout is not None
        url = f"http://127.0.0.1:{stub.stdout.readline().strip()}/v1"
        for way in ways.values():
            way(url, asked[: given.concurrency], given.concurrency)  # Imports count for nobody.
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.runs):
            for name, way in ways.items():
                started = time.perf_counter()
                good = way(url, asked, given.concurrency)
                seconds[name].append(time.perf_counter() - started)
                assert good == given.requests, f"{name}: {good} of {given.requests} answered"
    finally:
        stub.kill()
        stub.wait()
    rounds = -(-given.requests // given.concurrency)
    print(f"{given.requests} requests, {given.concurrency} at once, limit {rounds * ANSWER_SECONDS:.2f} s")
    ours = statistics.median(seconds["tunelift"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        spread = f"{min(taken):.2f} to {max(taken):.2f}"
        print(f"{name:20} median {median:6.2f} s  ({spread} s, {len(taken)} runs)  {median / ours:5.1f} x tunelift")


if __name__ == "__main__":
    main()
