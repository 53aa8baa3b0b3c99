"""Rows out of text: what makes JSON a row, and where rows stand in a JSON list."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from tunelift.errors import UserError
from tunelift.stages.curate.rows import Line, Quarantined, RawRow

LIST_KEYS = ("data", "train")
"""Where a JSON object may hold the list of rows."""
TURNS = {"messages": ("role", "content"), "conversations": ("from", "value")}
"""Under which name a list of turns stands in a row, and what its turns have."""
DEEPEST = 200
"""Levels that a row may have: orjson writes 254, and rows are written inside other objects."""
_DIGITS = bytes(ord("0") if chr(code) in "0123456789" else ord(" ") for code in range(256))
_ESCAPED_KEY_END, _SPACED_KEY_END = '\\":', re.compile(r'"[ \t\r\n]+:')
NESTED = ("nested_too_deep", f"the row is nested more than {DEEPEST} levels deep")
"""Reason and detail of a row that has more."""


def parse(line: Line, begins: tuple[int, int] | None = None) -> RawRow | Quarantined:
    """A row's JSON as a row, or why it is none; `begins` are line and column where that is not the line's beginning."""
    raw = line.data.decode("utf-8", errors="backslashreplace")
    try:
        value = orjson.loads(line.data)
    except orjson.JSONDecodeError as error:
        try:
            line.data.decode("utf-8")
        except UnicodeDecodeError as wrong:
            return not_utf8(line.file, line.line, wrong, raw)
        if error.msg.startswith("depth limit"):
            return Quarantined(line.file, line.line, "$", *NESTED, raw)
        if objects := glued_objects(raw):
            detail = f"{objects} objects stand on one line: the second begins at column {error.colno}"
            return Quarantined(line.file, line.line, "$", "several_objects", detail, raw)
        detail = f"{error.msg}, at {_where(error, begins)}"
        return Quarantined(line.file, line.line, "$", "invalid_json", detail, raw)
    return row(line.file, line.line, value, line.data, raw)


def _where(error: orjson.JSONDecodeError, begins: tuple[int, int] | None) -> str:
    if begins is None:
        return f"column {error.colno}"
    line, column = begins
    return f"line {line + error.lineno - 1}, column {error.colno + (column - 1 if error.lineno == 1 else 0)}"


def row(file: str, line: int, value: Any, data: bytes, raw: str) -> RawRow | Quarantined:
    """A value parsed from `data` as a row, if it is an object, and can be written again as it stands there."""
    if fault := _fault(value, data):
        return Quarantined(file, line, "$", *fault, raw)
    value = _conversation(value)
    if not isinstance(value, dict):
        return Quarantined(file, line, "$", "not_an_object", f"the row is {kind(value)}, not an object", raw)
    return RawRow(file, line, value, raw)


def _conversation(value: Any) -> Any:
    """A list of turns under the name that its format has for it; any other value as it is."""
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        for name, (who, what) in TURNS.items():
            if all(who in turn and (what in turn or "tool_calls" in turn) for turn in value):
                return {name: value}
    return value


def _fault(value: Any, data: bytes) -> tuple[str, str] | None:
    if nested_too_deep(value, data):
        return NESTED
    text = data.decode("utf-8", errors="surrogateescape")
    try:
        # An integer beyond 64 bits, which orjson reads as a float, and bytes that are no UTF-8 cannot be written.
        orjson.dumps(json.loads(text) if holds_long_integer(data) else value)
    except TypeError as error:
        return "not_utf8" if "UTF-8" in str(error) else "invalid_json", str(error)
    if (key := _repeated_key(value, text)) is not None:
        return "invalid_json", f"the key {key!r} stands twice in one object"
    return None


def _repeated_key(value: Any, text: str) -> str | None:
    """A key that one object of the text has twice; `value` has it once."""
    ends = text.count('":') + len(_SPACED_KEY_END.findall(text))
    if '\\\\"' not in text:  # There the backslash before a quote may be the text's own; a count too high does no harm.
        ends -= text.count(_ESCAPED_KEY_END)
    if ends <= _num_keys(value):
        return None
    twice: list[str] = []

    def note(members: list[tuple[str, Any]]) -> None:
        names = Counter(name for name, _ in members)
        twice.extend(name for name, count in names.items() if count > 1)

    json.loads(text, object_pairs_hook=note)  # It may also be a text that begins with a colon.
    return next(iter(twice), None)


def _num_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_num_keys, value.values()))
    return sum(map(_num_keys, value)) if isinstance(value, list) else 0


def holds_long_integer(text: bytes) -> bool:
    """Whether the text has 19 digits in a row, as every integer beyond 64 bits has: a tenth of a regex's time."""
    return b"0" * 19 in text.translate(_DIGITS)


