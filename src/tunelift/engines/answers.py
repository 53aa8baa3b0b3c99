"""What endpoints send as an answer: text, thinking, native calls, an answer withheld, or an error with HTTP 200.

The shapes are those of vLLM, OpenAI, Azure, OpenRouter, LiteLLM, Mistral, DeepSeek and the gateways before them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunelift.engines.withheld import blocked, finish_reason, is_breakdown, is_filters, says_filtered
from tunelift.tasks.scorers import NotJsonError, parse_json
from tunelift.tasks.thinking import part

_THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
_CALL_PART = re.compile(r"tool_?use|tool_?call|function_?call", re.IGNORECASE)
_NO_TEXT = re.compile(
    r"image|audio|video|file|document|reference|citation|search|result|server_tool|refusal", re.IGNORECASE
)
"""By its type, a part of a message that holds a call; and one that holds nothing that the model wrote."""
_NO_ERROR = {"", "none", "n/a", "null", "no error", "no_error", "ok", "success", "false", "0", "200"}
_STATUS_OF = {"rate_limit_exceeded": 429, "rate_limit_error": 429, "overloaded_error": 529}
_STATUS_OF |= {"context_length_exceeded": 400, "invalid_request_error": 400}


class UnusableError(ValueError):
    """An answer with HTTP 200 that is none.

    Args:
        words: What the endpoint says, or what is wrong with its answer.
        status: The HTTP status that the answer should have had, if it tells.
        filtered: A filter refused to answer: asking again would not change it.
    """

    def __init__(self, words: str, status: int | None = None, *, filtered: bool = False) -> None:
        super().__init__(words)
        self.words, self.status, self.filtered = words, status, filtered


@dataclass(frozen=True)
class Reply:
    """The answer, or with `error` the reason why there is none."""

    id: str
    text: str
    """What the model wrote; a native tool call as JSON with `name` and `arguments`, several as a list of them, without
    what was said beside it."""
    tokens_in: int | None
    """None where the endpoint does not say; 0 of a request that failed."""
    tokens_out: int | None
    seconds: float
    """From sending to the last token, of the try that succeeded."""
    finish_reason: str | None
    error: str | None = None
    thinking: str | None = None
    """What the endpoint sent as thinking, apart from the text."""


def refuse_errors(answer: Any) -> Any:
    """The answer as an object.

    Raises:
        UnusableError: it is an error, or something else.
    """
    if isinstance(answer, list) and len(answer) == 1:  # As Gemini wraps its errors.
        answer = answer[0]
    if not isinstance(answer, dict):
        raise UnusableError(f"the answer is no JSON object: {_json(answer)}")
    for key in ("error", "errors"):
        if not _is_nothing(answer.get(key)):
            raise _told(answer[key], answer)
    if answer.get("object") == "error":
        raise _told(answer, answer)
    return answer


def _is_nothing(error: Any) -> bool:
    """Whether what stands in the place of an error says that there is none, as some gateways send it."""
    if isinstance(error, Mapping):
        return all(map(_is_nothing, error.values()))
    if isinstance(error, list):
        return all(map(_is_nothing, error))
    return not error or str(error).strip(" .").lower() in _NO_ERROR


def was_filtered(body: str) -> bool:
    """Whether the body of an answer with an HTTP status of 400 or more says that a filter refused the request."""
    try:
        refuse_errors(json.loads(body))
    except UnusableError as error:
        return error.filtered
    except (ValueError, RecursionError):
        pass
    return says_filtered(body)


def _told(found: Any, around: Mapping[str, Any]) -> UnusableError:
    """An error in the endpoint's own words."""
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, Mapping):
        return UnusableError(str(first), _status(around), filtered=says_filtered(str(first)))
    message = first.get("message")
    words = message if isinstance(message, str) and message else _json(first)
    metadata = first.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None  # OpenRouter: what the provider said.
    more = f" ({raw if isinstance(raw, str) else _json(raw)})" if raw else ""
    status = _status(first) or _status(around)
    words += more + _named(first, words)
    inner = first.get("innererror") or first.get("inner_error")  # Azure: whose rule it was.
    filtered = says_filtered(f"{words} {inner.get('code') if isinstance(inner, Mapping) else ''}")
    return UnusableError(words, status, filtered=filtered)


def _named(error: Mapping[str, Any], words: str) -> str:
    """The names of the error that its message does not hold, such as `insufficient_quota`."""
    names = [error.get(key) for key in ("code", "type")]
    found = dict.fromkeys(name for name in names if isinstance(name, str) and name not in words and name != "error")
    return f" [{', '.join(found)}]" if found else ""


