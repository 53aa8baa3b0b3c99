"""How an answer is judged: pure functions from an output and an item to a score in [0, 1]. None raises on any output.

The output is taken as it came: no code fence is forgiven, nothing is fished out of surrounding text.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task

VERSION = 1
"""Part of the scorers' digest: raise it when a score can come out differently, so that old ones are not compared."""

MAX_DEPTH = 64
"""JSON nested deeper counts as invalid, as RFC 8259 section 9 lets a parser decide."""


class NotJsonError(ValueError):
    """The text is not exactly one JSON value."""


def parse_json(text: str) -> Any:
    """The one JSON value that the text is, white space around it aside.

    Raises:
        NotJsonError: anything else, including NaN, Infinity, numbers too large for a double, a key twice in one
            object, and nesting deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(
            text.strip(" \t\r\n"), object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error)) from error
    if _deeper_than(value, MAX_DEPTH):
        raise NotJsonError(f"nested deeper than {MAX_DEPTH}")
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


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        inside: list[Any] = []
        for entry in level:
            inside.extend(entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ())
        if not inside:
            return False
        level = inside
    return True


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


def canonical_text(text: str) -> str:
    """NFC, white space collapsed, case folded, closing . ! ? left out (unless nothing else is there)."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    collapsed = " ".join(folded.split())
    return collapsed.rstrip(" .!?") or collapsed


def exact_match(output: str, item: Item, task: Task) -> float:
    """The output equals an accepted answer, after canonicalisation; a textual answer is compared as plain text."""
    try:
        given = canonical_json(parse_json(output))
    except NotJsonError:
        given = None
    text = canonical_text(output)
    return float(
        any(
            text == canonical_text(right) if isinstance(right, str) else given == canonical_json(right)
            for right in item.accepted
        )
    )


def valid_json(output: str, item: Item, task: Task) -> float:
    """The output is one JSON value and nothing else."""
    try:
        parse_json(output)
    except NotJsonError:
        return 0.0
    return 1.0


def schema_valid(output: str, item: Item, task: Task) -> float:
    """The output calls a known tool with arguments that its schema allows, or is {"tool": null}."""
    call = _json_object(output)
    if call is None or "tool" not in call:
        return 0.0
    if call["tool"] is None:
        return float(call == {"tool": None})
    schema = argument_schema(task, call["tool"])
    if schema is None or set(call) != {"tool", "arguments"}:
        return 0.0
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    try:
        validator.validate(call["arguments"])
    except ValidationError:
        return 0.0
    return 1.0


def argument_schema(task: Task, name: Any) -> dict[str, Any] | None:
    """The JSON schema of a tool's arguments; None for a tool that the task does not have."""
    for tool in task.tools or ():
        described = tool.get("function", tool)
        if described.get("name") == name:
            return dict(described.get("parameters", {}))
    return None


def right_tool(output: str, item: Item, task: Task) -> float:
    """The output names the tool of an accepted answer (null included), whatever the arguments."""
    call = _json_object(output)
    if call is None or "tool" not in call:
        return 0.0
    return float(
        any(isinstance(right, dict) and "tool" in right and right["tool"] == call["tool"] for right in item.accepted)
    )


def field_f1(output: str, item: Item, task: Task) -> float:
    """F1 over (path, value) pairs, against the accepted answer that it fits best. Two empty objects fit."""
    try:
        parsed = [parse_json(output)]
    except NotJsonError:
        parsed = []
    given = [set(_pairs(value)) for value in parsed]
    text = [set(_pairs(output))]
    return max(
        (
            _f1(pairs, set(_pairs(right)))
            for right in item.accepted
            for pairs in (text if isinstance(right, str) else given)
        ),
        default=0.0,
    )


def _pairs(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _pairs(entry, (*path, key))
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield from _pairs(entry, (*path, position))
    else:
        yield path, canonical_json(value)


def _f1(given: set[Any], expected: set[Any]) -> float:
    if not given and not expected:
        return 1.0
    return 2 * len(given & expected) / (len(given) + len(expected))


def _json_object(output: str) -> dict[str, Any] | None:
    try:
        value = parse_json(output)
    except NotJsonError:
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True)
class Scorer:
    """A function of (output, item, task), and which statistics its scores get."""

    kind: Literal["binary", "graded"]
    function: Callable[[str, Item, Task], float]
    needs_tools: bool = False


SCORERS: dict[str, Scorer] = {
    "exact_match": Scorer("binary", exact_match),
    "valid_json": Scorer("binary", valid_json),
    "schema_valid": Scorer("binary", schema_valid, needs_tools=True),
    "right_tool": Scorer("binary", right_tool),
    "field_f1": Scorer("graded", field_f1),
}
"""By the name that task files use."""


def score(output: str, item: Item, task: Task) -> dict[str, float]:
    """All of the task's scores for one output."""
    return {name: SCORERS[name].function(output, item, task) for name in task.scorers}
