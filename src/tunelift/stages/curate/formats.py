"""The four shapes of raw rows, each turned into messages as chat templates take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, get_args

import orjson

from tunelift.config.curation import SourceFormat
from tunelift.runtime.openai_form import openai_tools
from tunelift.stages.curate.clean import first_line, is_glue
from tunelift.stages.curate.documents import holds_long_integer, kind, nested_too_deep
from tunelift.stages.curate.other_fields import refuse_media
from tunelift.stages.curate.placeholders import no_input
from tunelift.stages.curate.rows import ShapeError
from tunelift.stages.curate.weights import KEYS, weighted

Message = dict[str, Any]
Conversation = tuple[list[Message], list[Message] | None]
"""Messages, and tool schemas if the row has any."""

TURN_FIELDS = ("messages", "conversations", "conversation")
CALL = "function_call"
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "gpt4", "bing", "bard", "claude", "gemini"), "assistant"),
    **dict.fromkeys(("bot", "chatbot", "model", "ai", "llm"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    **dict.fromkeys(("function_response", "tool_response", "function_result", "tool_result"), "tool"),
    **dict.fromkeys((CALL, "tool_call"), CALL),
}
"""Spellings of a role, in lower case and with _ for - and blanks; of `function_call`, the text is the call."""
THINKING = ("reasoning_content", "reasoning", "thinking")
"""Spellings of the field for what an assistant thinks before it answers."""

FIELDS: dict[SourceFormat, tuple[str, ...]] = {
    "alpaca": ("instruction", "output", "input", "system", "history"),
    "sharegpt": ("conversations", "system", "tools"),
    "messages": ("messages", "system", "tools", "functions"),
    "prompt_completion": ("prompt", "completion", "system", "tools"),
}
"""The fields that a format reads, those that it cannot do without first."""


def to_conversation(
    row: dict[str, Any], shape: SourceFormat, system: str | None, fields: Mapping[str, str] | None = None
) -> Conversation:
    """Turn a raw row into messages.

    Args:
        row: As it was read.
        shape: Its format.
        system: The system message for rows without one of their own, or with an empty one.
        fields: The row's own names by those of the format, where they differ.

    Raises:
        ShapeError: the row is not of this format; its path has the row's own names.
    """
    try:
        row = renamed(row, fields) if fields else row
        if fields and "output" in fields and "output" in row:
            row["output"] = _reply(row, "output")  # A field that is named for it may well hold labels.
        messages, tools = PARSERS[shape](row)
    except ShapeError as error:
        raise _in_own_names(error, fields or {}) from None
    if system and not has_system(messages):
        # An empty one says nothing; without `system` it stays, since an endpoint would show it to the template too.
        rest = messages[1:] if messages and messages[0]["role"] == "system" else messages
        messages = [{"role": "system", "content": system}, *rest]
    return messages, tools


def left_out(row: Mapping[str, Any], shape: SourceFormat, fields: Mapping[str, str]) -> bool:
    """Whether the row has an input or a system message that only says that there is none."""
    names = ("system", "input") if shape == "alpaca" else ("system",)
    return any(no_input(row.get(fields.get(name, name))) for name in names)


def has_system(messages: Sequence[Message]) -> bool:
    """Whether the messages begin with a system message that says something."""
    return bool(messages) and messages[0]["role"] == "system" and bool(messages[0]["content"].strip())


def renamed(row: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """The row under its format's names; what has such a name by itself means something else, and gives way."""
    taken = {*fields, *fields.values()}
    return {name: value for name, value in row.items() if name not in taken} | {
        ours: row[theirs] for ours, theirs in fields.items() if theirs in row
    }


def _in_own_names(error: ShapeError, fields: Mapping[str, str]) -> ShapeError:
    for ours, theirs in fields.items():
        rest = error.path.removeprefix(f"$.{ours}")
        if rest != error.path and rest[:1] in ("", ".", "["):
            detail = (
                f"the field {theirs!r} is missing" if error.reason == "missing_field" and not rest else error.detail
            )
            return ShapeError(f"$.{theirs}{rest}", error.reason, detail)
    return error


