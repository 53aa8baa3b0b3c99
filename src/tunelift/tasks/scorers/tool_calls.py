"""Rules on tool calls: how models spell them, and when two sets of calls are the same."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tunelift.tasks.scorers.attempts import attempts_call
from tunelift.tasks.scorers.base import Bound, Place, written
from tunelift.tasks.scorers.json_values import (
    Find,
    JsonOptions,
    NotJsonError,
    canonical_json,
    parse_json,
    parse_json_row,
)

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task

MAX_PYTHONIC = 20_000
"""Characters; longer text is no list of Python calls."""
MAX_BITS = 1024
"""Of a whole number in Python's spelling, as many as a double can hold."""
MARKS = ("<|python_tag|>", "[TOOL_CALLS]")
"""What Llama 3.1 and Mistral write before a call."""
OPENING, CLOSING = "<tool_call>", "</tool_call>"
"""As Hermes and Qwen write a call."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: dict[str, Any]


def right_tool(output: str, item: Item, task: Task) -> float:
    """The output names the tool of an accepted answer (null included) as {"tool": …}, whatever the arguments."""
    try:
        call = parse_json(output)
    except NotJsonError:
        return 0.0
    if not isinstance(call, dict) or "tool" not in call:
        return 0.0
    return float(
        any(isinstance(right, dict) and "tool" in right and right["tool"] == call["tool"] for right in item.accepted)
    )


# Reading calls


def parse_calls(output: str, find: Find = "only") -> list[Call] | None:
    """The calls that the output makes, in its order; none for {"tool": null} or []; None when it is no call.

    Spellings: {"tool" or "name", "arguments" or "parameters"}, one or a list, also several divided by `;` or lines;
    OpenAI's tool_calls; <tool_call> tags; [f(a=1), g(b="x")] as Python literals, which are parsed and never run.
    """
    text = output.strip()
    for mark in MARKS:
        text = text.removeprefix(mark).lstrip()
    tagged, around = _tagged(text)
    if tagged and (find == "anywhere" or not around.strip()):
        return _together([_json_calls(inner) for inner in tagged])
    calls = _json_calls(text)
    if calls is None:
        calls = _divided(text)
    if calls is None:
        calls = _pythonic(text)
    if calls is None and find == "anywhere":
        calls = _inside(text)
    return calls


def _tagged(text: str) -> tuple[list[str], str]:
    """What stands between tags, and what stands around them; by splitting, which is linear for any text."""
    before, *parts = text.split(OPENING)
    inside, around = [], [before]
    for part in parts:
        inner, closed, rest = part.partition(CLOSING)
        if closed:
            inside.append(inner)
        around.append(rest if closed else OPENING + part)
    return inside, "".join(around)


def _inside(text: str) -> list[Call] | None:
    try:
        calls = calls_of(parse_json(text, "anywhere"))
    except NotJsonError:
        calls = None
    if calls is not None:
        return calls
    start = re.search(r"\[\s*[A-Za-z_][\w.]*\(", text)
    return _pythonic(text[start.start() : text.rfind("]") + 1]) if start else None


def _together(parts: Sequence[list[Call] | None]) -> list[Call] | None:
    if any(part is None for part in parts):
        return None
    return [call for part in parts for call in part or ()]


def _json_calls(text: str) -> list[Call] | None:
    try:
        return calls_of(parse_json(text))
    except NotJsonError:
        return None


def _divided(text: str) -> list[Call] | None:
    """Objects one after another, as Llama 3.1 writes several calls."""
    try:
        return calls_of(parse_json_row(text))
    except NotJsonError:
        return None


def calls_of(value: Any) -> list[Call] | None:
    """The calls that a JSON value means; None when it means none of the usual spellings."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls", ()), list):
        value = value["tool_calls"]
    if isinstance(value, dict) and "tool" in value and value["tool"] is None:
        return []
    calls = [_call(entry) for entry in (value if isinstance(value, list) else [value])]
    return None if any(call is None for call in calls) else [call for call in calls if call is not None]


