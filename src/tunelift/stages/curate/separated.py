"""Rows of CSV, and the quotation mark that belongs to a text and not to CSV: it must not swallow the rows after it."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tunelift.errors import UserError
from tunelift.stages.curate.documents import not_utf8
from tunelift.stages.curate.rows import Quarantined, RawRow

ESCAPED = re.compile(r'[^,;\t\r\n"]""|""[^,;\t\r\n"]')
"""A quotation mark inside a field as CSV writes it: who wrote it meant the field to go on over lines."""


@dataclass
class _Lines:
    """Decoded lines for the CSV reader; remembers those of the record being read, which can be put back."""

    stream: Iterator[bytes]
    number: int = 0
    taken: list[bytes] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)
    """Lines put back, the last one first."""
    ended: bool = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.waiting.pop() if self.waiting else next(self.stream, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return _text(line)

    def put_back(self, number: int) -> None:
        """Give the last lines of the record again."""
        kept = len(self.taken) - number
        self.waiting += reversed(self.taken[kept:])
        del self.taken[kept:]
        self.number -= number
        self.ended = False


def from_csv(stream: Iterable[bytes], file: str, where: str) -> Iterator[RawRow | Quarantined]:
    """Rows of a CSV file with a header; fields are separated by what its first line has most of: comma, semicolon, tab.

    Where a quotation mark opens that was meant as a part of the text, its row is quarantined and the next lines are
    read again.

    Raises:
        UserError: the header is unusable, or a quoted field is never closed, which would swallow the rows after it.
    """
    csv.field_size_limit(sys.maxsize)
    lines = _Lines(iter(stream))
    first = next((line for line in lines if line.strip()), "")
    lines.put_back(1 if first else 0)
    lines.taken.clear()
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise UserError(
            f"The header cannot be read: {error}.",
            where=f"{where}:1",
            remedy="Quote its names as CSV wants, or not at all.",
        ) from error
    lines.taken.clear()
    header = [name.strip() for name in names]
    _check_header(header, where)
    rows = _Form(delimiter, len(header), delimiter == "\t" or any(name[:1].isspace() for name in names[1:]))
    while True:
        start, record, fault = lines.number + 1, list[str](), ""
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = str(error)
        unclosed = bool(fault) and lines.ended
        if (len(lines.taken) > 1 or unclosed) and rows.hide_in(lines.taken, broken=bool(fault)):
            yield _stray(file, start, lines, "is never closed" if unclosed else fault and "closes in the wrong place")
        elif unclosed:
            raise UserError(
                "A quoted field that begins here is never closed.", where=f"{where}:{start}", remedy='Close it with ".'
            )
        elif fault:
            yield Quarantined(file, start, "$", "invalid_csv", fault, _raw(lines.taken))
        elif record:
            yield _record(file, start, header, record, lines.taken)
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


def _record(file: str, line: int, header: list[str], record: list[str], taken: Sequence[bytes]) -> RawRow | Quarantined:
    raw = _raw(taken)
    try:
        b"".join(taken).decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(file, line, error, raw)
    if len(record) != len(header):
        detail = f"the record has {len(record)} fields, the header has {len(header)}"
        return Quarantined(file, line, "$", "wrong_columns", detail, raw)
    return RawRow(file, line, dict(zip(header, record, strict=True)), raw)


# --- Stray quotation marks ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """What the lines of rows look like in this file."""

    delimiter: str
    columns: int
    spaced: bool
    """A blank may follow the delimiter. Where it does not, it tells prose from rows."""

    def hide_in(self, taken: Sequence[bytes], broken: bool) -> bool:
        """Whether the mark that opened on the first of these lines belongs to the text: each line is a row without it.

        Of a record that is broken in any case, half of the other lines are enough. A table inside a genuine field has
        more fields on its first or last line, where those of the record come on top.
        """
        fewest, mark = self.columns - 1, self.delimiter.encode()
        if not broken and any(line.count(mark) < fewest for line in taken if line.strip()):
            return False  # Nearly always so, and cheap.
        first, *others = map(_text, taken)
        if self.columns < 2 or not self._is_row(first, open_ended=True):
            return False
        others = [line for line in others if line.strip()]
        rows = sum(self._is_row(line) or (broken and self._is_row(line, open_ended=True)) for line in others)
        return 2 * rows >= len(others) if broken else rows == len(others)

    def _is_row(self, line: str, open_ended: bool = False) -> bool:
        """Whether it is no line of prose: there a blank follows each comma, and one may end the line.

        With `open_ended`, a mark that opens in its last field and stays open is a part of the text.
        """
        fields = self._fields(line)
        if open_ended and fields:
            fields = [*fields[:-1], *fields[-1].split(self.delimiter)]
        if len(fields) != self.columns or ESCAPED.search(line) or (self.columns == 2 and not all(fields)):
            return False
        return self.spaced or not any(one[:1].isspace() for one in fields)

    def _fields(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line.rstrip("\r\n")], delimiter=self.delimiter), [])
        except csv.Error:  # A carriage return inside.
            return []


def _stray(file: str, start: int, lines: _Lines, fault: str) -> Quarantined:
    """The row with the mark. What follows is read again, but for a single line that may as well end a field."""
    last = start + len(lines.taken) - 1
    detail = f"a quotation mark opens on line {start} and {fault or f'closes on line {last}'}"
    if last > start:
        detail += ", but the lines up to there are rows without it"
    if fault or last > start + 1:
        detail += f"; lines {start + 1} to {last} are read as such" if last > start else ""
        lines.put_back(last - start)
    return Quarantined(file, start, "$", "stray_quote", detail, _raw(lines.taken))


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="surrogateescape")


def _raw(taken: Sequence[bytes]) -> str:
    return b"".join(taken).decode("utf-8", errors="backslashreplace").rstrip("\r\n")
