"""The one place where a conversation becomes tokens, and where it is decided which of them are learnt.

The text is the model's own chat template, rendered once; the supervised part is found in that very text by rendering
its prefixes, so the training text cannot differ from what the model sees when it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunelift.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = dict[str, Any]


class UnusableRow(UserError):
    """A conversation that cannot be trained on under this template; `reason` is a short code for ledgers."""

    def __init__(self, reason: str, message: str, *, remedy: str = "", where: str = "") -> None:
        super().__init__(message, remedy=remedy, where=where)
        self.reason = reason


@dataclass(frozen=True)
class Supervised:
    """A rendered conversation.

    `input_ids` and `mask` have one entry a token; `mask` is true where the token is learnt: each assistant turn
    from its first token through its end-of-turn token.
    """

    text: str
    input_ids: list[int]
    mask: list[bool]

    @property
    def supervised_tokens(self) -> int:
        """How many tokens are learnt."""
        return sum(self.mask)


def load_tokenizer(model: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder.

    Raises:
        UserError: the folder holds no tokenizer, no chat template, or only a slow tokenizer without offsets.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # A damaged file makes the libraries raise almost anything, Rust's bare Exception too.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"The model's tokenizer cannot be loaded: {reason}."
            if any(model.glob("tokenizer*"))
            else "The folder holds no tokenizer.",
            where=str(model),
            remedy="Copy tokenizer.json and tokenizer_config.json of the model into it again.",
        ) from error
    if not tokenizer.chat_template:
        raise UserError(
            "The model has no chat template.",
            where=str(model),
            remedy="Choose the instruct version of the model, or put its chat_template.jinja into the folder.",
        )
    if not tokenizer.is_fast:
        raise UserError(
            "The model has only a slow tokenizer, which cannot tell where in the text a token stands.",
            where=str(model),
            remedy="Add the model's tokenizer.json.",
        )
    return cast("PreTrainedTokenizerFast", tokenizer)


def render(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None, *, generate: bool
) -> str:
    """The model's own rendering as text; with `generate` it ends where the model's answer begins.

    Raises:
        UnusableRow: the template refuses the conversation.
    """
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(messages), tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=generate
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise UnusableRow("template_refused", f"The chat template refuses the conversation: {error}") from error
    return str(text)


def supervise(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None = None
) -> Supervised:
    """Render a conversation and mark what is learnt.

    Raises:
        UnusableRow: with `reason` `template_refused`, `special_token_in_content`, `no_assistant_turn`,
            `template_not_prefix_stable`, `end_of_turn_missing`, `token_across_boundary` or `double_bos`.
    """
    refuse_special_tokens(tokenizer, messages)
    text = render(tokenizer, messages, tools, generate=False)
    spans = [
        _assistant_span(tokenizer, messages, tools, index, text)
        for index, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    if not spans:
        raise UnusableRow("no_assistant_turn", "The conversation has no assistant turn, so nothing can be learnt.")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise UnusableRow("double_bos", f"The rendering begins with two {tokenizer.bos_token} tokens.")
    return Supervised(text, ids, _token_mask(offsets, spans))


def refuse_special_tokens(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> None:
    """Content that holds a control token would be read as the end of a turn, or start a new one.

    Raises:
        UnusableRow: with reason `special_token_in_content`.
    """
    for message in messages:
        content = message.get("content")
        for token in tokenizer.all_special_tokens:
            if isinstance(content, str) and token and token in content:
                raise UnusableRow(
                    "special_token_in_content", f"The {message['role']} message holds the control token {token!r}."
                )


def _assistant_span(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None, index: int, text: str
) -> tuple[int, int]:
    """Character range of one assistant turn, from after the generation prompt through the end-of-turn token."""
    before = render(tokenizer, messages[:index], tools, generate=True)
    through = render(tokenizer, messages[: index + 1], tools, generate=False)
    if not (text.startswith(through) and through.startswith(before)):
        raise UnusableRow(
            "template_not_prefix_stable",
            f"Message {index + 1} is rendered differently as the last one than inside the conversation.",
            remedy="Give this model one row per assistant turn.",
        )
    turn = through[len(before) :]
    end = max((turn.rfind(token) + len(token) for token in tokenizer.all_special_tokens if token in turn), default=0)
    if not end or turn[end:].strip():
        raise UnusableRow(
            "end_of_turn_missing",
            "The template closes the assistant's turn with no end-of-turn token, so the model would not learn to stop.",
            remedy="Use the template that the model was published with.",
        )
    return len(before), len(before) + end


def _token_mask(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    mask = []
    for start, end in offsets:
        inside = any(low <= start and end <= high for low, high in spans)
        if not inside and any(start < high and low < end for low, high in spans):
            raise UnusableRow(
                "token_across_boundary", f"A token spans characters {start} to {end}, across a turn's edge."
            )
        mask.append(inside and end > start)
    return mask


def mark_supervised(tokenizer: PreTrainedTokenizerFast, row: Supervised) -> str:
    """The rendered text with ⟦ and ⟧ around what is learnt, decoded from the token ids themselves."""
    parts: list[str] = []
    start = 0
    for position in range(1, len(row.mask) + 1):
        if position == len(row.mask) or row.mask[position] != row.mask[start]:
            piece = str(tokenizer.decode(row.input_ids[start:position], clean_up_tokenization_spaces=False))
            parts.append(f"⟦{piece}⟧" if row.mask[start] else piece)
            start = position
    return "".join(parts)
