"""Which format a source's rows are of: found in the first ones, by their fields, under the names that it gives them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

from tunelift.config.curation import SourceConfig, SourceFormat
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.stages.curate.documents import parse
from tunelift.stages.curate.formats import FIELDS, TURN_FIELDS, parsed_json, renamed
from tunelift.stages.curate.rows import Line, Quarantined, RawRow

DETECTION_ROWS = 50
FIELD_ROWS = 10_000
"""Rows in which a field that `fields` names must stand at least once: optional ones may be rare."""
DESCRIBED = {
    "alpaca": "instruction, output (and input, system, history)",
    "sharegpt": "conversations of from and value (and system, tools)",
    "messages": "messages of role and content (and system, tools, functions)",
    "prompt_completion": "prompt, completion (and system, tools)",
}


def detect(
    source: SourceConfig, rows: Iterator[RawRow | Quarantined | Line]
) -> tuple[SourceFormat | None, Iterable[RawRow | Quarantined | Line]]:
    """Find a source's format in its first rows; all rows come back, those that were looked at parsed.

    None if no row could be read.

    Raises:
        UserError: the fields are of no known format, or `fields` names one that the format or the rows do not have.
    """
    possible = _possible(source)
    if source.format != "auto" and not source.fields:
        return source.format, rows
    seen: list[RawRow | Quarantined] = []
    first: list[RawRow] = []
    missing = set(source.fields.values())
    for item in rows:
        row = parse(item) if isinstance(item, Line) else item
        seen.append(row)
        if isinstance(row, RawRow):
            first.append(row)
            missing -= row.value.keys()
        if len(first) >= (FIELD_ROWS if missing else DETECTION_ROWS):
            break
    if first and missing:
        raise _no_such_field(source, missing, first)
    back = chain(seen, rows)
    if source.format != "auto" or not first:
        return (None if source.format == "auto" else source.format), back
    first = first[:DETECTION_ROWS]
    votes = Counter(shape for row in first if (shape := shape_of(renamed(row.value, source.fields), possible)))
    if not votes:
        raise _unknown_format(source, first)
    shape, count = votes.most_common(1)[0]
    console.say(f"{source.path}: {shape} ({count} of the first {len(first)} rows)")
    return shape, back


def shape_of(row: dict[str, Any], possible: Collection[SourceFormat] = tuple(FIELDS)) -> SourceFormat | None:
    """The one of the possible formats that a row's fields speak for."""
    return next((shape for shape in _shapes(row) if shape in possible), None)


def _shapes(row: dict[str, Any]) -> Iterator[SourceFormat]:
    for field in TURN_FIELDS:
        turns = parsed_json(row.get(field))
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            if "from" in turns[0]:
                yield "sharegpt"
            if "role" in turns[0]:
                yield "messages"
    if row.keys() >= {"prompt", "completion"}:
        yield "prompt_completion"
    if row.keys() >= {"instruction", "output"}:
        yield "alpaca"


def _possible(source: SourceConfig) -> list[SourceFormat]:
    """The formats that have all the fields which the source renames."""
    among: list[SourceFormat] = list(FIELDS) if source.format == "auto" else [source.format]
    known = {name for shape in among for name in FIELDS[shape]}
    wrong = next((name for name in source.fields if name not in known), None)
    possible = [shape for shape in among if source.fields.keys() <= set(FIELDS[shape])]
    if wrong is None and possible:
        return possible
    turned = wrong is not None and source.fields[wrong] in known
    names = wrong if wrong is not None else ", ".join(source.fields)
    has = "; ".join(f"{shape}: {', '.join(FIELDS[shape])}" for shape in among)
    raise UserError(
        f"fields names {names}, "
        + ("which is no field of " if wrong is not None else "which belong to different formats, not to one of ")
        + ("any format." if wrong is not None and len(among) > 1 else f"{', '.join(among)}."),
        where=source.path,
        remedy=f"Turn it round: the format's name comes first, {{{source.fields[str(wrong)]}: {wrong}}}."
        if turned
        else f"Name fields of one format. {has}.",
    )


def _no_such_field(source: SourceConfig, missing: set[str], rows: list[RawRow]) -> UserError:
    ours, theirs = next((ours, theirs) for ours, theirs in source.fields.items() if theirs in missing)
    fields = list(Counter(field for row in rows for field in row.value))
    near = difflib.get_close_matches(theirs, fields, n=1)
    return UserError(
        f"fields says that {theirs!r} is the rows' {ours}, but "
        + (f"none of the first {len(rows):,} rows has it." if len(rows) >= FIELD_ROWS else "no row has it."),
        where=source.path,
        remedy=f"Did you mean {near[0]!r}?" if near else f"The rows' fields are {_listed(fields)}.",
    )


def _unknown_format(source: SourceConfig, rows: list[RawRow]) -> UserError:
    fields = [field for field, _ in Counter(field for row in rows for field in row.value).most_common()]
    header = " If these are values, the file lacks its header line." if ".csv" in source.path.lower() else ""
    accepted = "; ".join(f"{name}: {what}" for name, what in DESCRIBED.items())
    return UserError(
        f"The rows are of no known format; their fields are {_listed(fields)}.{header}",
        where=source.path,
        remedy="Say which field is which, as in fields: {prompt: question, completion: answer}, or rename them. "
        f"{accepted}.",
    )


def _listed(fields: list[str]) -> str:
    return ", ".join(repr(field if len(field) <= 40 else field[:40] + "…") for field in fields[:12]) or "(none)"
