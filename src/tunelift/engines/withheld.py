"""How endpoints say that a filter, or the model itself, withheld an answer, and that an answer broke off."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

WITHHELD = re.compile(r"withheld \(")
"""How the `error` of a reply begins that the model or a filter declined to give: asking again would not change it."""

_FILTERED = re.compile(
    r"content[_ -]?(?:filter|policy|blocked)|content management policy|responsible_?ai_?policy|moderation"
    r"|safety (?:system|filter|polic|setting)|prohibited[_ ]content|content exists risk|data_?inspection_?failed"
    r"|guardrail|block_?reason|model_armor",
    re.IGNORECASE,
)
"""What an error says if a filter refused the request."""
_FILTER_IS_DOWN = re.compile(
    r"unavailable|overload|time[ds]?[ -]?out|try again later|rate.?limit|too many|quota"
    r"|connection (?:error|refused|reset)|content_filter_error|internal (?:server )?error"
    r"|failed to (?:run|call|reach|load)|(?:filter|moderation|guardrail)\w*(?: \w+){0,3} (?:error|crashed)",
    re.IGNORECASE,
)
"""Then the filter itself is what failed, which passes."""

_REASON_FILTERED = re.compile(
    r"content_?filter(?!\w*error)|content_?(?:policy|blocked)|safety|prohibited|recitation|block_?list|^blocked"
    r"|spii|sensitive|refus|guardrail|moderat|flagged|toxic|model_?armor"
)
_REASON_BROKE = re.compile(
    r"abort|cancel|fail|time_?d?_?out|unload|insufficient|connection|disconnect|unavailable|overload|interrupt|crash"
    r"|shutdown|preempt|exception|rate_?limit|user_?stopped|error(?!_limit)"
)
_REASON_LENGTH = re.compile(r"length|max_?\w*token|token_limit|context_?window|error_limit|^limit$")
"""By what a `finish_reason` contains, in small letters with `_` between words: gateways put names before it."""


def plain_reason(reason: Any) -> str:
    """A finish reason as the patterns read it: "content_filter: SAFETY" is `content_filter_safety`."""
    return re.sub(r"[^a-z0-9]+", "_", str(reason or "").lower()).strip("_")


def is_filters(reason: Any) -> bool:
    """Whether an answer ended because a filter, or the model itself, withheld it."""
    return _REASON_FILTERED.search(plain_reason(reason)) is not None


def is_breakdown(reason: Any) -> bool:
    """Whether an answer ended through no fault of the model's."""
    return not is_filters(reason) and _REASON_BROKE.search(plain_reason(reason)) is not None


def finish_reason(reason: Any) -> str | None:
    """The reason as it is; `length` for all spellings of an answer that ran into the token limit."""
    if reason is None:
        return None
    return "length" if _REASON_LENGTH.search(plain_reason(reason)) else str(reason)


def says_filtered(words: str) -> bool:
    """Whether an error's words are those of a filter that did its work."""
    return _FILTERED.search(words) is not None and not _FILTER_IS_DOWN.search(words)


def blocked(annotated: Mapping[str, Any]) -> str | None:
    """What a filter's notes on a prompt or a choice say if it blocked it: Azure's, or Gemini's `promptFeedback`."""
    for key in ("prompt_filter_results", "prompt_annotations", "content_filter_results", "content_filter_result"):
        if found := _filtered(annotated.get(key)):
            return f"content filter{': ' + ', '.join(found) if any(found) else ''}"
    feedback = annotated.get("promptFeedback") or annotated.get("prompt_feedback")
    if isinstance(feedback, Mapping):
        reason = feedback.get("blockReason") or feedback.get("block_reason")
        return f"block reason {reason}" if reason else None
    return None


def _filtered(value: Any, name: str = "") -> list[str]:
    """The names of the categories under which something is marked as filtered."""
    if isinstance(value, Mapping):
        if value.get("filtered") is True:
            return [name]
        named: Iterable[tuple[str, Any]] = value.items()
    elif isinstance(value, list):
        named = ((name, one) for one in value)
    else:
        return []
    return list(dict.fromkeys(found for key, one in named for found in _filtered(one, str(key))))
