"""Asking an OpenAI-compatible endpoint: many requests at once, retried, replies handed on as they come."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tunelift.errors import MachineError

if TYPE_CHECKING:
    import httpx

TRIES = 3
BACK_OFF_SECONDS = (0.5, 2.0)
MAX_ERROR_TEXT = 500


@dataclass(frozen=True)
class Request:
    """One conversation to be continued; `tools` are schemas for the chat template to render."""

    id: str
    messages: Sequence[dict[str, Any]]
    max_tokens: int
    tools: Sequence[Any] | None = None


@dataclass(frozen=True)
class Reply:
    """The answer, or with `error` the reason why there is none."""

    id: str
    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    """From sending to the last token, of the try that succeeded."""
    finish_reason: str | None
    error: str | None = None


class Client:
    """Greedy, seeded requests to one model of an endpoint.

    Args:
        url: Base of the endpoint, ending in `/v1`.
        model: The name under which it serves the model.
        concurrency: Requests in flight.
        timeout_seconds: For one try of one request.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        concurrency: int,
        timeout_seconds: float,
        decoding: dict[str, Any],
        seed: int,
        api_key: str | None = None,
    ) -> None:
        self._url, self._model, self._concurrency, self._timeout = url.rstrip("/"), model, concurrency, timeout_seconds
        self._decoding = {**decoding, "seed": seed}
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def generate(self, requests: Sequence[Request], on_reply: Callable[[Reply], None]) -> None:
        """Ask all; call `on_reply` as each answer comes, in the order in which they come.

        A request that the endpoint refuses, or fails three times, becomes a reply with `error`.

        Raises:
            MachineError: nothing listens there any more.
        """
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(_unless_stopped)
            runner.run(self._generate(requests, on_reply))

    async def _generate(self, requests: Sequence[Request], on_reply: Callable[[Reply], None]) -> None:
        import httpx

        waiting = iter(requests)
        limits = httpx.Limits(max_connections=self._concurrency)
        # A proxy of the environment is for the world outside, not for this machine.
        async with httpx.AsyncClient(
            headers=self._headers, timeout=self._timeout, limits=limits, trust_env=not _is_local(self._url)
        ) as connection:

            async def work() -> None:
                for request in waiting:  # All workers draw from the one iterator.
                    on_reply(await self._ask(connection, request))

            workers = [asyncio.create_task(work()) for _ in range(min(self._concurrency, len(requests)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, connection: httpx.AsyncClient, request: Request) -> Reply:
        import httpx

        problem = ""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(BACK_OFF_SECONDS[number - 1])
            started = time.monotonic()
            try:
                response = await connection.post(f"{self._url}/chat/completions", json=self._body(request))
                if response.is_success:
                    return _reply(request.id, response.json(), time.monotonic() - started)
            except httpx.ConnectError as error:
                problem = f"no connection: {error}"
                if number == TRIES - 1:
                    raise MachineError(
                        f"Nothing answers at {self._url}: the engine has ended.",
                        where=self._url,
                        remedy="Look into the engine's log; the same command goes on with the items that are missing.",
                    ) from error
                continue
            except (httpx.TransportError, ValueError, KeyError, IndexError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
                continue
            problem = f"HTTP {response.status_code}: {_shown(response.text)}"
            if response.status_code < 500 and response.status_code not in {408, 409, 429}:
                break  # The endpoint refuses this request; asking again changes nothing.
        return Reply(request.id, "", 0, 0, 0.0, None, error=problem)

    def _body(self, request: Request) -> dict[str, Any]:
        body = {"model": self._model, "messages": list(request.messages), "max_tokens": request.max_tokens}
        if request.tools:
            # Rendered into the prompt, and the answer left as the text that the model writes.
            body |= {"tools": list(request.tools), "tool_choice": "none"}
        return body | self._decoding


def _unless_stopped(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of tasks that Ctrl-C ended: whoever asked for the answers is told by the exception itself."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


def _reply(identity: str, answer: dict[str, Any], seconds: float) -> Reply:
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    return Reply(
        identity,
        # A lone surrogate, which JSON can carry, could not be written to a file.
        (choice["message"]["content"] or "").encode("utf-8", "replace").decode(),
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        seconds,
        choice.get("finish_reason"),
    )


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_ERROR_TEXT else flat[:MAX_ERROR_TEXT] + "…"


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