def _status(error: Mapping[str, Any]) -> int | None:
    for key in ("status", "status_code", "code", "type"):
        value = error.get(key)
        if isinstance(value, str):
            value = _STATUS_OF.get(value) or (int(value) if re.fullmatch(r"[45]\d\d", value) else None)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def read_reply(identity: str, answer: Mapping[str, Any], seconds: float) -> Reply:
    """The first choice of a chat completion.

    Raises:
        UnusableError: there is none, or it broke off through no fault of the model's.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        if filter_says := blocked(answer):
            return _reply(identity, answer, seconds, None, withheld=filter_says)
        said = next((answer[key] for key in ("detail", "message", "msg") if answer.get(key)), answer)
        filtered = isinstance(said, str) and says_filtered(said)
        said = said if isinstance(said, str) else _json(said)
        raise UnusableError(f"the answer has no choices: {said}", filtered=filtered)
    choice = choices[0]
    message = choice.get("message")
    reason = choice.get("finish_reason")
    withheld = _withheld(choice, message if isinstance(message, Mapping) else {})
    if withheld is None:
        if not _is_nothing(choice.get("error")):
            raise _told(choice["error"], choice)
        if is_breakdown(reason):
            raise UnusableError(f"the endpoint broke the answer off (finish_reason {reason})")
        if isinstance(message, Mapping):
            text, thinking = _said(message)
            if text.strip() or thinking:
                return _reply(identity, answer, seconds, reason, text, thinking)
        withheld = blocked(choice) or blocked(answer)  # A filter's notes count where there is nothing else.
        if withheld is None and not isinstance(message, Mapping):
            raise UnusableError(f"the answer holds no message: {_json(choice)}")
    return _reply(identity, answer, seconds, reason, withheld=withheld)


def _reply(
    identity: str,
    answer: Mapping[str, Any],
    seconds: float,
    reason: Any,
    text: str = "",
    thinking: str | None = None,
    withheld: str | None = None,
) -> Reply:
    usage = answer.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return Reply(
        identity,
        _writable(text),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        seconds,
        finish_reason(reason),
        error=None if withheld is None else _writable(f"withheld ({withheld})"),
        thinking=None if thinking is None else _writable(thinking),
    )


def _withheld(choice: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    """Who declined to answer, and in which words; None if there is an answer."""
    refused = message.get("refusal")
    if not refused and isinstance(message.get("content"), list):
        parts = [one for one in message["content"] if isinstance(one, Mapping) and one.get("type") == "refusal"]
        refused = next((one.get("refusal") or one.get("text") for one in parts), None)
    if isinstance(refused, str) and refused.strip():
        return f"refusal: {refused.strip()}"
    reasons = (choice.get("finish_reason"), choice.get("native_finish_reason"))  # The second is OpenRouter's.
    return next((f"finish_reason {reason}" for reason in reasons if is_filters(reason)), None)


def _said(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """Text and thinking of a message; calls first: many endpoints send white space or a sentence beside them."""
    content, thought, used = _texts(message.get("content"))
    apart = [_thoughts(message[key]) for key in _THINKING if message.get(key)]
    thinking = [*apart[:1], *thought]  # Of several spellings the first: gateways send the same under two names.
    legacy = message.get("function_call")
    calls = message.get("tool_calls") or ([{"function": legacy}] if legacy else used)
    calls = calls if isinstance(calls, list) else [calls]
    named = [call for call in calls if not _is_empty(call)]
    written = _calls(named if named or content.strip() else calls)
    if written and (beside := part(content).thinking):
        thinking.append(beside)
    found = "\n\n".join(text for text in thinking if text.strip())
    return written or content, found or None


def _texts(content: Any) -> tuple[str, list[str], list[Any]]:
    """The text of a message's content, the thinking and the calls in it, where it comes in parts.

    Raises:
        UnusableError: a part is of a shape that is not known, so that an answer might be lost.
    """
    parts: Iterable[Any] = content if isinstance(content, list) else [content]
    texts, thoughts, calls = [], [], []
    for one in parts:
        kind = str(one.get("type") or "") if isinstance(one, Mapping) else ""
        if re.search("think|reason", kind):
            thoughts.append(_thoughts(one))
        elif _CALL_PART.fullmatch(kind):
            calls.append(one)
        elif not _NO_TEXT.search(kind):
            texts.append(_text_in(one))
    return "".join(texts), thoughts, calls


def _text_in(piece: Any) -> str:
    """A part's text: as it is, or below one of the keys that endpoints put it under."""
    if piece is None or piece == {} or isinstance(piece, str):
        return piece or ""
    if isinstance(piece, list):
        return "".join(map(_text_in, piece))
    if isinstance(piece, Mapping):
        found = [piece[key] for key in ("text", "value", "content") if key in piece]
        if found:
            return next((_text_in(one) for one in found if one is not None), "")
    raise UnusableError(f"the answer's content has a shape that is not known: {_json(piece)}")


def _thoughts(value: Any) -> str:
    """All text in a value that holds thinking, in whatever parts it comes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_thoughts, value))
    if isinstance(value, Mapping):
        keys = ("thinking", "text", "reasoning", "summary", "content")
        return next((_thoughts(value[key]) for key in keys if value.get(key)), "")
    return ""


def _is_empty(call: Any) -> bool:
    """A call of nothing, which some endpoints send beside the text."""
    if isinstance(call, Mapping):
        called = call.get("function", call)
        return isinstance(called, Mapping) and ("name" in called or "function" in call) and not called.get("name")
    return call is None or (isinstance(call, str) and call.strip() in {"", "[]", "{}", "null"})


def _calls(calls: Sequence[Any]) -> str:
    written = [_call(call) for call in calls]
    return _json(written[0] if len(written) == 1 else written) if written else ""


def _call(call: Any) -> Any:
    """What is no call stays as it is, for the scorer to judge."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or "name" not in function:
        return call
    arguments = next((function[key] for key in ("arguments", "input") if key in function), None)  # Anthropic: input.
    return {"name": function["name"], "arguments": _parsed(arguments)}


def _parsed(arguments: Any) -> Any:
    """Arguments come as text; what is no strict JSON (a key twice, NaN, text behind it) stays text, for the scorer.

    So does a text in JSON: a client reads it once and gets no object, so that the scorer must not read it once more.
    """
    try:
        parsed = parse_json(arguments) if isinstance(arguments, str) else arguments
    except NotJsonError:
        return arguments
    return arguments if isinstance(parsed, str) else parsed


def _count(tokens: Any) -> int | None:
    is_number = isinstance(tokens, int | float) and not isinstance(tokens, bool)
    return int(tokens) if is_number and math.isfinite(tokens) and tokens >= 0 else None


def _writable(text: str) -> str:
    """A lone surrogate, which JSON can carry, could not be written to a file."""
    return text.encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