def nested_too_deep(value: Any, text: bytes) -> bool:
    """Whether a value, parsed from `text`, has more levels than can be written again."""
    if text.count(b"[") + text.count(b"{") <= DEEPEST:  # So it is for nearly all rows, at the speed of memchr.
        return False
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def not_utf8(file: str, line: int, error: UnicodeDecodeError, raw: str) -> Quarantined:
    """A row with bytes that are no UTF-8."""
    detail = f"byte 0x{error.object[error.start]:02x} at position {error.start + 1} is not UTF-8"
    return Quarantined(file, line, "$", "not_utf8", detail, raw)


def kind(value: Any) -> str:
    """A JSON value's type in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


_READER = json.JSONDecoder(parse_int=float)
"""Finds where values end. Python's integers have a limit, beyond which it would refuse the file."""


def glued_objects(text: str) -> int:
    """How many JSON objects stand one after the other, which joined files lack a line break between; 0 if not so."""
    position = count = 0
    try:
        while position < len(text):
            value, position = _READER.raw_decode(text, _skip(text, position))
            if not isinstance(value, dict):
                return 0
            count += 1
    except (ValueError, RecursionError):
        return 0
    return count if count > 1 else 0


def from_json(content: bytes, file: str, where: str) -> Iterator[RawRow | Quarantined]:
    """Rows of a JSON list, or of the one list under `data` or `train` in an object.

    `line` is the line on which an element begins; if several begin on one line, it is the element's number, since a
    row's place must be its own.

    Raises:
        UserError: the document is no JSON, or holds no such list.
    """
    # Bytes that are no UTF-8 survive as surrogates, so that they cost their own row only; so do NaN and Infinity.
    text = content.decode("utf-8", errors="surrogateescape")
    elements = list(_elements(text, _list_key(text, where), where))
    own_lines = len({line for (line, _), _, _ in elements}) == len(elements)
    for number, (begins, start, end) in enumerate(elements, start=1):
        data = text[start:end].encode("utf-8", errors="surrogateescape")
        yield parse(Line(file, begins[0] if own_lines else number, data), begins)


def _list_key(text: str, where: str) -> str | None:
    """Check the document and find its list: the key that holds it, or none if the document is the list."""
    remedy = "Correct it there; if the file holds one JSON object a line, name it .jsonl."
    try:
        document = _READER.decode(text)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}:{error.colno}"
        raise UserError(
            f"The file is not JSON: {error.msg.removesuffix(' starting at')}.", where=place, remedy=remedy
        ) from error
    except RecursionError as error:
        raise UserError(f"The file is not usable JSON: {error}.", where=where, remedy=remedy) from error
    if isinstance(document, list):
        return None
    keys = [key for key in LIST_KEYS if isinstance(document, dict) and isinstance(document.get(key), list)]
    if len(keys) == 1:
        return keys[0]
    held = kind(document)
    if isinstance(document, dict):
        held += f" with the keys {', '.join(map(repr, list(document)[:8])) or '(none)'}"
    raise UserError(
        f"The file holds {held}, not a list of rows.",
        where=where,
        remedy="Put the rows into a JSON list, or into one list under the key 'data' or 'train'.",
    )


_BLANK = re.compile(r"[ \t\r\n]*")


def _skip(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


def _elements(text: str, key: str | None, where: str) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Line and column, start and end of each element of the list; `text` is known to be well-formed."""
    decode = _READER.raw_decode
    position = _skip(text, 0)
    if key is not None:
        name = None
        while name != key or text[position] != "[":  # From "{" or a member's value on to the next member's value.
            if name is not None:
                position = _skip(text, decode(text, position)[1])
            name, position = decode(text, _skip(text, position + 1))
            position = _skip(text, _skip(text, position) + 1)
    line, counted, before = 1, 0, -1
    position = _skip(text, position + 1)
    while text[position] != "]":
        line, before = line + text.count("\n", counted, position), max(before, text.rfind("\n", counted, position))
        counted = position
        _, end = decode(text, position)
        yield (line, position - before), position, end
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    while key is not None and text[position := _skip(text, position + 1)] == ",":
        name, position = decode(text, _skip(text, position + 1))
        if name == key:
            raise UserError(
                f"The key {key!r} stands twice, and only one list would be read.",
                where=where,
                remedy="Put the rows into one list.",
            )
        position = decode(text, _skip(text, _skip(text, position) + 1))[1] - 1
