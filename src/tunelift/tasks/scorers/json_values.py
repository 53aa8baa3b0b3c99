"""JSON as scorers read it: strict, canonical where it is compared, found inside other text where that is asked for."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any, Literal

from tunelift.config.section import Section

MAX_DEPTH = 64
"""JSON nested deeper counts as invalid, as RFC 8259 section 9 lets a parser decide."""
MAX_STARTS = 64
"""Places in a text at which JSON is looked for, so that hostile text costs no quadratic time."""

Find = Literal["only", "anywhere"]
"""`only`: the output is the answer and nothing else; `anywhere`: the answer may stand in a code fence or other text."""


class JsonOptions(Section):
    """Options of scorers that read JSON."""

    find: Find = "only"
    """`only`: the output is JSON and nothing else; `anywhere`: the longest JSON value in it, code fence or not."""


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


def _longest_inside(text: str) -> Any:
    longest, value, end, tried = 0, None, 0, 0
    for match in re.finditer(r"[\[{]", text):
        start = match.start()
        if start < end:
            continue  # Inside a value that was read.
        tried += 1
        if tried > MAX_STARTS:
            break
        try:
            found, end = _DECODER.raw_decode(text, start)
            shallow(found)
        except (ValueError, RecursionError):
            continue
        if end - start > longest:
            longest, value = end - start, found
    if not longest:
        raise NotJsonError("no JSON object or list in the text")
    return value


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


def canonical_json(value: Any) -> str:
    """Equal answers give equal text: keys sorted, 1.0 as 1, strings as by `canonical_text`. true is not 1."""
    return json.dumps(_canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return canonical_text(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return value


def folded_text(text: str) -> str:
    """NFC, white space collapsed, case folded."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def canonical_text(text: str) -> str:
    """As `folded_text`, and closing . ! ? left out (unless nothing else is there)."""
    folded = folded_text(text)
    return folded.rstrip(" .!?") or folded
