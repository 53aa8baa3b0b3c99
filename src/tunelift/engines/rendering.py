"""Does a server read prompts as training does? Its token ids of real prompts are held against our own rendering's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from tunelift.engines.protocol import Engine
from tunelift.errors import GateError, MachineError
from tunelift.runtime.chat import prompt_ids
from tunelift.runtime.openai_form import openai_messages, openai_tools
from tunelift.runtime.supervision import through_last_supervised
from tunelift.runtime.turns import UnusableRow

if TYPE_CHECKING:
    import httpx
    from transformers import PreTrainedTokenizerFast

Prompt = tuple[Sequence[Mapping[str, Any]], Sequence[Any] | None]
"""Messages that the model is to answer, and tools if there are any."""

MOST = 32
"""Prompts that are compared."""
SHOWN_TOKENS = 12
"""On either side of the first difference."""
TIMEOUT_SECONDS = 60.0


def check_rendering(engine: Engine, tokenizer: PreTrainedTokenizerFast, prompts: Iterable[Prompt]) -> int:
    """Hold that a started vLLM reads some of the prompts, of every shape there is, as training renders them.

    Args:
        tokenizer: The model's, with the chat template that training used.

    Returns:
        How many were compared; those that the template refuses are not.

    Raises:
        GateError: it reads one otherwise, or refuses it; with both texts.
        MachineError: it does not answer.
    """
    import httpx

    headers = {"Authorization": f"Bearer {engine.api_key}"} if engine.api_key else {}
    compared = 0
    with httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False) as connection:
        for messages, tools in varied(prompts):
            try:
                ours = prompt_ids(tokenizer, messages, tools)
            except UnusableRow:
                continue
            theirs = _served_ids(connection, engine, messages, tools)
            if ours != theirs:
                raise _difference(engine.served_name, tokenizer, messages, ours, theirs)
            compared += 1
    return compared


def prompts_of(rows: Iterable[Mapping[str, Any]]) -> list[Prompt]:
    """Of a data set's rows what stands before each last supervised reply."""
    asked = [(through_last_supervised(row["messages"])[:-1], row.get("tools")) for row in rows]
    return [(messages, tools) for messages, tools in asked if messages]


def varied(prompts: Iterable[Prompt], most: int = MOST) -> list[Prompt]:
    """At most so many, by turns with and without a system message, tools, their results and earlier replies."""
    shapes: dict[tuple[Any, ...], list[Prompt]] = {}
    for messages, tools in prompts:
        roles = [message["role"] for message in messages]
        shape = (roles[:1] == ["system"], bool(tools), "tool" in roles, "assistant" in roles)
        shapes.setdefault(shape, []).append((messages, tools))
    by_turns = chain.from_iterable(zip_longest(*shapes.values()))
    return [prompt for prompt in by_turns if prompt is not None][:most]


def _served_ids(
    connection: httpx.Client, engine: Engine, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None
) -> list[int] | str:
    """The token ids, or in which words the server refuses."""
    import httpx

    sent = openai_messages(messages)
    for message in sent:
        if "reasoning_content" in message:  # As vLLM's chat route renames it, and this one does not.
            message["reasoning"] = message.pop("reasoning_content")
    body = {"model": engine.served_name, "messages": sent, "add_generation_prompt": True}
    body |= {"tools": openai_tools(tools)} if tools else {}
    try:
        answer = connection.post(engine.url.removesuffix("/v1") + "/tokenize", json=body)
        if answer.status_code == 400:
            return answer.text
        return [int(token) for token in answer.raise_for_status().json()["tokens"]]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise MachineError(
            f"The server's token ids could not be asked for ({type(error).__name__}: {error}).",
            where=engine.url,
            remedy="Look at the server's log.",
        ) from error


def _difference(
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[Mapping[str, Any]],
    ours: Sequence[int],
    theirs: Sequence[int] | str,
) -> GateError:
    asked = next((str(message["content"]) for message in reversed(messages) if message["role"] == "user"), "")
    about = f"The server of {name} does not read the prompt {asked[:60]!r} as training does: "
    remedy = (
        "No item was asked. Set model.chat_template to the template that both are to use; if the rows hold what the "
        "two show differently, take it out of them."
    )
    if isinstance(theirs, str):
        return GateError(f"{about}it refuses it with: {theirs[:500]}", remedy=remedy)
    first = next(
        (place for place, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other),
        min(len(ours), len(theirs)),
    )
    shown = [
        str(tokenizer.decode(list(ids[max(0, first - SHOWN_TOKENS) : first + SHOWN_TOKENS]))) for ids in (ours, theirs)
    ]
    return GateError(
        f"{about}from token {first + 1} on ({len(ours)} and {len(theirs)} tokens).\n"
        f"  training: {shown[0]!r}\n  server:   {shown[1]!r}",
        remedy=remedy,
    )
