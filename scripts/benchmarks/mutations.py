"""Right and wrong calls to BFCL's questions: what a model might answer, made from the possible answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Arguments = dict[str, Any]
Calls = list[tuple[str, Arguments]]
Values = dict[str, list[Any]]
"""Possible values by parameter; "" among them: it may be left out."""


def outputs(name: str, values: Values, parameters: dict[str, Any]) -> Iterator[tuple[str, Calls]]:
    """Each mutation that this answer allows, with its name; mutations that change nothing are left out."""
    right = chosen(values, 0)
    yield "right: first of the possible values", [(name, right)]
    for label, calls in _whole(name, values, right):
        yield label, calls
    for label, change in CHANGES:
        changed = _change_first(right, values, parameters, change)
        if changed is not None and repr(changed) != repr(right):
            yield label, [(name, changed)]


def chosen(values: Values, position: int, *, optional: bool = True) -> Arguments:
    """Arguments with the first (0) or last (-1) of the possible values; without `optional`, only those it needs."""
    return {
        parameter: _one_of(possible, position)
        for parameter, possible in values.items()
        if any(value != "" for value in possible) and (optional or "" not in possible)
    }


def _one_of(possible: list[Any], position: int) -> Any:
    value = [value for value in possible if value != ""][position]
    if isinstance(value, dict):  # Inside an object, too, values are lists of possible ones.
        return chosen(value, position)
    if isinstance(value, list):
        return [chosen(entry, position) if isinstance(entry, dict) else entry for entry in value]
    return value


def _whole(name: str, values: Values, right: Arguments) -> Iterator[tuple[str, Calls]]:
    variants = {
        "right: last of the possible values": chosen(values, -1),
        "right: without what may be left out": chosen(values, 0, optional=False),
        "right: parameters in another order": dict(reversed(right.items())),
    }
    for label, arguments in variants.items():
        if list(arguments.items()) != list(right.items()):
            yield label, [(name, arguments)]
    yield "no call", []
    yield "the call twice", [(name, right), (name, right)]
    yield "another name", [(f"{name}_2", right)]
    yield "name in capitals", [(name.upper(), right)]
    yield "a parameter too many", [(name, {**right, "verbose": True})]
    for parameter, possible in values.items():
        if "" not in possible and parameter in right:
            yield "a parameter missing", [(name, {k: v for k, v in right.items() if k != parameter})]
            return


Change = Callable[[Any, str, list[Any]], Any]
"""From a right value, its type in the schema and all possible values to another value, or `SAME`."""
SAME = object()


def _change_first(right: Arguments, values: Values, parameters: dict[str, Any], change: Change) -> Arguments | None:
    """The arguments with the first one changed that the change applies to."""
    for parameter, value in right.items():
        changed = change(value, parameters[parameter]["type"], values[parameter])
        if changed is not SAME:
            return {**right, parameter: changed}
    return None


def _text(rewrite: Callable[[str], str]) -> Change:
    return lambda value, kind, possible: rewrite(value) if isinstance(value, str) and value else SAME


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _other_value(value: Any, kind: str, possible: list[Any]) -> Any:
    if isinstance(value, bool):
        return not value if (not value) not in possible else SAME
    if _number(value):
        return value + 1 if value + 1 not in possible else SAME
    return f"{value} indeed" if isinstance(value, str) else SAME


def _list(rewrite: Callable[[list[Any]], list[Any]]) -> Change:
    return lambda value, kind, possible: rewrite(value) if isinstance(value, list) and value else SAME


def _object(rewrite: Callable[[Arguments], Arguments]) -> Change:
    return lambda value, kind, possible: rewrite(value) if isinstance(value, dict) and value else SAME


def _when(condition: Callable[[Any, str], bool], rewrite: Callable[[Any], Any]) -> Change:
    return lambda value, kind, possible: rewrite(value) if condition(value, kind) else SAME


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_number(entry) for entry in value)


CHANGES: tuple[tuple[str, Change], ...] = (
    ("another value", _other_value),
    ("text in capitals", _text(str.upper)),
    ("text with spaces around", _text(lambda text: f"  {text} ")),
    ("text without its spaces", _text(lambda text: text.replace(" ", ""))),
    ("text without commas", _text(lambda text: text.replace(",", ""))),
    ("text with a full stop", _text(lambda text: text + ".")),
    ("text with an exclamation mark", _text(lambda text: text + "!")),
    ("text with a line break", _text(lambda text: text.replace(" ", "\n", 1))),
    ("text with a typographic apostrophe", _text(lambda text: text.replace("'", "’"))),
    ("text emptied", _text(lambda text: "")),
    ("number as text", _when(lambda value, kind: _number(value), str)),
    ("truth value as text", _when(lambda value, kind: isinstance(value, bool), lambda value: str(value).lower())),
    ("truth value as number", _when(lambda value, kind: isinstance(value, bool), int)),
    ("text as a list", _text(lambda text: [text])),  # type: ignore[arg-type,return-value]
    ("null", lambda value, kind, possible: None),
    ("float for an integer", _when(lambda value, kind: kind == "integer" and type(value) is int, float)),
    (
        "integer for a float",
        _when(lambda value, kind: kind == "float" and isinstance(value, float) and value == int(value), int),
    ),
    ("list reversed", _list(lambda entries: entries[::-1])),
    ("list cut", _list(lambda entries: entries[:-1])),
    ("list with one more", _list(lambda entries: [*entries, entries[-1]])),
    ("list emptied", _list(lambda entries: [])),
    (
        "texts of a list in capitals",
        _list(lambda entries: [entry.upper() if isinstance(entry, str) else entry for entry in entries]),
    ),
    (
        "floats in a list",
        _when(lambda value, kind: _numbers(value), lambda value: [float(entry) for entry in value]),
    ),
    ("numbers of a list as text", _when(lambda value, kind: _numbers(value), lambda value: list(map(str, value)))),
    ("list as its only entry", _when(lambda value, kind: isinstance(value, list) and len(value) == 1, lambda v: v[0])),
    ("object without a key", _object(lambda fields: dict(list(fields.items())[1:]))),
    ("object with one key more", _object(lambda fields: {**fields, "verbose": True})),
    (
        "texts of an object in capitals",
        _object(lambda fields: {k: v.upper() if isinstance(v, str) else v for k, v in fields.items()}),
    ),
)
