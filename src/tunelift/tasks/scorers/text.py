"""Rules on the text of an answer: equality, patterns, required and forbidden words, length, numbers."""

from __future__ import annotations

import math
import re
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from tunelift.config.section import Section
from tunelift.errors import UserError
from tunelift.tasks.scorers.base import Bound, Place, written
from tunelift.tasks.scorers.json_values import (
    AnswerOptions,
    NotJsonError,
    canonical_json,
    canonical_text,
    folded_text,
    parse_json,
)
from tunelift.tasks.scorers.numbers import Decimals, last_number, only_number

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task


def exact_match(options: AnswerOptions, place: Place) -> Bound:
    """The output equals an accepted answer, after canonicalisation; a textual answer is compared as plain text."""
    strict = options.strict

    def function(output: str, item: Item, task: Task) -> float:
        try:
            given = canonical_json(parse_json(output, options.find), strict=strict)
        except NotJsonError:
            given = None
        text = canonical_text(output, strict=strict)
        return float(
            any(
                text == canonical_text(right, strict=strict)
                if isinstance(right, str)
                else given == canonical_json(right, strict=strict)
                for right in item.accepted
            )
        )

    return Bound("binary", function, strict=strict)


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
    strict: bool = False
    """Of `group`: what it matched equals an accepted answer character by character, white space around it aside."""

    @model_validator(mode="after")
    def _something_to_compare(self) -> RegexOptions:
        if self.strict and self.group is None:
            raise ValueError("strict compares what a group matched; give `group` as well, or remove it")
        return self


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
        given = canonical_text(found[options.group] or "", strict=options.strict)
        rights = (canonical_text(written(right), strict=options.strict) for right in item.accepted)
        return float(any(given == right for right in rights))

    if options.group is None:
        return Bound("binary", function, compares=False)
    return Bound("binary", function, strict=options.strict)


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

    return Bound("binary", function, compares=not options.texts)


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

    return Bound("binary", function, compares=False)


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

    return Bound("binary", function, compares=False)


class NumberOptions(Section):
    """Options of `number`."""

    tolerance: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Largest distance from an accepted number that is still right."""
    relative_tolerance: float = Field(0.0, ge=0, allow_inf_nan=False)
    """The same as a share of the accepted number; the wider of the two counts."""
    find: Literal["only", "last"] = "only"
    """`only`: the output is a number and nothing else; `last`: the last number in it. Accepted texts are read alike."""
    decimals: Decimals = "auto"
    """The decimal mark: `point`, `comma`, or `auto`, by which 1,5 is 1.5 but 1,234 is 1234 and 1.234 is 1.234."""


def number(options: NumberOptions, place: Place) -> Bound:
    """The output is, or ends with, a number that is close enough to an accepted one. 1,234.5 is 1234.5."""
    absolute, relative = (Fraction(str(limit)) for limit in (options.tolerance, options.relative_tolerance))
    read = last_number if options.find == "last" else only_number

    def meant(right: Any) -> Fraction | None:
        if isinstance(right, (int, float)) and not isinstance(right, bool):
            return Fraction(str(right))  # As it is written: 0.3 is 0.01 from 0.29.
        return read(written(right), options.decimals)

    def function(output: str, item: Item, task: Task) -> float:
        given = read(output, options.decimals)
        if given is None:
            return 0.0
        rights = [right for right in map(meant, item.accepted) if right is not None]
        return float(any(abs(given - right) <= max(absolute, relative * abs(right)) for right in rights))

    return Bound("binary", function)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return deque(pattern.finditer(text), maxlen=1).pop() if pattern.search(text) else None
