"""Pydantic's errors in words for the person who wrote the config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunelift.config.schema import Config
from tunelift.config.section import Section

Key = str | int

EXTENDS = "extends"
"""Names the file that a file builds on; read before the schema sees the config."""
EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "model": "a section, its keys indented below it",
    "dict": "a section, its keys indented below it",
}
"""What a pydantic error type of this prefix asks for."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the path of the value in the config, and a sentence that names it."""

    path: tuple[Key, ...]
    text: str
    wants_text: bool = False
    """A number or a truth value stands where text is wanted."""


def dotted(path: Sequence[Key]) -> str:
    """`train.learning_rate`; list elements as `curate.sources[0].path`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def problems_of(
    error: ValidationError, data: Any, written: Callable[[tuple[Key, ...]], str | None] = lambda _: None
) -> list[Problem]:
    """The problems behind `error`, in the order of the config's fields; `written` tells how a number was written.

    Pydantic reports each alternative of a union; here they are one problem with all that would have been right.
    """
    grouped: dict[tuple[Key, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        grouped.setdefault(_path(detail, data), []).append(detail)
    # `{from_split: tst}` is no text either, but its author meant the section: the deeper error tells.
    paths = [path for path in grouped if not path or not any(_inside(other, path) for other in grouped)]
    unknown = {path for path in paths if grouped[path][0]["type"] == "extra_forbidden"}
    meant = {(*path[:-1], *_nearest(str(path[-1]), fields_at(path[:-1]))) for path in unknown}
    problems = []
    for path in paths:
        details = grouped[path]
        if details[0]["type"] == "missing" and path in meant:
            continue  # It is there, under the misspelt key that is reported beside it.
        if not path:
            problems += [_combination(detail) for detail in details]
        else:
            text = f"{dotted(path)}: {_words(path, details, written(path))}"
            problems.append(Problem(path, text, _wants_text(details)))
    return problems


def _inside(path: tuple[Key, ...], outer: tuple[Key, ...]) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _path(detail: ErrorDetails, data: Any) -> tuple[Key, ...]:
    """The error's path without the names that pydantic gives to a union's alternatives."""
    path: list[Key] = []
    location = detail["loc"]
    for position, key in enumerate(location):
        if isinstance(data, dict) and key in data:
            data = data[key]
        elif isinstance(data, (list, tuple)) and isinstance(key, int):
            data = data[key] if key < len(data) else None
        elif not (position == len(location) - 1 and detail["type"] == "missing"):
            continue
        path.append(key)
    return tuple(path)


def _combination(detail: ErrorDetails) -> Problem:
    """A rule over several fields; the field that it names first is the place."""
    text = detail["msg"].removeprefix("Value error, ")
    named = re.search(r"\b[a-z_]+(?:\.[a-z_0-9]+)+", text)
    return Problem(tuple(named[0].split(".")) if named else (), f"{text}.")


def _wants_text(details: list[ErrorDetails]) -> bool:
    number = isinstance(details[0]["input"], (bool, int, float))
    return number and any(detail["type"] == "string_type" for detail in details)


def _words(path: tuple[Key, ...], details: list[ErrorDetails], written: str | None) -> str:
    """What is wrong at `path`, what would be right, and the value, as it was written if that is known."""
    first = details[0]
    if first["type"] == "extra_forbidden":
        return _unknown(path)
    if first["type"] == "missing":
        return f"is missing{_example(path)}."
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    rights = list(dict.fromkeys(_expected(detail) for detail in details))
    value = first["input"]
    is_number = isinstance(value, (bool, int, float))
    text = f"expected {' or '.join(rights)}, got {_short(written) if written and is_number else shown(value)}"
    if all(detail["type"] == "string_type" for detail in details) and is_number:
        return f"{text}; put it in quotes."
    choices = [choice for right in rights for choice in re.findall(r"'([^']*)'", right)]
    close = difflib.get_close_matches(str(value), choices, n=1)
    return f"{text}; did you mean `{close[0]}`?" if close else f"{text}."


def _expected(detail: ErrorDetails) -> str:
    """What the error asks for."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        return f"text of the form {context['pattern']}"
    if kind == "too_short":
        return f"at least {context['min_length']} element" + ("s" if context["min_length"] > 1 else "")
    if kind.endswith(("_type", "_parsing", "_from_float")):
        return EXPECTED.get(kind.split("_")[0], detail["msg"])
    message = re.sub(r"^(Input|String|List|Tuple) should (be |have )?", "", detail["msg"])
    return f"a value {message}" if message.startswith(("less", "greater")) else message


def shown(value: Any) -> str:
    """A value in a message: short, and by kind if it is large."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a section with {', '.join(map(str, value)) or 'nothing in it'}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return _short(str(value).lower() if isinstance(value, bool) else repr(value))


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


# Names


def _unknown(path: tuple[Key, ...]) -> str:
    """The nearest valid name: in this section first, then anywhere."""
    name, here = str(path[-1]), fields_at(path[:-1])
    if (section := section_at(path[:-1])) and name in section.not_here:
        return f"not taken here: {section.not_here[name]}"
    if near := _nearest(name, here):
        return f"unknown key; did you mean `{near[0]}`?"
    everywhere = dict(all_fields(Config))
    same = [full for full in everywhere if full.rsplit(".", 1)[-1] == name]
    ends = difflib.get_close_matches(name, [full.rsplit(".", 1)[-1] for full in everywhere], n=1, cutoff=0.75)
    close = same or [full for full in everywhere if ends and full.rsplit(".", 1)[-1] == ends[0]]
    if close:
        return f"unknown key; did you mean {' or '.join(f'`{full}`' for full in close[:3])}?"
    return f"unknown key; known here: {', '.join(here)}."


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.6)


def _example(path: tuple[Key, ...]) -> str:
    """`, for example ...` from the field's own examples or choices."""
    section = section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    if field is None:
        return ""
    choices = field.examples or list(get_args(field.annotation))
    return f"; for example `{path[-1]}: {choices[0]}`" if choices else ""


def section_at(path: Sequence[Key]) -> type[Section] | None:
    """The section that the schema has at `path`."""
    section: type[Section] | None = Config
    for key in path:
        if section is None:
            return None
        if isinstance(key, str):
            field = section.model_fields.get(key)
            section = _section_in(field.annotation) if field else None
    return section


def fields_at(path: Sequence[Key]) -> tuple[str, ...]:
    """The names that are valid at `path`."""
    section = section_at(path)
    return (*section.model_fields, *(() if path else (EXTENDS,))) if section else ()


def all_fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each field's dotted name and annotation, sections included."""
    for name, field in section.model_fields.items():
        full = f"{prefix}{name}"
        yield full, field.annotation
        if inner := _section_in(field.annotation):
            yield from all_fields(inner, f"{full}.")


def _section_in(annotation: Any) -> type[Section] | None:
    """The section inside an annotation such as `tuple[SourceConfig, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _section_in(argument))), None)
