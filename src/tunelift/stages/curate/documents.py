"""Rows out of text that is more than one JSON object a line: a JSON list, or CSV."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import orjson

from tunelift.errors import UserError
from tunelift.stages.curate.rows import Quarantined, RawRow

LIST_KEYS = ("data", "train")
"""Where a JSON object may hold the list of rows."""
DEEPEST = 200
"""Levels that a row may have: orjson writes 254, and rows are written inside other objects."""
_DIGITS = bytes(ord("0") if chr(code) in "0123456789" else ord(" ") for code in range(256))
_ESCAPED_KEY_END, _SPACED_KEY_END = '\\":', re.compile(r'"[ \t\r\n]+:')
NESTED = ("nested_too_deep", f"the row is nested more than {DEEPEST} levels deep")
"""Reason and detail of a row that has more."""


def row(file: str, line: int, value: Any, data: bytes, raw: str) -> RawRow | Quarantined:
    """A value parsed from `data` as a row, if it is an object, and can be written again as it stands there."""
    fault = _fault(value, data)
    return Quarantined(file, line, "$", *fault, raw) if fault else RawRow(file, line, value, raw)


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
    if not isinstance(value, dict):
        return "not_an_object", f"the row is {kind(value)}, not an object"
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


def from_json(content: bytes, file: str, where: str) -> Iterator[RawRow | Quarantined]:
    """Rows of a JSON list, or of the one list under `data` or `train` in an object.

    `line` is the line on which an element begins; if several begin on one line, it is the element's number, since a
    row's place must be its own.

    Raises:
        UserError: the document is no JSON, or holds no such list.
    """
    # Bytes that are no UTF-8 survive as surrogates, so that they cost their own row only.
    text = content.decode("utf-8", errors="surrogateescape")
    elements = list(_elements(text, _list_key(text, where), where))
    own_lines = len({line for line, _, _ in elements}) == len(elements)
    for number, (line, value, piece) in enumerate(elements, start=1):
        place = line if own_lines else number
        data = piece.encode("utf-8", errors="surrogateescape")
        raw = data.decode("utf-8", errors="backslashreplace")
        yield row(file, place, value, data, raw)


def _list_key(text: str, where: str) -> str | None:
    """Check the document and find its list: the key that holds it, or none if the document is the list."""
    remedy = "Correct it there; if the file holds one JSON object a line, name it .jsonl."
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}:{error.colno}"
        raise UserError(
            f"The file is not JSON: {error.msg.removesuffix(' starting at')}.", where=place, remedy=remedy
        ) from error
    except (ValueError, RecursionError) as error:
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


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


_BLANK = re.compile(r"[ \t\r\n]*")


def _elements(text: str, key: str | None, where: str) -> Iterator[tuple[int, Any, str]]:
    """Line, value and text of each element of the list; `text` is known to be well-formed."""
    decode = json.JSONDecoder().raw_decode

    def skip(position: int) -> int:
        blank = _BLANK.match(text, position)
        return blank.end() if blank else position

    position = skip(0)
    if key is not None:
        name = None
        while name != key or text[position] != "[":  # From "{" or a member's value on to the next member's value.
            if name is not None:
                position = skip(decode(text, position)[1])
            name, position = decode(text, skip(position + 1))
            position = skip(skip(position) + 1)
    line, counted = 1, 0
    position = skip(position + 1)
    while text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        value, end = decode(text, position)
        yield line, value, text[position:end]
        position = skip(end)
        if text[position] == ",":
            position = skip(position + 1)
    while key is not None and text[position := skip(position + 1)] == ",":
        name, position = decode(text, skip(position + 1))
        if name == key:
            raise UserError(
                f"The key {key!r} stands twice, and only one list would be read.",
                where=where,
                remedy="Put the rows into one list.",
            )
        position = decode(text, skip(skip(position) + 1))[1] - 1


class _Lines:
    """Decoded lines for the CSV reader; remembers those of the record being read."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = iter(stream)
        self.number = 0
        self.taken: list[bytes] = []
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._stream)
        except StopIteration:
            self.ended = True
            raise
        self.number += 1
        self.taken.append(line)
        return line.decode("utf-8", errors="surrogateescape")


def from_csv(stream: Iterable[bytes], file: str, where: str) -> Iterator[RawRow | Quarantined]:
    """Rows of a CSV file with a header; fields are separated by what its first line has most of: comma, semicolon, tab.

    Raises:
        UserError: the header is unusable, or a quoted field is never closed, which would swallow the rows after it.
    """
    csv.field_size_limit(sys.maxsize)
    lines = _Lines(stream)
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UserError(
            f"The header cannot be read: {error}.",
            where=f"{where}:1",
            remedy="Quote its names as CSV wants, or not at all.",
        ) from error
    lines.taken.clear()
    _check_header(header, where)
    while True:
        start = lines.number + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.ended:
                raise UserError(
                    "A quoted field that begins here is never closed.",
                    where=f"{where}:{start}",
                    remedy='Close it with ".',
                ) from error
            yield Quarantined(file, start, "$", "invalid_csv", str(error), _raw(lines))
        else:
            if record:
                yield _record(file, start, header, record, lines)
        lines.taken.clear()


def _check_header(header: list[str], where: str) -> None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(
            f"The header names {', '.join(map(repr, repeated))} more than once.",
            where=f"{where}:1",
            remedy="Name each column once.",
        )
    try:
        "".join(header).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            "The header is not UTF-8.", where=f"{where}:1", remedy="Convert the file to UTF-8, with iconv for example."
        ) from error


def _record(file: str, line: int, header: list[str], record: list[str], lines: _Lines) -> RawRow | Quarantined:
    raw = _raw(lines)
    try:
        b"".join(lines.taken).decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(file, line, error, raw)
    if len(record) != len(header):
        detail = f"the record has {len(record)} fields, the header has {len(header)}"
        return Quarantined(file, line, "$", "wrong_columns", detail, raw)
    return RawRow(file, line, dict(zip(header, record, strict=True)), raw)


def _raw(lines: _Lines) -> str:
    return b"".join(lines.taken).decode("utf-8", errors="backslashreplace").rstrip("\r\n")
