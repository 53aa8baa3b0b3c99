"""The one place where a conversation becomes tokens, and where it is decided which of them are learnt.

The text is the model's own chat template, and the supervised part is found in that very text: an assistant turn is what
the template writes after the prompt that the model gets at that turn, through the end-of-turn token. So the training
text cannot differ from what the model sees when it answers. Where a template writes earlier turns differently from the
last one (Qwen3 drops their thinking), each assistant turn gets a row of its own, as the model sees it at that turn.
A turn with `"weight": 0` is context: it stands in the text, is not learnt, and gets no row.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import ge
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.errors import UserError
from tunelift.runtime.supervision import is_supervised, through_last_supervised
from tunelift.runtime.turns import (
    TOOL_REMEDY,
    Message,
    Turn,
    UnusableRow,
    assistant_turn,
    render,
    special_tokens,
)
from tunelift.runtime.vocabulary import add_tokens
from tunelift.runtime.words import MOST_CHARACTERS, word_counts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


BOUNDARY_REMEDY = (
    "Take white space from the beginning of the replies, of an indented block from all of its lines; if the template "
    "begins each answer with thinking and the rows hold none, pin enable_thinking: false in model.template_arguments."
)


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


def load_tokenizer(model: Path, template: str | None = None, added: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, with `template` in place of its own chat template if one is given.

    Args:
        added: Tokens that training adds (`train.added_tokens`); the tuned model's own folder has them already.

    Raises:
        UserError: the folder holds no tokenizer, no chat template, or only a slow tokenizer without offsets; or a token
            cannot be added.
    """
    from tunelift.runtime import tokenizer_files

    try:
        tokenizer = tokenizer_files.load(model)
    except Exception as error:  # A damaged file makes the libraries raise almost anything, Rust's bare Exception too.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"The model's tokenizer cannot be loaded: {reason}."
            if any(model.glob("tokenizer*"))
            else "The folder holds no tokenizer.",
            where=str(model),
            remedy="Copy tokenizer.json and tokenizer_config.json of the model into it again.",
        ) from error
    if template is not None:
        tokenizer.chat_template = template
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
    add_tokens(tokenizer, added)
    return tokenizer


def prompt_ids(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None
) -> list[int]:
    """The token ids of what the model is given before it answers.

    Raises:
        UnusableRow: the template refuses the conversation.
    """
    return _tokens(tokenizer, render(tokenizer, [dict(message) for message in messages], tools, generate=True))[0]


def supervise(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None = None
) -> tuple[Supervised, ...]:
    """Render a conversation and mark what is learnt: one row, or one a supervised turn where the template needs it.

    Every supervised turn is learnt once. In one row, the text is the template's rendering of the conversation through
    its last supervised turn; in several, row n is the prompt that the model gets at its n-th such turn and its reply,
    and only that reply is learnt.

    Raises:
        UnusableRow: with `reason` `special_token_in_content`, `no_assistant_turn`, `nothing_supervised`,
            `template_refused`, `template_not_prefix_stable`, `end_of_turn_missing`, `token_across_boundary`,
            `double_bos`, `template_ignores_system`, `template_ignores_reply`, or one of `TOOL_REASONS`.
    """
    return tuple(_encode(tokenizer, text, turns) for text, turns in _rendered(tokenizer, messages, tools))


def row_lengths(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None = None
) -> tuple[tuple[int, int], ...]:
    """Tokens and supervised tokens of each row that `supervise` gives, for less work where words can be counted.

    Raises:
        UnusableRow: as `supervise`.
    """
    return tuple(_counted(tokenizer, text, turns) for text, turns in _rendered(tokenizer, messages, tools))


def _rendered(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Sequence[Any] | None
) -> list[tuple[str, list[Turn]]]:
    """The text of each row, with the turns that are learnt in it."""
    indices = [index for index, message in enumerate(messages) if is_supervised(message)]
    messages = through_last_supervised(messages)
    refuse_special_tokens(tokenizer, messages)
    if not indices:
        if any(message["role"] == "assistant" for message in messages):
            raise UnusableRow("nothing_supervised", 'Every assistant turn has "weight": 0, so nothing can be learnt.')
        raise UnusableRow("no_assistant_turn", "The conversation has no assistant turn, so nothing can be learnt.")
    turns = [assistant_turn(tokenizer, messages, tools, index) for index in indices]
    for index, turn in zip(indices, turns, strict=True):
        _refuse_lost_calls(messages[index], turn.reply)
        _refuse_lost_reply(messages[index], turn.reply)
    for index, message in enumerate(messages):
        if message.get("tool_calls") and index not in indices:  # Context, without which a tool's result has no cause.
            _refuse_lost_calls(message, assistant_turn(tokenizer, messages, tools, index).reply)
    _refuse_ignored(tokenizer, messages, tools, indices, turns)
    whole = turns[-1].text
    if all(whole.startswith(turn.through_end) for turn in turns):
        return [(whole, turns)]
    return [(turn.text, [turn]) for turn in turns]


