"""Conversations in which user and assistant do not take turns, put in order: `curate.clean.turn_order`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]


def in_order(messages: Sequence[Message]) -> list[Message]:
    """The messages with turns of one speaker joined, without a greeting before the first and a turn after the last.

    Turns are joined by a blank line. Those that differ in more than what they say (the speaker's name, whether they are
    supervised), or of which one calls tools or thinks in the middle, are left as they are.
    """
    found: list[Message] = []
    for message in messages:
        if found and _joins(found[-1], message):
            texts = [one["content"] for one in (found[-1], message) if one["content"].strip()]
            found[-1] = {**found[-1], **message, "content": "\n\n".join(texts)}
        else:
            found.append(message)
    roles = [one["role"] for one in found]
    first = roles[:1].count("system")
    if roles[first : first + 2] == ["assistant", "user"]:
        del found[first]
    if roles[-2:] == ["assistant", "user"] and len(found) > first + 1:
        del found[-1]
    return found


def _joins(before: Message, message: Message) -> bool:
    """Whether a message goes on where the one before it ends; each result of a tool stands alone."""
    differing = {key for key in {*before, *message} - {"content"} if before.get(key) != message.get(key)}
    if before["role"] == "tool" or "tool_calls" in before or "reasoning_content" in message:
        return False
    return differing <= {"tool_calls", "reasoning_content"}
