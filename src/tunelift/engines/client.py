"""Asking an OpenAI-compatible endpoint: many requests at once, retried, answers handed on as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from tunelift.engines.answers import Reply, read_reply
from tunelift.engines.dialect import Dialect
from tunelift.engines.likelihood import Echo, Likelihood, NextToken, NoEchoError, Scoring
from tunelift.engines.transport import FailedError, RefusedError, Transport
from tunelift.errors import UserError
from tunelift.runtime.openai_form import openai_messages, openai_tools

__all__ = ["Client", "Likelihood", "Reply", "Request", "Scoring"]

BACK_OFF_SECONDS = (0.25, 0.5)
"""Range of the wait before the second try; doubled before each further one."""

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One conversation to be continued."""

    id: str
    messages: Sequence[dict[str, Any]]
    max_tokens: int
    tools: Sequence[Any] | None = None
    """Schemas for the chat template to render, bare or in OpenAI's form."""
    schema: dict[str, Any] | None = None
    """JSON schema of the answer. Strict endpoints want every property required and `additionalProperties: false`."""


class Client:
    """Seeded requests to one model of an endpoint.

    Args:
        url: Base of the endpoint, ending in `/v1`.
        model: The name under which it serves the model.
        concurrency: Requests in flight.
        timeout_seconds: For one try of one request.
        decoding: Sampling parameters, as the endpoint names them.
        api_key: Sent as a header; kept out of everything else.
        requests_per_minute: Tries are spread so that they stay below.
        tool_choice: `none`: tools are rendered into the prompt, and the answer is left as the text that the model
            writes; `auto`: the endpoint may answer with native calls.
        dialect: What is known of the endpoint from before.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        concurrency: int,
        timeout_seconds: float,
        decoding: Mapping[str, Any],
        seed: int,
        api_key: str | None = None,
        requests_per_minute: float | None = None,
        tool_choice: Literal["none", "auto"] = "none",
        dialect: Dialect | None = None,
    ) -> None:
        self._url, self._model, self._concurrency, self._timeout = url.rstrip("/"), model, concurrency, timeout_seconds
        self._decoding = {**decoding, "seed": seed}
        self._key, self._rate, self._tool_choice = api_key, requests_per_minute, tool_choice
        self._dialect = dialect or Dialect()
        self._counts_tokens = True
        """Whether the endpoint has vLLM's `tokenize`, as far as is known."""

    def generate(self, requests: Sequence[Request], on_reply: Callable[[Reply], None]) -> None:
        """Ask all; call `on_reply` as each answer comes, in the order in which they come.

        A request that the endpoint refuses, or fails three times, becomes a reply with `error`; so does an answer that
        a filter or the model itself withheld.

        Raises:
            MachineError: nothing listens there any more.
        """

        async def ask(transport: Transport, request: Request) -> None:
            on_reply(await self._reply(transport, request))

        async def ask_all(transport: Transport) -> None:
            await self._spread(requests, lambda request: ask(transport, request))

        self._run(ask_all)

    def loglikelihoods(self, scorings: Sequence[Scoring], on_likelihood: Callable[[Likelihood], None]) -> None:
        """Score all; call `on_likelihood` as each answer comes, in the order in which they come.

        One that the endpoint refuses, or fails three times, becomes a likelihood with `error`.

        Raises:
            UserError: the endpoint does not give a prompt's log-probabilities.
            MachineError: nothing listens there any more.
        """

        async def ask(transport: Transport, question: NextToken | Scoring) -> None:
            for likelihood in await self._likelihoods(transport, question):
                on_likelihood(likelihood)

        async def ask_all(transport: Transport) -> None:
            questions = await self._questions(transport, scorings)
            await self._spread(questions, lambda question: ask(transport, question))

        self._run(ask_all)

    def _run(self, ask_all: Callable[[Transport], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with Transport(
                self._url,
                concurrency=self._concurrency,
                timeout_seconds=self._timeout,
                back_off_seconds=BACK_OFF_SECONDS,
                api_key=self._key,
                requests_per_minute=self._rate,
            ) as transport:
                await ask_all(transport)

        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(_unless_stopped)
            runner.run(connected())

    async def _spread(self, items: Iterable[T], work: Callable[[T], Coroutine[Any, Any, None]]) -> None:
        """Do `work` on every item, as many at a time as requests may be in flight."""
        waiting = iter(items)

        async def worker() -> None:
            for item in waiting:  # All workers draw from the one iterator.
                await work(item)

        workers = [asyncio.create_task(worker()) for _ in range(self._concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _post(self, transport: Transport, path: str, body: dict[str, Any], read: Callable[[Any, float], T]) -> T:
        while True:
            sent = self._dialect.spoken({"model": self._model, **body})
            try:
                return await transport.post(path, sent, read)
            except RefusedError as refusal:
                if not self._dialect.learn(sent, refusal.text):
                    raise

    async def _reply(self, transport: Transport, request: Request) -> Reply:
        body = {"messages": openai_messages(request.messages), "max_tokens": request.max_tokens, **self._decoding}
        if request.tools:
            body |= {"tools": openai_tools(request.tools), "tool_choice": self._tool_choice}
        if request.schema:
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            body |= {"response_format": {"type": "json_schema", "json_schema": schema}}
        try:
            return await self._post(
                transport, "/chat/completions", body, lambda answer, seconds: read_reply(request.id, answer, seconds)
            )
        except FailedError as failure:
            filtered = isinstance(failure, RefusedError) and failure.filtered
            error = f"withheld ({failure})" if filtered else str(failure)
            return Reply(request.id, "", 0, 0, 0.0, None, error=error)

    async def _questions(self, transport: Transport, scorings: Sequence[Scoring]) -> list[NextToken | Scoring]:
        """What to ask: one question for all continuations of a context where they are single tokens."""
        groups: dict[tuple[str, bool], list[Scoring]] = {}
        for scoring in scorings:
            groups.setdefault((scoring.context, scoring.add_special_tokens), []).append(scoring)
        shared: list[list[Scoring]] = []
        questions: list[NextToken | Scoring] = []
        for (context, _), group in groups.items():
            if context and len(group) > 1:
                shared.append(group)
            else:
                questions.extend(group)

        async def decide(group: list[Scoring]) -> None:
            shorter = await self._next_token(transport, group) if self._counts_tokens else None
            questions.extend([shorter] if shorter else group)

        # The first alone: it shows whether the endpoint counts tokens at all.
        await self._spread(shared[:1], decide)
        await self._spread(shared[1:], decide)
        return questions

    async def _next_token(self, transport: Transport, group: list[Scoring]) -> NextToken | None:
        special, choices = group[0].add_special_tokens, {}
        try:
            context = await self._token_ids(transport, group[0].context, special)
            for scoring in group:
                *before, last = await self._token_ids(transport, scoring.context + scoring.continuation, special)
                if not context or before != context:
                    return None
                choices[scoring] = last
        except FailedError:  # It has no `tokenize`, as most that are not vLLM.
            self._counts_tokens = False
            return None
        return NextToken(context, choices)

    async def _token_ids(self, transport: Transport, text: str, special: bool) -> list[int]:
        body = {"prompt": text, "add_special_tokens": special}
        return await self._post(transport, "/../tokenize", body, lambda answer, _: [int(i) for i in answer["tokens"]])

    async def _likelihoods(self, transport: Transport, question: NextToken | Scoring) -> list[Likelihood]:
        if isinstance(question, Scoring):
            return [await self._echoed(transport, question)]
        try:
            return await self._post(transport, "/completions", {**question.body(), **self._decoding}, question.read)
        except FailedError:  # An older vLLM does not know the shorter question.
            return [await self._echoed(transport, scoring) for scoring in question.choices]

    async def _echoed(self, transport: Transport, scoring: Scoring) -> Likelihood:
        prompt = {"prompt": scoring.context + scoring.continuation, "add_special_tokens": scoring.add_special_tokens}
        body = {**prompt, "echo": True, "logprobs": 1, "max_tokens": 0, **self._decoding}
        try:
            echo, seconds = await self._post(
                transport, "/completions", body, lambda answer, seconds: (Echo.read(answer), seconds)
            )
            first = echo.first_after(scoring.context, scoring.continuation)
            if first is None:
                first = await self._length(transport, scoring)
        except (RefusedError, NoEchoError) as refusal:
            if isinstance(refusal, NoEchoError) or refusal.status in {404, 405} or "echo" in refusal.text:
                raise UserError(
                    f"The endpoint {self._url} does not give the log-probabilities of a prompt "
                    f"({str(refusal) or 'it ignores echo'}).",
                    remedy="Leave out tasks of the kinds choice and perplexity, or use an endpoint whose "
                    "/v1/completions takes echo and logprobs, such as vLLM.",
                    where=self._url,
                ) from refusal
            return Likelihood(scoring.id, 0.0, 0, 0.0, error=str(refusal))
        except FailedError as failure:
            return Likelihood(scoring.id, 0.0, 0, 0.0, error=str(failure))
        return echo.likelihood(scoring, first, seconds)

    async def _length(self, transport: Transport, scoring: Scoring) -> int:
        """Tokens of the context alone: where its continuation begins if their texts do not tell."""
        body = {"prompt": scoring.context, "add_special_tokens": scoring.add_special_tokens, "max_tokens": 1}
        return await self._post(
            transport, "/completions", body, lambda answer, _: int(answer["usage"]["prompt_tokens"])
        )


def _unless_stopped(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of tasks that Ctrl-C ended: whoever asked for the answers is told by the exception itself."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)
