"""Tool calls as models write them, read from an output: the usual spellings, and calls inside other text."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunelift.tasks.scorers.attempts import VALUE, attempts_call, called
from tunelift.tasks.scorers.json_values import (
    Find,
    NotJsonError,
    TooManyStartsError,
    parse_json,
    parse_json_row,
    read_value,
    values_inside,
)

MAX_PYTHONIC = 20_000
"""Characters; longer text is no list of Python calls."""
MAX_BITS = 1024
"""Of a whole number in Python's spelling, as many as a double can hold."""
MARKS = ("<|python_tag|>", "[TOOL_CALLS]")
"""What Llama 3.1 and Mistral write before a call."""
OPENING, CLOSING = "<tool_call>", "</tool_call>"
"""As Hermes and Qwen write a call."""
ENVELOPE = frozenset({"id", "type", "index", "function", "call_id", "tool_call_id"})
"""Keys that interfaces write around a call and that say nothing of what is called."""
MESSAGE = frozenset({"tool_calls", "role", "content", "refusal"})
"""Keys of a message that makes calls."""
CALLING = re.compile(r"\[\s*[A-Za-z_][\w.]*\(")
"""`[name(`."""
QUOTED_OR_BRACKET = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|[\[\](){}]")
FENCED = re.compile(r"(?:```|~~~)\w*\s*\Z"), re.compile(r"\s*(?:```|~~~)")
"""Around what stands alone in a code fence."""
ALONE = re.compile(r"(?:\n|[:;>=]|\bprint\(|\bawait )[ \t`*]*\Z"), re.compile(r"[ \t`*)]*;|[ \t`*).]*(?:\n|\Z)")
"""Around a call without arguments that is made; what else is written `ping()` speaks of a function."""
WINDOW = 64
"""Characters before a value that are looked at."""
READ = "\0"
"""Stands for what was read, where the text around it is looked at."""
AROUND = re.compile(rf"<tool_call>\s*(?:{READ}[\s;]*)+</tool_call>|(?:<\|python_tag\|>|\[TOOL_CALLS\])\s*{READ}|{READ}")


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: dict[str, Any]
    beside: dict[str, Any] = field(default_factory=dict)
    """Keys that stand beside name and arguments and belong to no usual spelling: they make it another answer."""
    given: bool = field(default=True, compare=False)
    """Arguments were written, if only as an empty object."""


UNREADABLE = Call("", {})
"""Stands beside calls for one that cannot be read, or for {"tool": null}, which contradicts them: equal to no call."""


def parse_calls(output: str, find: Find = "only", known: Collection[str] = ()) -> list[Call] | None:
    """The calls that the output makes, in its order; none for {"tool": null} or []; None when it is no call.

    Spellings: {"tool" or "name", "arguments" or "parameters"}, one or a list, also several divided by `;` or lines;
    OpenAI's tool_calls; <tool_call> tags; f(a=1), several in a list or on lines, as Python literals, which are parsed
    and never run.

    Args:
        output: What a model wrote.
        find: With `anywhere`, all calls in the text together, whatever stands between them; None, or `UNREADABLE` among
            them, if it also tries to make one that cannot be read.
        known: Names of tools; an object with `name` and no arguments, and name(a=1) inside other text, is a call only
            of one of these.
    """
    text = output.strip()
    for mark in MARKS:
        text = text.removeprefix(mark).lstrip()
    tagged, around = _tagged(text)
    together = _together([_json_calls(inner.strip(), known) for inner in tagged])
    if tagged and not around.strip():
        return together
    calls = _json_calls(text, known)
    if calls is None:
        calls = _pythonic(text)
    if calls is None and find == "anywhere" and together is not None:
        calls = _inside(output, known)
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


def _inside(text: str, known: Collection[str]) -> list[Call] | None:
    """All calls in a text; None if there is none, or one that cannot be read."""
    calls: list[Call] = []
    rest: list[str] = []
    end, refused = 0, False
    reader = _Reader(called(frozenset(known)))
    try:
        for found in values_inside(text, reader.read, reader.begins):
            made = found.value if isinstance(found.value, _Python) else calls_of(found.value, known)
            if made is None or (found.value == [] and not _fenced(text, found.start, found.end)):
                continue
            refused = refused or not made
            calls += made
            rest += [text[end : found.start].replace(READ, ""), READ]
            end = found.end
    except TooManyStartsError:
        return None
    except _AttemptError:
        return [UNREADABLE]
    around = AROUND.sub("", "".join([*rest, text[end:].replace(READ, "")]))
    if not rest or attempts_call(around, [{"name": name} for name in known]):
        return None
    return [*calls, UNREADABLE] if calls and refused else calls


def _fenced(text: str, start: int, end: int) -> bool:
    """Alone in a code fence: there, [] is an answer; in prose it is a list."""
    return bool(FENCED[0].search(text[max(0, start - WINDOW) : start]) and FENCED[1].match(text, end))


class _Python(list[Call]):
    """Calls in Python's spelling, told from a JSON list."""


class _AttemptError(Exception):
    """A list of calls that cannot be read."""