def refuse_special_tokens(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> None:
    """Content that holds a control token would be read as the end of a turn, or start a new one.

    Raises:
        UnusableRow: with reason `special_token_in_content`.
    """
    tokens = special_tokens(tokenizer)
    for message in messages:
        texts = [message.get(field) for field in ("content", "reasoning_content")]
        texts += [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls") or ()]
        written = "\n".join(text for text in texts if isinstance(text, str))
        found = next((token for token in tokens if token in written), None)
        if found:
            raise UnusableRow(
                "special_token_in_content", f"The {message['role']} message holds the control token {found!r}."
            )


def _refuse_lost_calls(message: Message, reply: str) -> None:
    calls = [call["function"]["name"] for call in message.get("tool_calls") or ()]
    missing = [name for name in calls if name not in reply]
    if missing:
        raise UnusableRow(
            "template_ignores_tool_calls",
            f"The chat template leaves out the assistant's tool calls ({', '.join(missing)}).",
            remedy=TOOL_REMEDY,
        )


def _refuse_lost_reply(message: Message, reply: str) -> None:
    """What the row says that the assistant said must stand in what is learnt."""
    said = [message.get(field) for field in ("reasoning_content", "content")]
    pieces = [
        _with_indent(piece)
        for text in said
        if isinstance(text, str)
        for piece in text.replace("</think>", "<think>").split("<think>")
    ]
    lost = next((piece for piece in pieces if piece not in reply), None)
    if lost is not None:
        raise UnusableRow(
            "template_ignores_reply",
            f"The chat template leaves out a part of the reply: {lost[:60]!r}.",
            remedy="Write thinking as <think>…</think> into the content if the template drops reasoning_content; if it "
            "drops thinking or the text beside tool calls, take that out of the rows; if it trims the first line of an "
            "indented block, dedent the block.",
        )


def _with_indent(piece: str) -> str:
    """The text without white space around it, but with the first of several lines as far in as it stands.

    Llama 3's template trims each message, which would move a block of code against its first line.
    """
    text = piece.strip()
    if not piece[:1].isspace() or "\n" not in text:
        return text
    before = piece[: len(piece) - len(piece.lstrip())]
    indent = before[before.rfind("\n") + 1 :]
    return text if indent == " " else indent + text  # One blank glues a reply to its prompt.


def _refuse_ignored(
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    indices: Sequence[int],
    turns: Sequence[Turn],
) -> None:
    """System message, tools and tool results must change what the model sees."""

    def prompt(turn: Turn) -> str:
        return turn.text[: turn.start]

    first, last = indices[0], indices[-1]
    system = messages[0]["role"] == "system" and str(messages[0].get("content") or "").strip()
    hidden = system and system not in prompt(turns[0])
    if hidden and render(tokenizer, messages[1:first], tools, generate=True) == prompt(turns[0]):
        raise UnusableRow(
            "template_ignores_system",
            "The chat template leaves out the system message.",
            remedy="Put its text at the beginning of the first user message.",
        )
    if tools and render(tokenizer, messages[:first], None, generate=True) == prompt(turns[0]):
        raise UnusableRow(
            "template_ignores_tools",
            f"The conversation has {len(tools)} tools, but the chat template does not show them to the model.",
            remedy=TOOL_REMEDY,
        )
    if any(message["role"] == "tool" for message in messages[:last]):
        blank = [message | {"content": ""} if message["role"] == "tool" else message for message in messages[:last]]
        shown = any(message.get("content") for message in messages[:last] if message["role"] == "tool")
        if shown and render(tokenizer, blank, tools, generate=True) == prompt(turns[-1]):
            raise UnusableRow(
                "template_ignores_tool_messages",
                "The chat template does not show the tools' results to the model.",
                remedy=TOOL_REMEDY,
            )


def _encode(tokenizer: PreTrainedTokenizerFast, text: str, turns: Sequence[Turn]) -> Supervised:
    ids, offsets = _tokens(tokenizer, text)
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise UnusableRow("double_bos", f"The rendering begins with two {tokenizer.bos_token} tokens.")
    control = frozenset(special_tokens(tokenizer))
    return Supervised(text, ids, _token_mask(text, offsets, [(turn.start, turn.end) for turn in turns], control))


def _counted(tokenizer: PreTrainedTokenizerFast, text: str, turns: Sequence[Turn]) -> tuple[int, int]:
    """As `_encode`, the numbers alone: only the words at the edges of turns are tokenized, all others are counted."""
    counts = word_counts(tokenizer) if _is_plain(tokenizer) and not tokenizer.split_special_tokens else None
    bos = tokenizer.bos_token
    if counts is None or (bos and text.startswith(str(bos) * 2)):
        return _lengths(_encode(tokenizer, text, turns))
    edges = sorted({edge for turn in turns for edge in (turn.start, turn.end)})
    tokens = supervised = 0
    try:
        for start, end in counts.parts(text, edges):
            if any(start < edge < end for edge in edges):
                spans = tuple((max(turn.start, start) - start, min(turn.end, end) - start) for turn in turns)
                met = tuple((first, last) for first, last in spans if first < last)
                at_edge = _remembered if end - start <= MOST_CHARACTERS else _at_edge
                of_part = at_edge(tokenizer, len(tokenizer), text[start:end], met)
            else:
                found = counts.total(text[start:end])
                of_part = found, found if any(turn.start <= start < turn.end for turn in turns) else 0
            tokens += of_part[0]
            supervised += of_part[1]
    except UnusableRow:
        return _lengths(_encode(tokenizer, text, turns))  # It says where in the text.
    return tokens, supervised


def _at_edge(
    tokenizer: PreTrainedTokenizerFast, size: int, word: str, spans: tuple[tuple[int, int], ...]
) -> tuple[int, int]:
    """Tokens and supervised tokens of a word that a turn begins or ends in; a tokenizer of another size is another."""
    return _lengths(_encode(tokenizer, word, [Turn(word, *span) for span in spans]))


_remembered = lru_cache(maxsize=10_000)(_at_edge)
"""Replies often begin alike."""


def _lengths(row: Supervised) -> tuple[int, int]:
    return len(row.input_ids), row.supervised_tokens


def _is_plain(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer leaves all to its backend."""
    backend = tokenizer.backend_tokenizer
    plain = backend.truncation is None and backend.padding is None
    return plain and bool(backend.encode_special_tokens == tokenizer.split_special_tokens)


def _tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids, and where each token stands in the text."""
    if _is_plain(tokenizer):
        # What the tokenizer itself does, an eighth faster.
        found = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        return found.ids, found.offsets
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["input_ids"]), encoded["offset_mapping"]


def _token_mask(
    text: str, offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]], control: frozenset[str]
) -> list[bool]:
    """Whether each token is learnt; white space that a control token takes along, as Phi's do, belongs to it."""
    if not offsets:
        return []
    starts, ends = zip(*offsets, strict=True)
    if list(starts) != sorted(starts) or list(ends) != sorted(ends):
        return [_learnt(text, token, spans, control) for token in offsets]
    # In order, as tokenizers give them: only the tokens at the edges of a span need a look.
    mask = [False] * len(offsets)
    for start, end in spans:
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        inner, outer = bisect_left(starts, start, first, last), bisect_right(ends, end, first, last)
        mask[inner:outer] = [True] * (outer - inner)
        for index in (*range(first, inner), *range(max(inner, outer), last)):
            mask[index] = _learnt(text, offsets[index], spans, control)
    if any(map(ge, starts, ends)):
        return [learnt and end > start for learnt, start, end in zip(mask, starts, ends, strict=True)]
    return mask


