"""Thinking is not the answer: what a model writes before it answers is taken off, once, before anything is scored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NAMES = ("thinking", "thoughts?", "reasoning", "reflection", "analysis", "scratchpad")
"""Tags that models write by their own habit, or since a prompt told them."""
MARKS = (
    # Qwen, DeepSeek, GLM, SmolLM3, Kimi K2, Granite; Hunyuan writes a name behind a colon.
    (r"<think(?::[^\s<>]+)?\s*>", r"</think(?::[^\s<>]+)?\s*>"),
    *((rf"<{name}\s*>", rf"</{name}\s*>") for name in NAMES),
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

SENTENCES = (r"Here(?:'s| is) my thought process:", r"Here(?:'s| is) my response:")
"""Of Granite 3. The second alone is how many an answer begins."""

_ALL = (*MARKS, SENTENCES)
_PAIRS = tuple((re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE)) for begin, end in _ALL)
_ANY = re.compile("|".join(f"{begin}|{end}" for begin, end in _ALL), re.IGNORECASE)
_LEFT_OPEN = tuple(re.compile(rf"({begin})\s*\Z", re.IGNORECASE) for begin, _ in _ALL)
_LEAD = re.compile("[\\s\ufeff\u00ad\u200b-\u200f\u2060-\u2064]*")
"""What nobody sees before a text: white space, a byte order mark, characters without width."""
_NEXT = re.compile(r"[^\S\n]*\n?[^\S\n]*")
"""Between a block and another that belongs to it: no blank line."""
_GAP = re.compile(r"\s*\n|[^\S\n]+")
"""Between thinking and answer: to the end of the last blank line, so that an indented first line keeps its indent."""
_QUOTES = "`'\""
_BRACKETS = ("“”", "„“", "‘’", "«»", "「」")
_CLOSES = re.compile(r"[\w.!?;:)\]}]")
"""What a quotation mark stands behind that ends a quotation."""
_FENCE = re.compile(r"^[^\S\n]*```", re.MULTILINE)
_GOES_ON = re.compile(r"[.,;:!?)\]]+(?:\s|\Z)")
_TAG = re.compile(r"<([a-z][\w:.-]*)(?:\s[^<>]*)?>.*?</\1\s*>\s*\S", re.IGNORECASE | re.DOTALL)
_OF_ANSWERS = re.compile(
    r".*(?:tool|call|function|answer|response|output|result|final).*"
    r"|p|div|h[1-6]|ul|ol|dl|table|html|head|body|a|b|i|u|em|strong|span|code|pre|svg|section|article|main|style",
    re.IGNORECASE,
)
"""Tags that hold an answer or a call, and those of web pages."""


class Parted(NamedTuple):
    """What a model wrote, in two."""

    thinking: str | None
    """What stands in the block, which may be nothing; None without a block."""
    answer: str
    """What follows the block; all of the text without one, and nothing where the block does not end."""


def part(text: str) -> Parted:
    """Take the thinking off that a text begins with.

    A block that does not end, since the limit cut it off, leaves no answer. Another block right behind the first, with
    no blank line between, is thinking too; blocks further on belong to the answer.

    A text with an ending mark and no beginning one was begun by the prompt, as DeepSeek-R1's template does. Answers may
    speak of such a mark: it is none in quotation marks or code, in a JSON string, or within a sentence, that is with a
    blank before it and something on its line, or nothing at all, behind it.
    """
    if not _ANY.search(text):
        return Parted(None, text)
    thoughts, place = [], 0
    block = _opened(text, 0, _LEAD) or _begun_by_prompt(text)
    while block:
        begin, end, place = block
        thoughts.append(text[begin:end].strip())
        block = _opened(text, place, _NEXT)
    return Parted("\n\n".join(filter(None, thoughts)), _after(text, place)) if thoughts else Parted(None, text)


def _opened(text: str, place: int, lead: re.Pattern[str]) -> tuple[int, int, int] | None:
    """Where a block's thinking begins and ends, and where the block ends, if one begins at a place behind `lead`."""
    if before := lead.match(text, place):
        for begin, end in _PAIRS:
            if opening := begin.match(text, before.end()):
                closing = next((mark for mark in end.finditer(text, opening.end()) if not _quoted(text, mark)), None)
                return opening.end(), *(closing.span() if closing else (len(text), len(text)))
    return None


def _begun_by_prompt(text: str) -> tuple[int, int, int] | None:
    """The same of a block whose beginning mark stands in the prompt."""
    if _is_json(text):
        return None
    closings = [
        closing
        for begin, end in _PAIRS[: len(MARKS)]
        if (closing := next((mark for mark in end.finditer(text) if not _spoken_of(text, mark)), None))
        and all(_quoted(text, opening) for opening in begin.finditer(text, 0, closing.start()))
    ]
    first = min(closings, key=lambda closing: closing.start(), default=None)
    return (0, *first.span()) if first else None


def begun_by_prompt(text: str) -> bool:
    """Whether a text begins with thinking whose beginning mark the prompt must have held."""
    return _ANY.search(text) is not None and _opened(text, 0, _LEAD) is None and _begun_by_prompt(text) is not None


def _quoted(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark stands in quotation marks or as code; not between the end of one quotation and another's begin."""
    before, _ = _line_around(text, mark)
    quote, next_one = before[-1:], text[mark.end() : mark.end() + 1]
    if quote + next_one in _BRACKETS:
        return True
    if not quote or quote not in _QUOTES or next_one != quote:
        return False
    rest = before.rstrip(quote)
    if not rest.strip() and quote == "`" and len(before) - len(rest) > 2:  # A fence ends here.
        return False
    if _CLOSES.match(rest[-1:]):
        return False
    written = re.findall("`+", before) if quote == "`" else re.findall('"', before)  # "" is a quotation, `` a mark.
    return quote == "'" or len(written) % 2 == 1


def _spoken_of(text: str, mark: re.Match[str]) -> bool:
    """Whether a text that may be an answer speaks of a mark, rather than ends its thinking with it."""
    before, behind = _line_around(text, mark)
    if _quoted(text, mark) or any(before.count(quote) % 2 and behind.count(quote) % 2 for quote in '"`'):
        return True
    if len(_FENCE.findall(text[: mark.start()])) % 2 and len(_FENCE.findall(text[mark.end() :])) % 2:
        return True
    if not before.strip():
        return False
    if behind.strip():
        return before[-1].isspace() or before[-1] in "([" or _GOES_ON.match(behind) is not None
    return before[-1].isspace() and not text[mark.end() :].strip()


def _line_around(text: str, mark: re.Match[str]) -> tuple[str, str]:
    """What stands on a mark's line before it and behind it."""
    end = text.find("\n", mark.end())
    return text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()], text[mark.end() : end if end >= 0 else None]


def _is_json(text: str) -> bool:
    """Such as a call, whose strings may hold anything."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


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


def unknown_tag(answer: str, accepted: Sequence[Any]) -> str | None:
    """The tag of a block that an answer begins with, and goes on behind, as a kind of thinking does that is not known.

    None for the tags of answers, calls and web pages, and for one that an accepted answer begins with too.
    """
    found = _TAG.match(answer, lead.end() if (lead := _LEAD.match(answer)) else 0)
    if not found or _OF_ANSWERS.fullmatch(found[1]):
        return None
    same = re.compile(rf"\s*<{re.escape(found[1])}\b", re.IGNORECASE)
    return None if any(isinstance(right, str) and same.match(right) for right in accepted) else found[1].lower()


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