@dataclass(frozen=True)
class _Reader:
    """Reads what may be a call inside other text."""

    begins: re.Pattern[str]
    """`name(` of a known tool."""

    def read(self, text: str, start: int) -> tuple[Any, int]:
        """A JSON value, or calls in Python's spelling: a list of them, or one of a known tool."""
        if text[start] not in "[{":
            return self._bare(text, start)
        if not CALLING.match(text, start):
            return read_value(text, start)
        looked_at, closed = _closed(text, start)
        calls = _pythonic(text[start:looked_at]) if closed else None
        if calls is not None:
            return _Python(calls), looked_at
        # Else its parts would be read as calls, without the one that spoils it.
        inside = text[start + 1 : looked_at]
        tried = self.begins.search(inside) and VALUE.search(inside) if closed else self.begins.match(inside.lstrip())
        if tried and text[looked_at : looked_at + 1] != "(":  # A link.
            raise _AttemptError
        raise ValueError("no calls")

    def _bare(self, text: str, start: int) -> tuple[Any, int]:
        line = text.find("\n", start, start + MAX_PYTHONIC)
        if (start == 0 or text[start - 1] == "\n") and line > 0 and (calls := _pythonic(text[start:line].rstrip("; "))):
            return _Python(calls), line
        opening = self.begins.match(text, start)
        assert opening is not None, "it begins there"
        looked_at, closed = _closed(text, opening.end() - 1)
        calls = _pythonic(text[start:looked_at]) if closed else None
        if calls and (calls[0].arguments or _alone(text, start, looked_at)):
            return _Python(calls), looked_at
        raise json.JSONDecodeError("no call", text, max(looked_at, line))  # It says how much was looked at.


def _closed(text: str, start: int) -> tuple[int, bool]:
    """Where the bracket that opens there is closed; or how far was looked, if it is not."""
    depth, limit = 0, min(len(text), start + MAX_PYTHONIC)
    for sign in QUOTED_OR_BRACKET.finditer(text, start, limit):
        depth += (sign[0] in "[({") - (sign[0] in "])}") if len(sign[0]) == 1 else 0
        if not depth:
            return sign.end(), True
    return limit, False


def _alone(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - WINDOW) : start]
    return bool(ALONE[0].search(before if start > WINDOW else f"\n{before}") and ALONE[1].match(text, end))


def _together(parts: Sequence[list[Call] | None]) -> list[Call] | None:
    """All of them; None if one is no call, or if some say that there is none."""
    if any(part is None for part in parts) or (any(parts) and not all(parts)):
        return None
    return [call for part in parts for call in part or ()]


def _json_calls(text: str, known: Collection[str]) -> list[Call] | None:
    """Of one JSON value, or of several one after another, as Llama 3.1 writes several calls."""
    try:
        return calls_of(parse_json(text), known)
    except NotJsonError:
        pass
    try:
        return _together([calls_of(value, known) for value in parse_json_row(text)])
    except NotJsonError:
        return None


def calls_of(value: Any, known: Collection[str] = ()) -> list[Call] | None:
    """The calls that a JSON value means; None when it means none of the usual spellings.

    Args:
        value: The value.
        known: Names of tools; an object with `name` and no arguments is a call only of one of these.
    """
    beside: dict[str, Any] = {}
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        beside = {key: entry for key, entry in value.items() if key not in ENVELOPE | MESSAGE}
        value = value["tool_calls"]
    if isinstance(value, dict) and "tool" in value and value["tool"] is None:
        return []
    calls = [_call(entry, known) for entry in (value if isinstance(value, list) else [value])]
    if any(call is None for call in calls):
        return None
    return [replace(call, beside=call.beside | beside) for call in calls if call is not None]


def _call(entry: Any, known: Collection[str]) -> Call | None:
    if not isinstance(entry, dict):
        return None
    outer: dict[str, Any] = {}
    wrapped = isinstance(entry.get("function"), dict)
    if wrapped:
        outer = {key: value for key, value in entry.items() if key not in ENVELOPE}
        entry = entry["function"]
    if ("tool" in entry) == ("name" in entry):
        return None
    key = next((key for key in ("arguments", "parameters") if key in entry), None)
    name = entry.get("tool", entry.get("name"))
    arguments = entry[key] if key else None
    beside = {other: value for other, value in entry.items() if other not in {"tool", "name", key, *ENVELOPE}}
    if isinstance(arguments, str):  # As in OpenAI's API: JSON inside JSON.
        try:
            arguments = parse_json(arguments) if arguments.strip() else {}
        except NotJsonError:
            return None
    arguments = {} if arguments is None else arguments
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    # Many a record has a name, and some have a tool; without arguments only these are calls.
    alone = wrapped or ("tool" in entry and not beside)
    return Call(name, arguments, beside | outer, bool(key)) if key or alone or name in known else None


# Python's spelling


def _pythonic(text: str) -> list[Call] | None:
    """The calls in `f(a=1)` or `[f(a=1), g(b="x")]`, also on several lines; None for anything else."""
    if len(text) > MAX_PYTHONIC:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of an unknown escape in a string, say.
            statements = ast.parse(text).body
        calls = []
        for statement in statements:
            tree = statement.value if isinstance(statement, ast.Expr) else None
            nodes = tree.elts if isinstance(tree, (ast.List, ast.Tuple)) else [tree]
            calls += [_python_call(node) for node in nodes]
        return calls or None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _python_call(node: ast.expr | None) -> Call:
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
