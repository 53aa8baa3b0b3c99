"""Thinking is not the answer: what a model writes before it answers is taken off, once, before anything is scored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MARKS = (
    (r"<think(?::[^\s<>]+)?>", r"</think(?::[^\s<>]+)?>"),  # Qwen, DeepSeek, GLM, SmolLM3, Kimi K2, Granite; Hunyuan.
    (r"<thinking>", r"</thinking>"),
    (r"<thought>", r"</thought>"),
    (r"<(?:seed|mm):think>", r"</(?:seed|mm):think>"),  # Seed-OSS, MiniMax.
    (r"<ifm\|think(?:_\w+)?>", r"</ifm\|think(?:_\w+)?>"),  # K2 Horizon.
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral.
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command.
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker.
    (r"◁think▷", r"◁/think▷"),  # Kimi.
    (r"<\|channel>thought\b", r"<channel\|>"),  # Gemma.
    (r"(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>", r"<\|channel\|>final<\|message\|>"),  # gpt-oss.
)
"""How a block of thinking begins and ends, by the chat templates and by vLLM's reasoning parsers. Case is ignored."""

_PAIRS = tuple((re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE)) for begin, end in MARKS)
_ANY = re.compile("|".join(f"{begin}|{end}" for begin, end in MARKS), re.IGNORECASE)
_LEFT_OPEN = tuple(re.compile(rf"({begin})\s*\Z", re.IGNORECASE) for begin, _ in MARKS)
_GAP = re.compile(r"\s*\n|[^\S\n]+")
"""Between thinking and answer: to the end of the last blank line, so that an indented first line keeps its indent."""
_QUOTES = "`'\""


class Parted(NamedTuple):
    """What a model wrote, in two."""

    thinking: str | None
    """What stands in the block, which may be nothing; None without a block."""
    answer: str
    """What follows the block; all of the text without one, and nothing where the block does not end."""


def part(text: str) -> Parted:
    """Take the thinking off that a text begins with.

    A block that does not end, since the limit cut it off, leaves no answer. A text with an ending mark and no beginning
    one was begun by the prompt, as DeepSeek-R1's template does. Blocks further on in the text belong to the answer.
    """
    if not _ANY.search(text):
        return Parted(None, text)
    start = len(text) - len(text.lstrip())
    for begin, end in _PAIRS:
        if opening := begin.match(text, start):
            closing = _unquoted(end, text, opening.end())
            if closing is None:
                return Parted(text[opening.end() :].strip(), "")
            return Parted(text[opening.end() : closing.start()].strip(), _after(text, closing.end()))
    if text.startswith(("{", "["), start):  # JSON, such as a call, whose strings may hold anything.
        return Parted(None, text)
    closings = [
        closing
        for begin, end in _PAIRS
        if (closing := _unquoted(end, text, start)) and not begin.search(text, start, closing.start())
    ]
    if not closings:
        return Parted(None, text)
    first = min(closings, key=lambda closing: closing.start())
    return Parted(text[: first.start()].strip(), _after(text, first.end()))


def _unquoted(mark: re.Pattern[str], text: str, start: int) -> re.Match[str] | None:
    """The first mark that is not itself spoken of, in quotation marks or as code."""
    return next(
        (
            found
            for found in mark.finditer(text, start)
            if not (_quote(text, found.start() - 1) and _quote(text, found.end()))
        ),
        None,
    )


def _quote(text: str, place: int) -> bool:
    return 0 <= place < len(text) and text[place] in _QUOTES


def _after(text: str, end: int) -> str:
    gap = _GAP.match(text, end)
    return text[gap.end() if gap else end :]


def opening_in(prompt: str) -> str:
    """The mark with which a rendered prompt opens the thinking that the model goes on with; empty for none."""
    return next((found[1] for mark in _LEFT_OPEN if (found := mark.search(prompt))), "")


def may_open(template: str) -> bool:
    """Whether a chat template writes such marks at all."""
    return _ANY.search(template) is not None


def without_thinking(text: str) -> str:
    """An accepted answer, or one that is shown; whole where nothing follows the thinking, since it is all there is."""
    parted = part(text)
    return parted.answer if parted.answer.strip() else text


def scored(output: str, accepted: Sequence[Any]) -> str:
    """What scorers are given of an output. Where thinking itself is the right answer, nothing is taken off."""
    if any(isinstance(right, str) and part(right).thinking is not None for right in accepted):
        return output
    return part(output).answer


def never_began(sample: Mapping[str, Any]) -> bool:
    """Whether an evaluation's sample holds no answer at all: nothing was said, or thinking was all that was.

    Args:
        sample: Of samples.jsonl; one whose request failed is another matter, and so is one without an `answer`, as of
            likelihoods.
    """
    if sample.get("error") or str(sample.get("answer", "none")).strip():
        return False
    return not any(
        right == [] or (isinstance(right, str) and not right.strip()) for right in sample.get("expected") or ()
    )
