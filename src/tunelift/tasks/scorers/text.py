"""Rules on the text of an answer: equality, patterns, required and forbidden words, length, numbers."""

from __future__ import annotations

import math
import re
from collections import deque
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from tunelift.config.section import Section
from tunelift.errors import UserError
from tunelift.tasks.scorers.base import Bound, Place, written
from tunelift.tasks.scorers.json_values import (
    JsonOptions,
    NotJsonError,
    canonical_json,
    canonical_text,
    folded_text,
    parse_json,
)

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task


def exact_match(options: JsonOptions, place: Place) -> Bound:
    """The output equals an accepted answer, after canonicalisation; a textual answer is compared as plain text."""

    def function(output: str, item: Item, task: Task) -> float:
        try:
            given = canonical_json(parse_json(output, options.find))
        except NotJsonError:
            given = None
        text = canonical_text(output)
        return float(
            any(
                text == canonical_text(right) if isinstance(right, str) else given == canonical_json(right)
                for right in item.accepted
            )
        )

    return Bound("binary", function)


class RegexOptions(Section):
    """Options of `regex`."""

    pattern: str = Field(min_length=1, examples=["'[0-9]{4}-[0-9]{2}-[0-9]{2}'"])
    """In Python's syntax; `^` and `$` are the ends of the whole output."""
    group: Annotated[int, Field(ge=0)] | None = None
    """Compare what this group matched (0: the whole match) with the accepted answers; without it, a match is right."""
    last: bool = False
    """Take the last match instead of the first."""
    ignore_case: bool = False
    """Let A match a."""


def regex(options: RegexOptions, place: Place) -> Bound:
    """A pattern is found in the output; with `group`, what it found equals an accepted answer."""
    try:
        pattern = re.compile(options.pattern, re.IGNORECASE if options.ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"pattern={options.pattern!r} is no regular expression: {error}.",
            where=place.where,
            remedy="Correct it; in YAML, single quotes keep backslashes as they are.",
        ) from error
    if options.group is not None and options.group > pattern.groups:
        raise UserError(
            f"group={options.group}, but pattern={options.pattern!r} has {pattern.groups} groups.",
            where=place.where,
            remedy="Put what is to be compared in parentheses, and number it from 1.",
        )

    def function(output: str, item: Item, task: Task) -> float:
        found = _last(pattern, output) if options.last else pattern.search(output)
        if found is None or options.group is None:
            return float(found is not None)
        given = canonical_text(found[options.group] or "")
        return float(any(given == canonical_text(written(right)) for right in item.accepted))

    return Bound("binary", function)


class ContainsOptions(Section):
    """Options of `contains`."""

    texts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """What to look for; without it, the item's accepted answers."""
    every: bool = False
    """All of them must be there; otherwise one is enough."""
    whole_words: bool = False
    """`no` is not found in `know`."""


def contains(options: ContainsOptions, place: Place) -> Bound:
    """The output contains one of the texts (or every one), whatever their case and white space."""

    def function(output: str, item: Item, task: Task) -> float:
        wanted = options.texts or tuple(written(right) for right in item.accepted)
        decide = all if options.every else any
        return float(decide(_inside(text, output, options.whole_words) for text in wanted))

    return Bound("binary", function)


class NotContainsOptions(Section):
    """Options of `not_contains`."""

    texts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1, examples=["['as an AI', sorry]"])
    """What must not be there."""
    whole_words: bool = False
    """`no` is not found in `know`."""


def not_contains(options: NotContainsOptions, place: Place) -> Bound:
    """The output contains none of the texts, whatever their case and white space."""

    def function(output: str, item: Item, task: Task) -> float:
        return float(not any(_inside(text, output, options.whole_words) for text in options.texts))

    return Bound("binary", function)


def _inside(text: str, output: str, whole_words: bool) -> bool:
    wanted, given = folded_text(text), folded_text(output)
    if not whole_words:
        return wanted in given
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", given) is not None


class LengthOptions(Section):
    """Options of `length`."""

    at_least: int = Field(0, ge=0)
    """Shortest."""
    at_most: Annotated[int, Field(ge=0)] | None = None
    """Longest."""
    unit: Literal["characters", "words"] = "characters"
    """Words are what white space divides; white space around the output does not count."""

    @model_validator(mode="after")
    def _bounds(self) -> LengthOptions:
        if self.at_least == 0 and self.at_most is None:
            raise ValueError("The length has no bound; give at_least, at_most or both")
        if self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least={self.at_least} is above at_most={self.at_most}; nothing is that long")
        return self


def length(options: LengthOptions, place: Place) -> Bound:
    """The output's length lies within bounds."""
    longest = math.inf if options.at_most is None else options.at_most

    def function(output: str, item: Item, task: Task) -> float:
        size = len(output.split()) if options.unit == "words" else len(output.strip())
        return float(options.at_least <= size <= longest)

    return Bound("binary", function)


class NumberOptions(Section):
    """Options of `number`."""

    tolerance: float = Field(0.0, ge=0)
    """Largest distance from an accepted number that is still right."""
    relative_tolerance: float = Field(0.0, ge=0)
    """The same as a share of the accepted number; the wider of the two counts."""
    find: Literal["only", "last"] = "only"
    """`only`: the output is a number and nothing else; `last`: the last number in it."""


def number(options: NumberOptions, place: Place) -> Bound:
    """The output is, or ends with, a number that is close enough to an accepted one. 1,234.5 is 1234.5."""
    absolute, relative = Decimal(str(options.tolerance)), Decimal(str(options.relative_tolerance))

    def function(output: str, item: Item, task: Task) -> float:
        given = _last_number(output) if options.find == "last" else _only_number(output)
        rights = [_only_number(written(right)) for right in item.accepted]
        if given is None:
            return 0.0
        with localcontext(prec=60):  # In decimals, so that 0.3 is 0.01 from 0.29.
            return float(
                any(
                    right is not None and abs(given - right) <= max(absolute, relative * abs(right)) for right in rights
                )
            )

    return Bound("binary", function)


_NUMBER = re.compile(
    r"(?:(?<![\w.)])[-+\u2212])?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
)
MAX_DIGITS = 400
"""A longer number is none: nothing that a double can hold needs more."""


def _only_number(text: str) -> Decimal | None:
    bare = text.strip().rstrip(" .!?")
    return _value(bare) if _NUMBER.fullmatch(bare) else None


def _last_number(text: str) -> Decimal | None:
    last = _last(_NUMBER, text)
    return _value(last[0]) if last else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return deque(pattern.finditer(text), maxlen=1).pop() if pattern.search(text) else None


def _value(text: str) -> Decimal | None:
    plain = text.replace(",", "").replace("\u2212", "-")
    if len(plain) > MAX_DIGITS or not math.isfinite(float(plain)):
        return None
    return Decimal(plain) if float(plain) or not plain.strip("+-.0") else Decimal(0)
