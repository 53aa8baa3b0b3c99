"""Conversations with tools as OpenAI's API wants them.

Endpoints refuse anything else: arguments that are an object, calls without an id, schemas of tools without
`{"type": "function", "function": …}` around them. vLLM parses arguments into objects again before it renders
(`_postprocess_messages` in its renderers/chat_utils.py), and gives schemas to the template by OpenAI's fields alone, in
their order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

NO_ARGUMENTS = {"type": "object", "properties": {}}


def openai_tools(tools: Sequence[Any]) -> list[Any]:
    """Schemas of tools, bare or already so, with every field that an engine would fill in; what is none stays."""
    return [_tool(tool) for tool in tools]


def _tool(tool: Any) -> Any:
    described = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(described, Mapping) or not isinstance(described.get("name"), str):
        return tool
    function = {
        "name": described["name"],
        "description": described.get("description") or "",
        "parameters": described.get("parameters") or NO_ARGUMENTS,
    }
    strict = {"strict": described["strict"]} if described.get("strict") is not None else {}
    return {"type": "function", "function": function | strict}


def openai_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages with arguments as JSON text, and with ids that join results to calls: the row's own, or made by number.

    Made ids have nine letters and digits, as Mistral's templates want them.
    """
    sent: list[dict[str, Any]] = []
    unanswered: list[str] = []
    made = 0
    for message in messages:
        written = dict(message)
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                made += 1
                calls.append(_call(call, f"call{made:05}"))
            written["tool_calls"] = calls
            unanswered = [call["id"] for call in calls]
        elif message["role"] == "tool":
            identity = message.get("tool_call_id") or next(iter(unanswered), f"call{made:05}")
            written["tool_call_id"] = identity
            unanswered = [other for other in unanswered if other != identity]
        sent.append(written)
    return sent


def _call(call: Mapping[str, Any], made: str) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    named = {"name": function["name"], "arguments": text}
    return {"id": call.get("id") or made, "type": "function", "function": named}