def _alpaca(row: dict[str, Any]) -> Conversation:
    instruction, output = _field(row, "instruction"), _field(row, "output")
    extra = _text(row.get("input"), "$.input")
    messages = _system(row)
    for index, pair in enumerate(_list(row.get("history"), "$.history")):
        path = f"$.history[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise ShapeError(path, "wrong_type", "a turn of the history must be a list of two texts")
        messages += [_turn("user", _text(pair[0], f"{path}[0]")), _turn("assistant", _text(pair[1], f"{path}[1]"))]
    request = f"{instruction}\n\n{extra}" if extra.strip() and not no_input(extra) else instruction
    return [*messages, _turn("user", request), _turn("assistant", output)], None


def _sharegpt(row: dict[str, Any]) -> Conversation:
    field = _turn_field(row, "conversations")
    return _begun(row, _turns(row[field], f"$.{field}", "from", "value")), _tools(row)


def _messages(row: dict[str, Any]) -> Conversation:
    field = _turn_field(row, "messages")
    turns = _turns(row[field], f"$.{field}", "role", "content")
    turns = turns if has_system(turns) else _begun(row, turns)
    return turns, _tools(row) or _tools(row, "functions")  # The latter in the older form.


def _prompt_completion(row: dict[str, Any]) -> Conversation:
    parts = []
    for field, role, text in (("prompt", "user", _field), ("completion", "assistant", _reply)):
        turns = _turns_or_none(row.get(field))
        if turns is not None:
            parts += _turns(turns, f"$.{field}", "role", "content", context=field == "prompt")
        else:
            parts.append(_turn(role, _unglued(text(row, field), role)))
    return _begun(row, parts), _tools(row)


def _unglued(text: str, role: str) -> str:
    """Without what glues a prompt and a completion together, which a chat template replaces; indentation is none."""
    if role == "user":
        return text.rstrip()
    indent, first = first_line(text)
    return first if is_glue(indent, first) else indent + first


def _turns_or_none(value: Any) -> list[Any] | None:
    """Messages, also as JSON text; a text that is another JSON list is just that text."""
    if isinstance(value, list):
        return value
    found = parsed_json(value)
    if isinstance(found, list) and found and all(isinstance(turn, dict) and "role" in turn for turn in found):
        return found
    return None


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
    return [_turn("system", text)] if text.strip() and not no_input(text) else []


def _begun(row: dict[str, Any], turns: list[Message]) -> list[Message]:
    """The turns with the row's own `system` before them, which takes the place of an empty system message."""
    system = _system(row)
    empty = system and turns and turns[0]["role"] == "system" and not has_system(turns)
    return system + (turns[1:] if empty else turns)


