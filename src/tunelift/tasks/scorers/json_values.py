"""JSON as scorers read it: strict, canonical where it is compared, found inside other text where that is asked for."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tunelift.config.section import Section

MAX_DEPTH = 64
"""JSON nested deeper counts as invalid, as RFC 8259 section 9 lets a parser decide."""
MAX_STARTS = 64
"""How often the length of a text may be looked at in search of JSON, so that hostile text costs no quadratic time."""

Find = Literal["only", "anywhere"]
"""`only`: the output is the answer and nothing else; `anywhere`: the answer may stand in a code fence or other text."""


class JsonOptions(Section):
    """Options of scorers that read JSON."""

    find: Find = "only"
    """`only`: the output is JSON and nothing else; `anywhere`: the longest JSON value in it, code fence or not."""


class AnswerOptions(JsonOptions):
    """Options of scorers that compare an answer with the accepted ones."""

    strict: bool = False
    """Texts are equal only character by character, white space around the whole answer aside: case, quotes, closing
    marks and white space count. Key order and 1.0 for 1 still do not."""


class NotJsonError(ValueError):
    """The text is not exactly one JSON value."""


def parse_json(text: str, find: Find = "only") -> Any:
    """The one JSON value that the text is, white space around it aside; `anywhere`, the longest one that it holds.

    Raises:
        NotJsonError: anything else, including NaN, Infinity, numbers too large for a double, a key twice in one
            object, and nesting deeper than `MAX_DEPTH`.
    """
    try:
        return shallow(_DECODER.decode(text.strip(" \t\r\n")))
    except (ValueError, RecursionError) as error:
        if find == "anywhere":
            return _longest_inside(text)
        raise NotJsonError(str(error)) from error


def parse_json_row(text: str) -> list[Any]:
    """JSON values one after another, divided by white space or `;`.

    Raises:
        NotJsonError: anything else stands in the text, or nothing does.
    """
    values, position = [], 0
    try:
        while position < len(text):
            value, end = _DECODER.raw_decode(text, position)
            values.append(shallow(value))
            position = _GAP.match(text, end).end()  # type: ignore[union-attr]  # It matches the empty text.
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error)) from error
    if not values:
        raise NotJsonError("no JSON in the text")
    return values


class TooManyStartsError(NotJsonError):
    """The text has so many brackets that begin no JSON that looking at all of them would take too long."""


@dataclass(frozen=True)
class Inside:
    """A value inside a text, and from where to where it stands there."""

    value: Any
    start: int
    end: int


Reader = Callable[[str, int], tuple[Any, int]]
"""From a text and where an opening bracket stands in it to the value that begins there and its end.

Raises ValueError or RecursionError if none does."""


def read_value(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins there, and its end.

    Raises:
        ValueError, RecursionError: none does.
    """
    value, end = _DECODER.raw_decode(text, start)
    return value, int(end)


def values_inside(text: str, read: Reader = read_value, begins: re.Pattern[str] | None = None) -> Iterator[Inside]:
    """The values in a text that stand in no other value, in their order; without those nested too deep.

    Args:
        text: Where they are looked for.
        read: Reads one.
        begins: What else may begin one, besides a bracket.

    Time is linear: a bracket that begins no value costs the characters that were looked at, and all of them together
    may cost `MAX_STARTS` times the text.

    Raises:
        TooManyStartsError: that was used up.
    """
    end, left = 0, MAX_STARTS * (len(text) + 1)
    for match in (re.compile(f"{_BEGINS.pattern}|{begins.pattern}") if begins else _BEGINS).finditer(text):
        start = match.start()
        if start < end:
            continue  # Inside a value that was read.
        if left <= 0:
            raise TooManyStartsError("too many brackets in the text that begin no JSON")
        try:
            value, end = read(text, start)
            yield Inside(shallow(value), start, end)
        except NotJsonError:
            continue  # Too deep: what stands in it is no value of the text's own.
        except json.JSONDecodeError as error:
            # Of a text without an end, the position is its beginning. The error counts the lines before it.
            left -= len(text) if error.msg.startswith("Unterminated") else 1 + error.pos - start + start // 32
        except (ValueError, RecursionError):
            left -= len(text)


def _longest_inside(text: str) -> Any:
    longest = Inside(None, 0, 0)
    try:
        for found in values_inside(text):
            if found.end - found.start > longest.end - longest.start:
                longest = found
    except TooManyStartsError:
        pass  # The longest of those before.
    if not longest.end:
        raise NotJsonError("no JSON object or list in the text")
    return longest.value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
_BEGINS = re.compile(r"\{(?=\s*[\"}])|\[(?=\s*[\]\[{\"\-0-9A-Za-z_])")
"""An object, or a list, which may also be one of calls in Python's spelling."""
_GAP = re.compile(r"[\s;]*")


def shallow(value: Any) -> Any:
    """The value as it is.

    Raises:
        NotJsonError: it is nested deeper than `MAX_DEPTH`.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inside: list[Any] = []
        for entry in level:
            inside.extend(entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ())
        if not inside:
            return value
        level = inside
    raise NotJsonError(f"nested deeper than {MAX_DEPTH}")


# What counts as equal

CLOSING = " .!?\u2026\u3002\uff61\u0964\u061f\u06d4"
"""Marks that may close a sentence: besides . ! ? the ellipsis, and the full stops of Chinese, Japanese, Hindi, Urdu."""
ALIKE = (
    {0xFEE0 + code: code for code in range(0x21, 0x7F)}  # Full-width forms.
    | dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b"), "'")
    | dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f"), '"')
    | dict.fromkeys(map(ord, "\ufeff\u200b\u2060\u00ad"))  # A byte order mark and others that nobody sees.
)
"""Characters that are written for others: the same letter, quote or nothing to a reader."""


def canonical_json(value: Any, *, strict: bool = False) -> str:
    """Equal answers give equal text: keys sorted, 1.0 as 1, strings as by `canonical_text`. true is not 1.

    With `strict`, strings stay as they are.
    """
    return json.dumps(_canonical(value, strict), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _canonical(value: Any, strict: bool) -> Any:
    if isinstance(value, str):
        return value if strict else canonical_text(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(entry, strict) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry, strict) for entry in value]
    return value


def folded_text(text: str) -> str:
    """NFC, white space collapsed, case folded; curly quotes as straight, full-width letters as usual ones."""
    plain = unicodedata.normalize("NFC", text.translate(ALIKE)).casefold()
    return " ".join(unicodedata.normalize("NFC", plain).split())


def canonical_text(text: str, *, strict: bool = False) -> str:
    """As `folded_text`, and closing marks left out (unless nothing else is there).

    With `strict`, as it is, without white space around.
    """
    if strict:
        return text.strip()
    folded = folded_text(text)
    return folded.rstrip(CLOSING) or folded
