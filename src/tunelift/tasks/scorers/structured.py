"""Rules on the form of answers in JSON: is it JSON, does a schema allow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from tunelift.errors import UserError
from tunelift.tasks.scorers.attempts import name_of, names_of
from tunelift.tasks.scorers.base import Bound, Place, read_text
from tunelift.tasks.scorers.calls import parse_calls
from tunelift.tasks.scorers.json_values import JsonOptions, NotJsonError, parse_json

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

    from tunelift.tasks.task import Item, Task


def valid_json(output: str, item: Item, task: Task) -> float:
    """The output is one JSON value and nothing else."""
    try:
        parse_json(output)
    except NotJsonError:
        return 0.0
    return 1.0


class SchemaOptions(JsonOptions):
    """Options of `schema_valid`."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=False)

    schema_file: str | None = Field(None, alias="schema", examples=["answer.schema.json"])
    """JSON file with a JSON Schema (draft 2020-12), relative to the task; without it, the tools' schemas."""


def schema_valid(options: SchemaOptions, place: Place) -> Bound:
    """A JSON schema allows the output: that of the option, or the tools', of each call (or it is {"tool": null})."""
    if options.schema_file is None:
        return Bound("binary", lambda output, item, task: _valid_calls(output, options, item, task), compares=False)
    path = place.folder / options.schema_file
    schema = _read_schema(path, place)
    check_schema(schema, str(path))
    validator = schema_validator(schema)

    def function(output: str, item: Item, task: Task) -> float:
        value = parsed_output(output, options)
        return float(value is not None and _allows(validator, value[0]))

    return Bound("binary", function, identity={"schema": schema}, compares=False)


def parsed_output(output: str, options: JsonOptions) -> tuple[Any] | None:
    """The output's value, in a tuple since it may be null; None if it is no JSON."""
    try:
        return (parse_json(output, options.find),)
    except NotJsonError:
        return None


def _valid_calls(output: str, options: JsonOptions, item: Item, task: Task) -> float:
    """It calls known tools, in any spelling, with arguments that their schemas allow, or is {"tool": null}."""
    parsed = parsed_output(output, options)
    tools = item.tools or task.tools or ()
    calls = parse_calls(output, options.find, names_of(tools))
    if not calls:
        return float(calls == [] and parsed == ({"tool": None},))
    schemas = [(argument_schema(tools, call.name), call) for call in calls]
    return float(
        # Nothing may stand beside a call's arguments, and they may not be left out.
        all(call.given and not call.beside for call in calls)
        and all(schema is not None and _allows(schema_validator(schema), call.arguments) for schema, call in schemas)
    )


def argument_schema(tools: Sequence[Any], name: str) -> dict[str, Any] | None:
    """The JSON schema of a tool's arguments; None for a tool that is not there."""
    tool = next((tool for tool in tools if name_of(tool) == name), None)
    return None if tool is None else dict(tool.get("function", tool).get("parameters") or {})


def schema_validator(schema: Any) -> Draft202012Validator:
    """Judges values by a schema that was checked; it fetches nothing from the network."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry: a schema fetches nothing from the network.
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER, registry=Registry())


def _allows(validator: Draft202012Validator, value: Any) -> bool:
    try:
        validator.validate(value)
    except Exception:  # Beside what is not allowed: numbers too large to compute with, recursion without an end.
        return False
    return True


def _read_schema(path: Any, place: Place) -> Any:
    try:
        return parse_json(read_text(path, f"Correct `schema:` at {place.where}."))
    except NotJsonError as error:
        raise UserError(f"This is no JSON: {error}.", where=str(path), remedy="Correct the file.") from error


def check_schema(schema: Any, where: str, what: str = "The file") -> None:
    """Whether a JSON schema can judge any value without failing itself.

    Raises:
        UserError: it is no schema of draft 2020-12, or refers to what is not in it.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        Draft202012Validator.check_schema(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as error:
        raise UserError(
            f"{what} is no JSON schema: {error.message}.",
            where=where,
            remedy="Correct it as https://json-schema.org/draft/2020-12 says.",
        ) from error
    resource = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except (Unresolvable, ValueError) as error:
            raise UserError(
                f"{what} refers to {reference!r}, which is not in it.",
                where=where,
                remedy="Put it under $defs; nothing is fetched from elsewhere.",
            ) from error


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for entry in schema.values():
            yield from _references(entry)
    elif isinstance(schema, list):
        for entry in schema:
            yield from _references(entry)
