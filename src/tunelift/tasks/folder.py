"""The files of a task's folder: task.yaml, the tools' schemas and the items, read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from tunelift.config.schema import Section
from tunelift.errors import UserError
from tunelift.tasks import scorers
from tunelift.tasks.scorers import SCORERS

if TYPE_CHECKING:
    from yaml.nodes import Node

Role = Literal["target", "guard"]


class PromptFile(Section):
    """Templates: {field} becomes an item's field of that name, {tools} the schemas; other braces stay."""

    system: str | None = None
    """System message of the tuned arm."""
    user: str = "{request}"
    """User message of all arms."""
    instructed: str | None = None
    """System message of arms that were not tuned; without it they see the tuned arm's."""


class TaskFile(Section):
    """task.yaml."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)
    """Names the task in reports."""
    version: int = Field(ge=1)
    """Raised with every change of the items or their answers."""
    role: Role = "target"
    """`target`: should get better; `guard`: must not get worse."""
    description: str
    """What it measures, in a sentence."""
    licence: str
    """Of the items."""
    items: str = "items.jsonl"
    """One JSON object a line: `id`, `accepted` (a list), the fields of the prompt, and optionally `tags`."""
    items_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the items file, so that no item changes unnoticed."""
    tools: str | None = None
    """JSON file with a list of tool schemas."""
    prompt: PromptFile = PromptFile()
    """How an item becomes messages."""
    scorers: tuple[str, ...] = Field(min_length=1)
    """What is measured."""
    primary: str
    """The scorer that the verdict goes by."""
    cluster: str | None = None
    """The item field whose equal values belong together."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer."""


def read_description(path: Path) -> TaskFile:
    import yaml

    text = _read_text(path, "A task is a folder with a task.yaml; correct evaluate.tasks.")
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(
            f"This is no YAML: {getattr(error, 'problem', None) or error}.",
            where=f"{path}:{mark.line + 1}" if mark else str(path),
            remedy="Correct the line; indentation and quotes are the usual causes.",
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            "The file holds no mapping.",
            where=str(path),
            remedy=f"Write `name: …` and the keys {_words(TaskFile.model_fields)}.",
        )
    try:
        return TaskFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(part for part in first["loc"])
        raise UserError(
            _explain(first, location), where=f"{path}:{_line_of(tree, location)}", remedy=_remedy(first, location)
        ) from error


def _explain(problem: Mapping[str, Any], location: Sequence[Any]) -> str:
    field = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"There is no key `{field}`."
    if problem["type"] == "missing":
        return f"The key `{field}` is missing."
    return f"{field}={problem['input']!r}: {problem['msg']}."


def _remedy(problem: Mapping[str, Any], location: Sequence[Any]) -> str:
    if problem["type"] == "extra_forbidden":
        known = PromptFile.model_fields if location[0] == "prompt" and len(location) > 1 else TaskFile.model_fields
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        return f"Did you mean `{near[0]}`?" if near else f"The keys are {_words(known)}."
    return "Correct the value." if problem["type"] != "missing" else "Add it."


def _line_of(node: Node | None, location: Sequence[Any]) -> int:
    """Line of the value at `location`, or of the nearest thing around it that is there."""
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        entries: Any = node.value if node is not None else ()
        if isinstance(part, str) and isinstance(entries, list):
            found = [
                (key, value)
                for key, value in (pair for pair in entries if isinstance(pair, tuple))
                if key.value == part
            ]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(part, int) and isinstance(entries, list) and part < len(entries):
            node = entries[part]
            line = node.start_mark.line + 1 if node else line
        else:
            break
    return line


def _words(names: Any) -> str:
    return ", ".join(names)


def check_scorers(names: Sequence[str], primary: str, tools: Sequence[Any] | None, where: str) -> None:
    for name in (*names, primary):
        if name not in SCORERS:
            near = difflib.get_close_matches(name, SCORERS, n=1)
            raise UserError(
                f"There is no scorer `{name}`.",
                where=where,
                remedy=f"Did you mean `{near[0]}`?" if near else f"The scorers are {_words(SCORERS)}.",
            )
        if SCORERS[name].needs_tools and tools is None:
            raise UserError(
                f"The scorer `{name}` needs the tools' schemas.",
                where=where,
                remedy="Name their file as `tools:`, or leave the scorer out.",
            )
    if primary not in names:
        raise UserError(
            f"primary={primary} is not among the scorers ({_words(names)}).",
            where=where,
            remedy="Add it to them, or choose another.",
        )
    if len(set(names)) != len(names):
        raise UserError(f"A scorer stands twice in {_words(names)}.", where=where, remedy="Name each once.")


def read_tools(path: Path) -> tuple[Any, ...]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    text = _read_text(path, "Correct `tools:` in task.yaml.")
    try:
        tools = scorers.parse_json(text)
    except scorers.NotJsonError as error:
        raise UserError(f"This is no JSON: {error}.", where=str(path), remedy="Correct the file.") from error
    shape = "Write a list of objects with `name`, `description` and `parameters` (a JSON schema)."
    if not isinstance(tools, list) or not tools:
        raise UserError("The file holds no list of tools.", where=str(path), remedy=shape)
    for position, tool in enumerate(tools, 1):
        described = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(described, dict) or not isinstance(described.get("name"), str):
            raise UserError(f"Tool {position} has no name.", where=str(path), remedy=shape)
        try:
            Draft202012Validator.check_schema(described.get("parameters", {}))
        except SchemaError as error:
            raise UserError(
                f"The parameters of tool {described['name']!r} are no JSON schema: {error.message}.",
                where=str(path),
                remedy=shape,
            ) from error
    return tuple(tools)


def item_lines(path: Path) -> list[tuple[int, str]]:
    text = _read_text(path, "Correct `items:` in task.yaml.")
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def read_row(line: str, where: str) -> dict[str, Any]:
    import orjson

    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(
            f"This is no JSON: {error}.", where=where, remedy="Correct the line; each line is one whole JSON object."
        ) from error
    if not isinstance(row, dict):
        raise UserError("The line is no JSON object.", where=where, remedy='Write {"id": …, "accepted": […], …}.')
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise UserError(
            "The item has no `id` that is a text.", where=where, remedy="Give it one that no other item has."
        )
    if not isinstance(row.get("accepted"), list) or not row["accepted"]:
        near = difflib.get_close_matches("accepted", [name for name in row if name != "accepted"], n=1)
        hint = f" Is `{near[0]}` meant to be `accepted`?" if near else ""
        raise UserError(
            "The item has no list `accepted` of right answers.",
            where=where,
            remedy=f"Add at least one right answer.{hint}",
        )
    tags = row.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UserError(f"tags={tags!r} is no list of texts.", where=where, remedy='Write "tags": ["one", "two"].')
    return row


def _read_text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("The file is missing.", where=str(path), remedy=remedy) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError("The file is not in UTF-8.", where=f"{path}:{line}", remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"The file cannot be read: {error.strerror}.", where=str(path), remedy=remedy) from error
