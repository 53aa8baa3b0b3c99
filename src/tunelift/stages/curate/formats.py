"""The four shapes of raw rows, each turned into messages as chat templates take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, get_args

import orjson

from tunelift.config.schema import SourceConfig, SourceFormat
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.stages.curate.documents import kind
from tunelift.stages.curate.rows import Quarantined, RawRow

Message = dict[str, Any]
Conversation = tuple[list[Message], list[Message] | None]
"""Messages, and tool schemas if the row has any."""

DETECTION_ROWS = 50
TURN_FIELDS = ("messages", "conversations", "conversation")
CALL = "function_call"
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
    "ipython": "tool",
    CALL: CALL,
}
"""Spellings of a role, in lower case; `function_call` is an assistant turn whose text is the call."""
THINKING = ("reasoning_content", "reasoning", "thinking")
"""Spellings of the field for what an assistant thinks before it answers."""

FIELDS = {
    "alpaca": "instruction, output (and input, system, history)",
    "sharegpt": "conversations of from and value (and system, tools)",
    "messages": "messages of role and content (and tools)",
    "prompt_completion": "prompt, completion (and system, tools)",
}


class ShapeError(Exception):
    """A row is not of its source's format."""

    def __init__(self, path: str, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path, self.reason, self.detail = path, reason, detail


def detect(
    source: SourceConfig, rows: Iterator[RawRow | Quarantined]
) -> tuple[SourceFormat | None, Iterable[RawRow | Quarantined]]:
    """Find a source's format in its first rows, by their fields; the rows come back whole.

    None if no row could be read.

    Raises:
        UserError: the fields are of no known format.
    """
    if source.format != "auto":
        return source.format, rows
    seen: list[RawRow | Quarantined] = []
    first: list[RawRow] = []
    for row in rows:
        seen.append(row)
        if isinstance(row, RawRow):
            first.append(row)
        if len(first) == DETECTION_ROWS:
            break
    if not first:
        return None, seen
    votes = Counter(shape for row in first if (shape := shape_of(row.value)))
    if not votes:
        raise _unknown_format(source, first)
    shape, count = votes.most_common(1)[0]
    console.say(f"{source.path}: {shape} ({count} of the first {len(first)} rows)")
    return shape, chain(seen, rows)


def _unknown_format(source: SourceConfig, rows: list[RawRow]) -> UserError:
    fields = Counter(field for row in rows for field in row.value)
    names = ", ".join(repr(field if len(field) <= 40 else field[:40] + "…") for field, _ in fields.most_common(12))
    header = " If these are values, the file lacks its header line." if source.path.lower().endswith(".csv") else ""
    accepted = "; ".join(f"{name}: {what}" for name, what in FIELDS.items())
    return UserError(
        f"The rows are of no known format; their fields are {names or '(none)'}.{header}",
        where=source.path,
        remedy=f"Rename the fields to those of one format. {accepted}.",
    )


def shape_of(row: dict[str, Any]) -> SourceFormat | None:
    """The format that a row's fields speak for."""
    for field in TURN_FIELDS:
        turns = _parsed(row.get(field))
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            if "from" in turns[0]:
                return "sharegpt"
            if "role" in turns[0]:
                return "messages"
    if row.keys() >= {"prompt", "completion"}:
        return "prompt_completion"
    if row.keys() >= {"instruction", "output"}:
        return "alpaca"
    return None


def to_conversation(row: dict[str, Any], shape: SourceFormat, system: str | None) -> Conversation:
    """Turn a raw row into messages; `system` is for rows without a system message of their own.

    Raises:
        ShapeError: the row is not of this format.
    """
    messages, tools = PARSERS[shape](row)
    if messages and messages[0]["role"] == "system" and not messages[0]["content"].strip():
        messages = messages[1:]
    if system and not (messages and messages[0]["role"] == "system"):
        messages = [{"role": "system", "content": system}, *messages]
    return messages, tools


def _alpaca(row: dict[str, Any]) -> Conversation:
    instruction, output = _field(row, "instruction"), _field(row, "output")
    extra = _text(row.get("input"), "$.input")
    messages = _system(row)
    for index, pair in enumerate(_list(row.get("history"), "$.history")):
        path = f"$.history[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise ShapeError(path, "wrong_type", "a turn of the history must be a list of two texts")
        messages += [_turn("user", _text(pair[0], f"{path}[0]")), _turn("assistant", _text(pair[1], f"{path}[1]"))]
    request = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    return [*messages, _turn("user", request), _turn("assistant", output)], None


def _sharegpt(row: dict[str, Any]) -> Conversation:
    field = _turn_field(row, "conversations")
    return _system(row) + _turns(row[field], f"$.{field}", "from", "value"), _tools(row)


def _messages(row: dict[str, Any]) -> Conversation:
    field = _turn_field(row, "messages")
    return _turns(row[field], f"$.{field}", "role", "content"), _tools(row)


def _prompt_completion(row: dict[str, Any]) -> Conversation:
    parts = []
    for field, role in (("prompt", "user"), ("completion", "assistant")):
        value = _parsed(row.get(field)) if isinstance(_parsed(row.get(field)), list) else _field(row, field)
        if isinstance(value, list):
            parts += _turns(value, f"$.{field}", "role", "content")
        else:
            # White space at the seam belongs to gluing the two together, which a chat template replaces.
            parts.append(_turn(role, value.strip()))
    return _system(row) + parts, _tools(row)


PARSERS: dict[SourceFormat, Callable[[dict[str, Any]], Conversation]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
}
assert set(PARSERS) == set(get_args(SourceFormat)) == set(FIELDS)


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _system(row: dict[str, Any]) -> list[Message]:
    text = _text(row.get("system"), "$.system")
    return [_turn("system", text)] if text.strip() else []


def _field(row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise ShapeError(f"$.{field}", "missing_field", f"the field {field!r} is missing")
    return _text(row[field], f"$.{field}")


def _text(value: Any, path: str) -> str:
    """Text; null counts as empty, which the structure checks judge."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ShapeError(path, "wrong_type", f"is {kind(value)}, must be text")
    return value


def _parsed(value: Any) -> Any:
    """Lists and objects may stand as JSON text, as they must in CSV and often do in Parquet."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _list(value: Any, path: str) -> list[Any]:
    value = _parsed(value)
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise ShapeError(path, "wrong_type", f"is {kind(value)}, must be a list")
    return value


def _turn_field(row: dict[str, Any], usual: str) -> str:
    field = next((name for name in (usual, *TURN_FIELDS) if name in row), None)
    if field is None:
        raise ShapeError(f"$.{usual}", "missing_field", f"the field {usual!r} is missing")
    return field


def _turns(value: Any, path: str, role_key: str, text_key: str) -> list[Message]:
    return [_message(item, f"{path}[{index}]", role_key, text_key) for index, item in enumerate(_list(value, path))]


def _message(item: Any, path: str, role_key: str, text_key: str) -> Message:
    if not isinstance(item, dict):
        raise ShapeError(path, "wrong_type", f"is {kind(item)}, must be an object with {role_key} and {text_key}")
    if role_key not in item:
        raise ShapeError(f"{path}.{role_key}", "missing_field", f"the field {role_key!r} is missing")
    spelling = item[role_key]
    role = ROLES.get(spelling.strip().lower()) if isinstance(spelling, str) else None
    if role is None:
        raise ShapeError(f"{path}.{role_key}", "unknown_role", f"unknown role {spelling!r}")
    calls = _calls(item, path)
    if text_key not in item and not calls:
        raise ShapeError(f"{path}.{text_key}", "missing_field", f"the field {text_key!r} is missing")
    content = _content(item.get(text_key), f"{path}.{text_key}")
    if role == CALL:
        call = _call(_parsed(content), f"{path}.{text_key}")
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    message = _turn(role, content)
    if calls:
        message["tool_calls"] = calls
    for key in ("tool_call_id", "name"):
        if isinstance(item.get(key), str):
            message[key] = item[key]
    thinking = next((item[key] for key in THINKING if isinstance(item.get(key), str) and item[key].strip()), None)
    if role == "assistant" and thinking:
        message["reasoning_content"] = thinking
    return message


def _content(value: Any, path: str) -> str:
    """Text, or OpenAI's list of text parts."""
    if not isinstance(value, list):
        return _text(value, path)
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise ShapeError(f"{path}[{index}]", "wrong_type", "only parts of the type 'text' can be used")
        texts.append(_text(part.get("text"), f"{path}[{index}].text"))
    return "".join(texts)


def _calls(item: Message, path: str) -> list[Message]:
    single = item.get("function_call")
    values = [single] if single else _list(item.get("tool_calls"), f"{path}.tool_calls")
    return [_call(value, f"{path}.tool_calls[{index}]") for index, value in enumerate(values)]


def _call(value: Any, path: str) -> Message:
    """One tool call in OpenAI's form, with the arguments as an object: that is what chat templates write out."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ShapeError(path, "wrong_type", "a tool call needs a function with a name and arguments")
    arguments = _parsed(function.get("arguments") or {})
    if not isinstance(arguments, dict):
        raise ShapeError(f"{path}.function.arguments", "wrong_type", f"is {kind(arguments)}, must be a JSON object")
    call: Message = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return {"id": value["id"], **call} if isinstance(value.get("id"), str) else call


def _tools(row: dict[str, Any]) -> list[Message] | None:
    tools = _list(row.get("tools"), "$.tools")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise ShapeError(f"$.tools[{index}]", "wrong_type", f"is {kind(tool)}, must be an object")
    return tools or None
