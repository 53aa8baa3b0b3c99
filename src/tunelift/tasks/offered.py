"""Native tool calls held against the tools of their row: are they offered, and do the schemas allow the arguments?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tunelift.errors import UserError
from tunelift.tasks.scorers.attempts import name_of
from tunelift.tasks.scorers.structured import argument_schema, check_schema

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

NOT_OFFERED, BREAKS_SCHEMA = "call_not_offered", "call_breaks_schema"
SHOWN = 60
"""Of a rule of a schema, in characters."""


def wrong_calls(message: Mapping[str, Any], tools: Sequence[Any] | None) -> Iterator[tuple[str, str]]:
    """Of each call that the tools do not allow, `call_not_offered` or `call_breaks_schema`, and what is wrong.

    What is wrong is told without the arguments' values, which may be personal. Without tools nothing is known, and a
    schema that is none judges nothing.
    """
    for call in (message.get("tool_calls") or ()) if tools else ():
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        schema = argument_schema(tools or (), name)
        if schema is None:
            yield NOT_OFFERED, f"{name}, offered: {', '.join(str(name_of(tool)) for tool in tools or ())}"
        elif wrong := _broken_rule(schema, arguments):
            yield BREAKS_SCHEMA, f"{name}: {wrong}"


def _broken_rule(schema: Mapping[str, Any], arguments: Any) -> str:
    validator = _validator(json.dumps(schema, sort_keys=True, default=str))
    try:
        error = next(validator.iter_errors(arguments), None) if validator else None
    except Exception:  # A schema that refers to itself without an end, numbers too large to compute with.
        return ""
    if error is None:
        return ""
    if error.validator == "required":
        return str(error.message)
    at = ".".join(map(str, error.absolute_path)) or "arguments"
    return f"{at} breaks {error.validator} {json.dumps(error.validator_value, ensure_ascii=False)[:SHOWN]}"


@lru_cache(maxsize=1000)
def _validator(schema: str) -> Draft202012Validator | None:
    """None for what is no schema. Formats are not held: a placeholder for an e-mail address is none."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    parsed = json.loads(schema)
    try:
        check_schema(parsed, "")
    except UserError:
        return None
    return Draft202012Validator(parsed, registry=Registry())