def _learnt(text: str, token: tuple[int, int], spans: Sequence[tuple[int, int]], control: frozenset[str]) -> bool:
    start, end = token
    span = next((span for span in spans if start < span[1] and span[0] < end), None)
    inside = span is not None and span[0] <= start and not text[span[1] : end].strip()
    if span is not None and not inside and text[start:end].strip() not in control:
        raise UnusableRow(
            "token_across_boundary",
            f"The token {text[start:end]!r} spans characters {start} to {end}, across a turn's edge.",
            remedy=BOUNDARY_REMEDY,
        )
    return inside and end > start


def segments(tokenizer: PreTrainedTokenizerFast, row: Supervised) -> list[tuple[str, bool]]:
    """The row in pieces that are learnt, or not, decoded from the token ids themselves."""
    parts: list[tuple[str, bool]] = []
    start = 0
    for position in range(1, len(row.mask) + 1):
        if position == len(row.mask) or row.mask[position] != row.mask[start]:
            piece = str(tokenizer.decode(row.input_ids[start:position], clean_up_tokenization_spaces=False))
            parts.append((piece, row.mask[start]))
            start = position
    return parts


def mark_supervised(tokenizer: PreTrainedTokenizerFast, row: Supervised) -> str:
    """The rendered text with ⟦ and ⟧ around what is learnt, decoded from the token ids themselves."""
    return "".join(f"⟦{text}⟧" if learnt else text for text, learnt in segments(tokenizer, row))
