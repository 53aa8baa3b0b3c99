"""Is a conversation one that can be trained on? Each check answers none, or the fault it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunelift.runtime.chat import UnusableRow, supervise
from tunelift.stages.curate.rows import Example, Fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FOLLOWS = {
    "system": ("start",),
    "user": ("start", "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("call", "tool"),
}
"""What may stand before a message of each role; `call` is an assistant turn that calls tools."""


def structure_fault(example: Example) -> Fault | None:
    """Check order and content of the turns: `ends_without_reply`, `roles_out_of_order`, `empty_reply`, `empty_turn`.

    The order is: a system message or none, then user and assistant by turns; after an assistant's tool calls come the
    tools' answers and the assistant again.
    """
    messages = example.messages
    if not messages or messages[-1]["role"] != "assistant":
        return Fault("ends_without_reply", {"last": messages[-1]["role"] if messages else None})
    before = "start"
    for index, message in enumerate(messages):
        role = message["role"]
        if before not in FOLLOWS[role]:
            return Fault("roles_out_of_order", {"message": index, "role": role, "after": before})
        before = "call" if message.get("tool_calls") else role
    for index, message in enumerate(messages):
        if not message["content"].strip() and not message.get("tool_calls"):
            return Fault("empty_reply" if message["role"] == "assistant" else "empty_turn", {"message": index})
    return None


@dataclass(frozen=True)
class Measured:
    """An example as the model's tokenizer and template make it."""

    tokens: int
    supervised_tokens: int
    shows_tools: bool
    """False when the example has tools and the template leaves them out."""


def measure(
    example: Example, tokenizer: PreTrainedTokenizerFast, max_length: int, min_reply_tokens: int
) -> Measured | Fault:
    """Render with the model's own template and count, or say why the row cannot be trained on.

    The reasons are those of `supervise`, and `template_ignores_tool_calls`, `reply_too_short`, `too_long`; the last is
    asked last, so that what the limit on length costs is what would be kept without it. Lengths are in tokens; the
    end-of-turn token counts as supervised.
    """
    try:
        row = supervise(tokenizer, example.messages, example.tools)
    except UnusableRow as error:
        return Fault(error.reason, {"detail": error.message, **({"remedy": error.remedy} if error.remedy else {})})
    calls = [call["function"]["name"] for message in example.messages for call in message.get("tool_calls", ())]
    missing = [name for name in calls if name not in row.text]
    if missing:
        return Fault("template_ignores_tool_calls", {"calls": missing})
    tokens, supervised = len(row.input_ids), row.supervised_tokens
    if supervised < min_reply_tokens:
        return Fault("reply_too_short", {"supervised_tokens": supervised, "limit": min_reply_tokens})
    if tokens > max_length:
        return Fault("too_long", {"tokens": tokens, "limit": max_length, "supervised_tokens": supervised})
    names = [tool_name(tool) for tool in example.tools or ()]
    return Measured(tokens, supervised, all(name in row.text for name in names))


def learnable(example: Example, tokenizer: PreTrainedTokenizerFast) -> int:
    """Supervised tokens of an example that is dropped; 0 where the template cannot render it."""
    try:
        return supervise(tokenizer, example.messages, example.tools).supervised_tokens
    except UnusableRow:
        return 0


def tool_name(tool: dict[str, Any]) -> str:
    """The name in a tool's schema, in OpenAI's form or bare; empty if it has none."""
    function = tool.get("function", tool)
    return str(function.get("name", "")) if isinstance(function, dict) else ""
