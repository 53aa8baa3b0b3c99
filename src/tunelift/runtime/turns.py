"""A chat template at work: conversations as text, and where in it an assistant turn begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tunelift.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = dict[str, Any]

TOOL_REASONS = frozenset(
    {
        "template_ignores_tools",
        "template_ignores_tool_calls",
        "template_ignores_tool_messages",
        "template_refuses_tools",
    }
)
"""Reasons of `UnusableRow` that say: this template is not made for tools."""
TOOL_REMEDY = (
    "Use a model whose chat template knows tools; or describe the tools in the system message, write the calls into "
    "the replies as text, and take `tools` and tool messages out of the rows."
)
STABLE_REMEDY = (
    "If the rows hold thinking, do not pin enable_thinking: false in model.template_arguments; if they hold none and "
    "the template begins each answer with it, do. Otherwise use the template that the model was published with."
)


class UnusableRow(UserError):
    """A conversation that cannot be trained on under this template; `reason` is a short code for ledgers."""

    def __init__(self, reason: str, message: str, *, remedy: str = "", where: str = "") -> None:
        super().__init__(message, remedy=remedy, where=where)
        self.reason = reason


@dataclass(frozen=True)
class Turn:
    """An assistant turn as the model meets it: `text` is the prompt, the reply and what the template puts after it.

    `start` and `end` are the learnt characters of `text`: the reply through its end-of-turn token.
    """

    text: str
    start: int
    end: int

    @property
    def through_end(self) -> str:
        """The text up to the end-of-turn token."""
        return self.text[: self.end]

    @property
    def reply(self) -> str:
        """What is learnt."""
        return self.text[self.start : self.end]


def render(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None, *, generate: bool
) -> str:
    """The model's own rendering as text; with `generate` it ends where the model's answer begins.

    Raises:
        UnusableRow: the template refuses the conversation, with reason `template_refuses_tools` if it has any.
    """
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(messages), tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=generate
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        about = f"The chat template refuses the conversation: {error}"
        if tools or any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
            raise UnusableRow("template_refuses_tools", about, remedy=TOOL_REMEDY) from error
        raise UnusableRow("template_refused", about) from error
    return str(text)


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """The control tokens: those with a name, and the others that the tokenizer marks as special.

    (Gemma 3's and Llama 3's end of turn have no name of their own.)
    """
    return _special_tokens(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: PreTrainedTokenizerFast, size: int) -> tuple[str, ...]:
    marked = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(dict.fromkeys(token for token in [*tokenizer.all_special_tokens, *marked] if token))


def end_of_turn(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """The control token that the template puts right after a reply; None if it puts none, or cannot be asked."""
    return _end_of_turn(tokenizer, str(tokenizer.chat_template), len(tokenizer))


@lru_cache(maxsize=8)
def _end_of_turn(tokenizer: PreTrainedTokenizerFast, template: str, size: int) -> str | None:
    reply = "a plain reply"
    try:
        text = render(
            tokenizer, [{"role": "user", "content": "?"}, {"role": "assistant", "content": reply}], None, generate=False
        )
    except UnusableRow:
        return None
    after = text.rpartition(reply)[2]
    found = {token: after.index(token) for token in special_tokens(tokenizer) if token in after}
    return min(found, key=lambda token: (found[token], -len(token)), default=None)


def assistant_turn(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None, index: int
) -> Turn:
    """The assistant turn that is message `index`: from after the prompt that the model gets, through its end of turn.

    Raises:
        UnusableRow: with `reason` `template_refused`, `template_refuses_tools`, `template_not_prefix_stable` or
            `end_of_turn_missing`.
    """
    prompt = render(tokenizer, messages[:index], tools, generate=True)
    through = render(tokenizer, messages[: index + 1], tools, generate=False)
    if through.startswith(prompt):
        text, start = through, len(prompt)
    else:
        text, start = _moved(tokenizer, prompt, through, index), len(prompt)
    end = _reply_end(tokenizer, text[start:])
    return Turn(text, start, start + end)


def _moved(tokenizer: PreTrainedTokenizerFast, prompt: str, through: str, index: int) -> str:
    """The prompt with the reply behind it, where the template writes what comes before a reply differently afterwards.

    Mistral's templates put the system message and the tools into the last user message only while it is the last one:
    the reply is then what stands behind the same control token with which the prompt ends.
    """
    tokens = special_tokens(tokenizer)
    anchor = max((prompt.rfind(token) for token in tokens), default=-1)
    seam = prompt[anchor:] if anchor >= 0 else prompt
    at = through.rfind(seam)
    reply = through[at + len(seam) :]
    closing = end_of_turn(tokenizer)
    if at < 0 or closing is None or reply.count(closing) != 1:
        raise UnusableRow(
            "template_not_prefix_stable",
            f"The template lets the model begin message {index + 1} after {seam[-60:]!r}, but does not write the "
            "message so.",
            remedy=STABLE_REMEDY,
        )
    return prompt + reply


def _reply_end(tokenizer: PreTrainedTokenizerFast, reply: str) -> int:
    """Where the end-of-turn token ends; behind it may stand what ends the text, as Phi's `<|endoftext|>`."""
    tokens, closing = special_tokens(tokenizer), end_of_turn(tokenizer)
    end = reply.rfind(closing) + len(closing) if closing and closing in reply else 0
    end = end or max((reply.rfind(token) + len(token) for token in tokens if token in reply), default=0)
    rest = reply[end:]
    for token in tokens:
        rest = rest.replace(token, "") if rest else rest
    if not end or rest.strip():
        raise UnusableRow(
            "end_of_turn_missing",
            "The template closes the assistant's turn with no end-of-turn token, so the model would not learn to stop.",
            remedy="Use the template that the model was published with.",
        )
    return end