def _field(row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise ShapeError(f"$.{field}", "missing_field", f"the field {field!r} is missing")
    return _text(row[field], f"$.{field}")


def _reply(row: dict[str, Any], field: str) -> str:
    """Text; a number or a truth value, as labels often are, is learnt as JSON writes it."""
    value = row.get(field)
    if isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return json.dumps(value)
    return _field(row, field)


def _text(value: Any, path: str) -> str:
    """Text; null counts as empty, which the structure checks judge."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ShapeError(path, "wrong_type", f"is {kind(value)}, must be text")
    return value


def parsed_json(value: Any) -> Any:
    """Lists and objects may stand as JSON text, as they must in CSV and often do in Parquet."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        data = value.encode()
        if nested_too_deep(found, data):
            return value
        # orjson makes floats of integers beyond 64 bits.
        return json.loads(value) if holds_long_integer(data) else found
    return value


def _refuse_unwritable(value: Any, path: str) -> None:
    """Bytes out of Parquet, and integers beyond 64 bits: nothing after this could write them."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ShapeError(path, "wrong_type", str(error)) from None


def _list(value: Any, path: str) -> list[Any]:
    value = parsed_json(value)
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


def _turns(value: Any, path: str, role_key: str, text_key: str, *, context: bool = False) -> list[Message]:
    turns = []
    for index, item in enumerate(_list(value, path)):
        place = f"{path}[{index}]"
        turn = _message(item, place, role_key, text_key)
        refuse_media(item, place)
        turns.append(turn if not context and KEYS.isdisjoint(item) else weighted(turn, item, place, context=context))
    return turns


def _message(item: Any, path: str, role_key: str, text_key: str) -> Message:
    if not isinstance(item, dict):
        raise ShapeError(path, "wrong_type", f"is {kind(item)}, must be an object with {role_key} and {text_key}")
    if role_key not in item:
        raise ShapeError(f"{path}.{role_key}", "missing_field", f"the field {role_key!r} is missing")
    spelling = item[role_key]
    role = ROLES.get(_spelt(spelling)) if isinstance(spelling, str) else None
    if role is None:
        raise ShapeError(f"{path}.{role_key}", "unknown_role", f"unknown role {spelling!r}")
    calls = _calls(item, path)
    if text_key not in item and not calls:
        raise ShapeError(f"{path}.{text_key}", "missing_field", f"the field {text_key!r} is missing")
    content = _content(item.get(text_key), f"{path}.{text_key}")
    if role == CALL:
        call = _call(parsed_json(content), f"{path}.{text_key}")
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    message = _turn(role, content)
    if calls:
        message["tool_calls"] = calls
    if (answered := _identity(item.get("tool_call_id"))) is not None:
        message["tool_call_id"] = answered
    if isinstance(item.get("name"), str):
        message["name"] = item["name"]
    thinking = next((item[key] for key in THINKING if isinstance(item.get(key), str) and item[key].strip()), None)
    if role == "assistant" and thinking:
        message["reasoning_content"] = thinking
    return message


def _spelt(role: str) -> str:
    return role.strip().lower().replace("-", "_").replace(" ", "_")


def _content(value: Any, path: str) -> str:
    """Text, or OpenAI's list of text parts, joined as vLLM does (`_parse_chat_message_content_parts`): one a line."""
    if not isinstance(value, list):
        return _text(value, path)
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise ShapeError(f"{path}[{index}]", "wrong_type", "only parts of the type 'text' can be used")
        texts.append(_text(part.get("text"), f"{path}[{index}].text"))
    return "\n".join(filter(None, texts))


def _calls(item: Message, path: str) -> list[Message]:
    single = item.get("function_call")
    values = [single] if single else _list(item.get("tool_calls"), f"{path}.tool_calls")
    return [_call(value, f"{path}.tool_calls[{index}]") for index, value in enumerate(values)]


def _call(value: Any, path: str) -> Message:
    """One tool call in OpenAI's form, with the arguments as an object: that is what chat templates write out."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ShapeError(path, "wrong_type", "a tool call needs a function with a name and arguments")
    given = function.get("arguments")
    arguments = {} if given is None or (isinstance(given, str) and not given.strip()) else parsed_json(given)
    if not isinstance(arguments, dict):
        raise ShapeError(f"{path}.function.arguments", "wrong_type", f"is {kind(arguments)}, must be a JSON object")
    _refuse_unwritable(arguments, f"{path}.function.arguments")
    # In vLLM's order of the fields: some templates write the function, or the call, as it stands.
    call: Message = {"function": {"arguments": arguments, "name": function["name"]}, "type": "function"}
    identity = _identity(value.get("id"))
    return {"id": identity, **call} if identity else call


def _identity(value: Any) -> str | None:
    """An id as text; some number their calls."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _tools(row: dict[str, Any], field: str = "tools") -> list[Message] | None:
    """The row's tools in OpenAI's form, as an engine gives them to the chat template."""
    tools = _list(row.get(field), f"$.{field}")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise ShapeError(f"$.{field}[{index}]", "wrong_type", f"is {kind(tool)}, must be an object")
    _refuse_unwritable(tools, f"$.{field}")
    return openai_tools(tools) or None
