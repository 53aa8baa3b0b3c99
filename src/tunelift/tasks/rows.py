"""The rows of a task's data, from JSON Lines or a data set of the hub, checked one by one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunelift.errors import UserError
from tunelift.runtime import hub
from tunelift.tasks.folder import HubFile, TaskFile
from tunelift.tasks.scorers.base import read_text
from tunelift.tasks.scorers.json_values import NotJsonError, shallow

SHAPES = {
    "generate": '{"id": …, "accepted": […], …}',
    "choice": '{"id": …, "choices": […], "right": 0, …}',
    "perplexity": '{"id": …, "text": …}',
}
"""What a row of each kind of task holds at least."""


@dataclass(frozen=True)
class Row:
    """One row, under our names for its fields."""

    content: dict[str, Any]
    where: str
    """File and line, or data set and row."""

    @property
    def id(self) -> str:
        """Its name in the task."""
        return str(self.content["id"])


def read_rows(folder: Path, described: TaskFile) -> tuple[list[Row], list[UserError]]:
    """The sound rows in their order, and what is wrong with the others.

    Raises:
        UserError: the data as a whole cannot be read, or holds nothing.
    """
    source = _from_hub(described.hub) if described.hub else _from_lines(folder / described.items)
    rows: list[Row] = []
    problems: list[UserError] = []
    seen: dict[str, str] = {}
    for found in source:
        try:
            row = _checked(found, described) if isinstance(found, Row) else found
            if isinstance(row, UserError):
                raise row
            _refuse_twice(row, seen)
        except UserError as problem:
            problems.append(problem)
        else:
            rows.append(row)
    if not rows and not problems:
        raise UserError(
            "There is no item.",
            where=described.hub.id if described.hub else str(folder / described.items),
            remedy=f"Write one JSON object a line: {SHAPES[described.kind]}.",
        )
    return rows, problems


def _refuse_twice(row: Row, seen: dict[str, str]) -> None:
    first = seen.setdefault(row.id, row.where)
    if first != row.where:
        raise UserError(
            f"The id {row.id!r} is that of {first} already.",
            where=row.where,
            remedy="Give each item an id of its own.",
        )


def _from_lines(path: Path) -> Iterator[Row | UserError]:
    import orjson

    text = read_text(path, "Correct `items:` in task.yaml.")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            content = shallow(orjson.loads(line))
        except (orjson.JSONDecodeError, NotJsonError) as error:
            remedy = "Correct the line; each line is one whole JSON object."
            yield UserError(f"This is no JSON: {error}.", where=where, remedy=remedy)
            continue
        if not isinstance(content, dict):
            yield UserError("The line is no JSON object.", where=where, remedy='Write {"id": …, …}.')
        elif (digits := _too_long(line)) is not None:
            yield UserError(f"The integer {digits} is beyond 64 bits.", where=where, remedy="Write it as a text.")
        else:
            yield Row(content, where)


TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')
LONG_INTEGER = re.compile(r"(?<![\d.eE+-])-?[0-9]{19,}(?![\d.eE])")


def _too_long(line: str) -> str | None:
    """An integer of a JSON line that orjson makes a float of, so that no answer could equal it."""
    found = LONG_INTEGER.findall(TEXTS.sub("", line)) if LONG_INTEGER.search(line) else ()
    return next((digits for digits in found if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64), None)


def _from_hub(source: HubFile) -> Iterator[Row]:
    where = f"hub:{source.id}"
    with hub.explained(
        "data set",
        where,
        revision=source.revision,
        field="hub.revision",
        otherwise="save its rows as JSON Lines and name the file as `items:`",
    ):
        from datasets import load_dataset

        try:
            loaded = load_dataset(source.id, source.config, split=source.split, revision=source.revision)
        except (ValueError, KeyError) as error:  # What `datasets` says of an unknown config or split.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UserError(
                f"The data set cannot be loaded: {reason}.",
                where=where,
                remedy="Check hub.config and hub.split in task.yaml.",
            ) from error
    for number, content in enumerate(loaded, start=1):
        yield Row({"id": f"row-{number}", **_row_without_nulls(content)}, f"{where}:{number}")


def _row_without_nulls(content: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the nulls that Arrow puts into inner objects to give all of a column the same keys."""
    return {name: _without_nulls(value) for name, value in content.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [_without_nulls(entry) for entry in value] if isinstance(value, list) else value


# Checks


def _checked(row: Row, described: TaskFile) -> Row:
    row = replace(row, content=_renamed(row, described.fields))
    content = row.content
    if not isinstance(content.get("id"), str) or not content["id"]:
        raise UserError(
            "The item has no `id` that is a text.", where=row.where, remedy="Give it one that no other item has."
        )
    tags = content.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UserError(f"tags={tags!r} is no list of texts.", where=row.where, remedy='Write "tags": ["one", "two"].')
    if described.kind == "generate":
        _check_accepted(row)
    elif described.kind == "choice":
        return replace(row, content=content | {"right": _right(row)})
    elif not isinstance(content.get("text"), str) or not content["text"].strip():
        raise UserError("The item has no `text`.", where=row.where, remedy=f"Give it one.{_near(row, 'text')}")
    return row


def _renamed(row: Row, fields: Mapping[str, str]) -> dict[str, Any]:
    """The row with our names added for its columns; a single right answer becomes a list of one."""
    named = dict(row.content)
    for ours, theirs in fields.items():
        value = _column(row, ours, theirs)
        alone = ours == "accepted" and value is not None and not isinstance(value, list)
        named[ours] = [value] if alone else str(value) if ours == "id" and isinstance(value, int) else value
    return named


def _column(row: Row, ours: str, theirs: str) -> Any:
    """A column, or a part of one: `answers.text`."""
    if theirs in row.content:
        return row.content[theirs]
    value: Any = row.content
    for part in theirs.split("."):
        if not isinstance(value, dict) or part not in value:
            raise UserError(
                f"There is no column {theirs!r}, which `fields:` names for `{ours}`.",
                where=row.where,
                remedy=f"Its columns are {', '.join(row.content)}.",
            )
        value = value[part]
    return value


def _check_accepted(row: Row) -> None:
    accepted = row.content.get("accepted")
    if accepted is None and "accepted" in row.content:
        raise UserError("The item has no answer: it is null.", where=row.where, remedy="Give it one, or take it out.")
    if not isinstance(accepted, list) or not accepted:
        raise UserError(
            "The item has no list `accepted` of right answers.",
            where=row.where,
            remedy=f"Add at least one right answer.{_near(row, 'accepted')}",
        )


def _right(row: Row) -> int:
    choices: Any = row.content.get("choices")
    right = row.content.get("right")
    sound = isinstance(choices, list) and all(isinstance(choice, str) and choice.strip() for choice in choices)
    if not sound or len(choices) < 2:
        raise UserError(
            "The item has no list `choices` of at least two texts.",
            where=row.where,
            remedy=f"Write {SHAPES['choice']}.{_near(row, 'choices')}",
        )
    meanings = set(_meanings(right, choices))
    if len(meanings) != 1:
        raise UserError(
            f"right={right!r} "
            + ("may mean more than one" if meanings else "is none")
            + f" of the {len(choices)} choices.",
            where=row.where,
            remedy=f"Give the number of the right one, from 0 to {len(choices) - 1}.{_near(row, 'right')}",
        )
    return meanings.pop()


def _meanings(right: Any, choices: list[str]) -> Iterator[int]:
    """`right` as data sets write it: a number from 0, such a number as text, a letter, or the choice's own text."""
    if isinstance(right, int) and not isinstance(right, bool) and 0 <= right < len(choices):
        yield right
    if isinstance(right, str):
        yield from (number for number, choice in enumerate(choices) if choice == right)
        if re.fullmatch(r"[0-9]{1,2}", right) and int(right) < len(choices):
            yield int(right)
        if re.fullmatch(r"[A-Z]", right) and ord(right) - ord("A") < len(choices):
            yield ord(right) - ord("A")


def _near(row: Row, wanted: str) -> str:
    near = difflib.get_close_matches(wanted, [name for name in row.content if name != wanted], n=1)
    return f" Is `{near[0]}` meant to be `{wanted}`?" if near and wanted not in row.content else ""
