"""What endpoints send as an answer: text, thinking, native calls, an answer withheld, or an error with HTTP 200.

The shapes are those of vLLM, OpenAI, Azure, OpenRouter, LiteLLM, Mistral, DeepSeek and the gateways before them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunelift.tasks.scorers import NotJsonError, parse_json
from tunelift.tasks.thinking import part

WITHHELD = re.compile(r"withheld \(")
"""How the `error` of a reply begins that the model or a filter declined to give: asking again would not change it."""
FILTERED = re.compile(r"content[_ -]?filter|content[_ -]?policy|content management policy|moderation", re.IGNORECASE)
"""What a refused request says if a filter refused it."""

_FILTERS = {
    *("content_filter", "content_filtered", "contentfilter", "guardrail_intervened", "refusal", "safety"),
    *("recitation", "prohibited_content", "blocklist", "spii", "sensitive"),
}
_BREAKDOWNS = {
    *("error", "abort", "aborted", "cancelled", "failed", "timeout", "network_error", "server_error"),
    *("internal_error", "upstream_error", "insufficient_system_resource"),
}
"""`finish_reason` of an answer that ended through no fault of the model's."""
_THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
_STATUS_OF = {"rate_limit_exceeded": 429, "rate_limit_error": 429, "overloaded_error": 529}
_STATUS_OF |= {"context_length_exceeded": 400, "invalid_request_error": 400}


class UnusableError(ValueError):
    """An answer with HTTP 200 that is none.

    Args:
        words: What the endpoint says, or what is wrong with its answer.
        status: The HTTP status that the answer should have had, if it tells.
    """

    def __init__(self, words: str, status: int | None = None) -> None:
        super().__init__(words)
        self.words, self.status = words, status


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
    if found := answer.get("error") or answer.get("errors"):
        raise _told(found, answer)
    if answer.get("object") == "error":
        raise _told(answer, answer)
    return answer


def _told(found: Any, around: Mapping[str, Any]) -> UnusableError:
    """An error in the endpoint's own words."""
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, Mapping):
        return UnusableError(str(first), _status(around))
    message = first.get("message")
    words = message if isinstance(message, str) and message else _json(first)
    metadata = first.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None  # OpenRouter: what the provider said.
    more = f" ({raw if isinstance(raw, str) else _json(raw)})" if raw else ""
    status = _status(first) or _status(around)
    return UnusableError(words + more + _named(first, words), status)


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
        said = next((answer[key] for key in ("detail", "message", "msg") if answer.get(key)), answer)
        raise UnusableError(f"the answer has no choices: {said if isinstance(said, str) else _json(said)}")
    choice = choices[0]
    if choice.get("error"):
        raise _told(choice["error"], choice)
    reason = choice.get("finish_reason")
    plain = str(reason or "").lower().replace("-", "_")
    message = choice.get("message")
    if plain in _BREAKDOWNS:
        raise UnusableError(f"the endpoint broke the answer off (finish_reason {reason})")
    withheld = _withheld(plain, message if isinstance(message, Mapping) else {})
    if withheld is None and not isinstance(message, Mapping):
        raise UnusableError(f"the answer holds no message: {_json(choice)}")
    usage = answer.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    text, thinking = ("", None) if withheld or not isinstance(message, Mapping) else _said(message)
    return Reply(
        identity,
        _writable(text),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        seconds,
        None if reason is None else str(reason),
        error=None if withheld is None else _writable(f"withheld ({withheld})"),
        thinking=None if thinking is None else _writable(thinking),
    )


def _withheld(reason: str, message: Mapping[str, Any]) -> str | None:
    """Who declined to answer, and in which words; None if there is an answer."""
    refused = message.get("refusal")
    if not refused and isinstance(message.get("content"), list):
        parts = [one for one in message["content"] if isinstance(one, Mapping) and one.get("type") == "refusal"]
        refused = next((one.get("refusal") or one.get("text") for one in parts), None)
    if isinstance(refused, str) and refused.strip():
        return f"refusal: {refused.strip()}"
    return f"finish_reason {reason}" if reason in _FILTERS else None


def _said(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """Text and thinking of a message; calls first: many endpoints send white space or a sentence beside them."""
    content, thought = _texts(message.get("content"))
    apart = [_thoughts(message[key]) for key in _THINKING if message.get(key)]
    thinking = [*apart[:1], *thought]  # Of several spellings the first: gateways send the same under two names.
    legacy = message.get("function_call")
    calls = message.get("tool_calls") or ([{"function": legacy}] if legacy else [])
    written = _calls(calls if isinstance(calls, list) else [calls])
    if written and (beside := part(content).thinking):
        thinking.append(beside)
    found = "\n\n".join(text for text in thinking if text.strip())
    return written or content, found or None


def _texts(content: Any) -> tuple[str, list[str]]:
    """The text of a message's content, and the thinking in it, where it comes in parts."""
    if isinstance(content, str):
        return content, []
    parts: Iterable[Any] = content if isinstance(content, list) else [content]
    texts, thoughts = [], []
    for one in parts:
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, Mapping):
            if re.search("think|reason", str(one.get("type", "text"))):
                thoughts.append(_thoughts(one))
            elif isinstance(one.get("text"), str):
                texts.append(one["text"])
    return "".join(texts), thoughts


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


def _calls(calls: Sequence[Any]) -> str:
    written = [_call(call) for call in calls]
    return _json(written[0] if len(written) == 1 else written) if written else ""


def _call(call: Any) -> Any:
    """What is no call stays as it is, for the scorer to judge."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or "name" not in function:
        return call
    return {"name": function["name"], "arguments": _parsed(function.get("arguments"))}


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
    return int(tokens) if isinstance(tokens, int | float) else None


def _writable(text: str) -> str:
    """A lone surrogate, which JSON can carry, could not be written to a file."""
    return text.encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
