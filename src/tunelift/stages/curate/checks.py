"""Is a conversation one that can be trained on? Each check answers none, or the fault it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunelift.runtime.chat import row_lengths
from tunelift.runtime.supervision import is_supervised
from tunelift.runtime.turns import UnusableRow
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
    """Check order and content of the turns.

    The reasons are `ends_without_reply`, `roles_out_of_order`, `empty_reply` (of a supervised turn), `empty_turn` and
    `nothing_supervised`. The order is: a system message or none, then user and assistant by turns; after an assistant's
    tool calls come the tools' answers and the assistant again.
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
        # A tool may have nothing to say, and an empty system message keeps a template from writing its own.
        says_nothing = not message["content"].strip() and not message.get("tool_calls")
        if says_nothing and message["role"] not in {"tool", "system"}:
            return Fault("empty_reply" if is_supervised(message) else "empty_turn", {"message": index})
    if not any(map(is_supervised, messages)):
        return Fault("nothing_supervised", {"assistant_turns": sum(one["role"] == "assistant" for one in messages)})
    return None


@dataclass(frozen=True)
class Measured:
    """An example as the model's tokenizer and template make it."""

    lengths: tuple[tuple[int, int], ...]
    """Tokens and supervised tokens of each row that training makes of it: one, or one an assistant turn; none where
    the template cannot render it."""
    fault: Fault | None = None
    """Why it cannot be trained on, if so."""

    @property
    def tokens(self) -> int:
        """In all its rows."""
        return sum(tokens for tokens, _ in self.lengths)

    @property
    def supervised_tokens(self) -> int:
        """In all its rows; each assistant turn counts once."""
        return sum(supervised for _, supervised in self.lengths)


def measured(example: Example, tokenizer: PreTrainedTokenizerFast, max_length: int, min_reply_tokens: int) -> Measured:
    """Render with the model's own template and count, also where that shows why the row cannot be trained on.

    The reasons are those of `supervise`, and `reply_too_short`, `too_long` (its longest row); the last is asked last,
    so that what the limit on length costs is what would be kept without it. Lengths are in tokens; the end-of-turn
    token counts as supervised.
    """
    try:
        lengths = row_lengths(tokenizer, example.messages, example.tools)
    except UnusableRow as error:
        evidence = {"detail": error.message, **({"remedy": error.remedy} if error.remedy else {})}
        return Measured((), Fault(error.reason, evidence))
    supervised, longest = sum(learnt for _, learnt in lengths), max(tokens for tokens, _ in lengths)
    fault = None
    if supervised < min_reply_tokens:
        fault = Fault("reply_too_short", {"supervised_tokens": supervised, "limit": min_reply_tokens})
    elif longest > max_length:
        fault = Fault("too_long", {"tokens": longest, "limit": max_length, "supervised_tokens": supervised})
    return Measured(lengths, fault)