def _call(entry: Any) -> Call | None:
    if isinstance(entry, dict) and isinstance(entry.get("function"), dict):
        entry = entry["function"]
    if not isinstance(entry, dict) or ("tool" in entry) == ("name" in entry):
        return None
    name = entry.get("tool", entry.get("name"))
    arguments = entry.get("arguments", entry.get("parameters"))
    if isinstance(arguments, str):  # As in OpenAI's API: JSON inside JSON.
        try:
            arguments = parse_json(arguments) if arguments.strip() else {}
        except NotJsonError:
            return None
    arguments = {} if arguments is None else arguments
    return Call(name, arguments) if isinstance(name, str) and name and isinstance(arguments, dict) else None


def _pythonic(text: str) -> list[Call] | None:
    if len(text) > MAX_PYTHONIC:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of an unknown escape in a string, say.
            tree = ast.parse(text, mode="eval").body
        nodes = tree.elts if isinstance(tree, (ast.List, ast.Tuple)) else [tree]
        return [_python_call(node) for node in nodes]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with named arguments")
    names = [keyword.arg for keyword in node.keywords]
    if None in names or len(set(names)) != len(names):
        raise ValueError("unnamed or repeated arguments")
    return Call(_dotted(node.func), {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords})


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError("not a name")


def _literal(node: ast.expr) -> Any:
    """A literal as the JSON value that it would be."""
    if isinstance(node, ast.Constant):
        value = node.value
        whole = isinstance(value, int) and value.bit_length() <= MAX_BITS
        if value is None or whole or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value)):
            return value
    elif isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(entry) for entry in node.elts]
    elif isinstance(node, ast.Dict):
        keys = [_literal(key) for key in node.keys if key is not None]
        if len(keys) == len(node.keys) and all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
            return dict(zip(keys, map(_literal, node.values), strict=True))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _literal(node.operand)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    elif isinstance(node, ast.Name) and node.id in {"true", "false", "null"}:
        return {"true": True, "false": False, "null": None}[node.id]
    raise ValueError("not a literal")


# Comparing calls


class ToolCallOptions(JsonOptions):
    """Options of `tool_call`."""

    check: Literal["calls", "names"] = "calls"
    """`calls`: names and arguments; `names`: names alone."""
    values: Literal["exact", "possible"] = "exact"
    """`possible`: accepted arguments are lists of possible values, in which "" means that it may be left out, as in
    BFCL's possible_answer; accepted calls may then also be written {"name": {"parameter": [values]}}."""
    text: Literal["canonical", "loose"] = "canonical"
    """`loose`: also blind to spaces and , . / - _ * ^ in texts, as BFCL's checker is."""


def tool_call(options: ToolCallOptions, place: Place) -> Bound:
    """The output makes the accepted calls, all and no other, in any order and any of the usual spellings.

    Accepted are one call or a list. {"tool": null} asks for just that (or []); [], or a text without a call, is right
    when none is made or attempted, whatever the output says.
    """
    normal = _loose if options.text == "loose" else canonical_json

    def alike(given: Call, wanted: Call) -> bool:
        if given.name != wanted.name or options.check == "names":
            return given.name == wanted.name
        if options.values == "possible":
            return _possible_arguments(given.arguments, wanted.arguments, normal)
        return normal(given.arguments) == normal(wanted.arguments)

    def function(output: str, item: Item, task: Task) -> float:
        given = parse_calls(output, options.find)
        for answer in item.accepted:
            wanted = _accepted(answer, options)
            if given is not None and wanted is not None and _pair_up(given, wanted, alike):
                return 1.0
            none_wanted = answer == [] or (isinstance(answer, str) and wanted is None)
            if none_wanted and _makes_none(output, given, item.tools or task.tools or ()):
                return 1.0
        return 0.0

    return Bound("binary", function, written=lambda answer: _written(answer, options))


def _makes_none(output: str, given: list[Call] | None, tools: Sequence[Any]) -> bool:
    if given is not None:
        return not given
    return not parse_calls(output, "anywhere") and not attempts_call(output, tools)


def _accepted(answer: Any, options: ToolCallOptions) -> list[Call] | None:
    if isinstance(answer, str):
        return parse_calls(answer)
    if options.values == "possible":
        answer = [_spelled(entry) for entry in (answer if isinstance(answer, list) else [answer])]
        answer = answer[0] if len(answer) == 1 else answer
    return calls_of(answer)


def _spelled(entry: Any) -> Any:
    """{"name": {"parameter": [values]}} as {"name", "arguments"}; anything else as it is."""
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, arguments),) = entry.items()
        if isinstance(arguments, dict):
            return {"name": name, "arguments": arguments}
    return entry


def _pair_up(given: Sequence[Call], wanted: Sequence[Call], alike: Callable[[Call, Call], bool]) -> bool:
    """Whether each given call can have a wanted one of its own (augmenting paths: one may fit several)."""
    if len(given) != len(wanted):
        return False
    fits = [[position for position, call in enumerate(wanted) if alike(one, call)] for one in given]
    holder: dict[int, int] = {}

    def place_call(index: int, tried: set[int]) -> bool:
        for position in fits[index]:
            if position not in tried:
                tried.add(position)
                if position not in holder or place_call(holder[position], tried):
                    holder[position] = index
                    return True
        return False

    return all(place_call(index, set()) for index in range(len(given)))


def _possible_arguments(given: dict[str, Any], wanted: dict[str, Any], normal: Callable[[Any], str]) -> bool:
    for name, values in wanted.items():
        values = values if isinstance(values, list) else [values]
        if name not in given:
            if "" not in values:
                return False
        elif not any(_possible(given[name], value, normal) for value in values):
            return False
    return set(given) <= set(wanted)


def _possible(given: Any, wanted: Any, normal: Callable[[Any], str]) -> bool:
    """Inside an object, too, values are lists of possible ones; inside a list, objects are."""
    if isinstance(wanted, dict):
        return isinstance(given, dict) and _possible_arguments(given, wanted, normal)
    if isinstance(wanted, list) and any(isinstance(entry, dict) for entry in wanted):
        return (
            isinstance(given, list)
            and len(given) == len(wanted)
            and all(_possible(one, entry, normal) for one, entry in zip(given, wanted, strict=True))
        )
    return normal(given) == normal(wanted)


def _loose(value: Any) -> str:
    return canonical_json(_loosened(value))


def _loosened(value: Any) -> Any:
    """As BFCL's standardize_string does it to texts (gorilla, ast_checker.py)."""
    if isinstance(value, str):
        return re.sub(r"[ \,\.\/\-\_\*\^]", "", value).replace("'", '"')
    if isinstance(value, dict):
        return {key: _loosened(entry) for key, entry in value.items()}
    return [_loosened(entry) for entry in value] if isinstance(value, list) else value


def _written(answer: Any, options: ToolCallOptions) -> str:
    calls = _accepted(answer, options)
    if options.values == "exact" or not calls:
        return written(answer)
    spelled = [{"name": call.name, "arguments": _chosen(call.arguments)} for call in calls]
    return json.dumps(spelled[0] if len(spelled) == 1 else spelled, ensure_ascii=False)


def _chosen(possible: dict[str, Any]) -> dict[str, Any]:
    """The first possible value of each; what may be left out is."""
    chosen = {}
    for name, values in possible.items():
        values = values if isinstance(values, list) else [values]
        if values and "" not in values:
            first = values[0]
            chosen[name] = (
                _chosen(first)
                if isinstance(first, dict)
                else [_chosen(entry) if isinstance(entry, dict) else entry for entry in first]
                if isinstance(first, list)
                else first
            )
    return chosen
