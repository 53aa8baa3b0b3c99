"""Which messages are supervised: every assistant turn, but for those with `"weight": 0`, OpenAI's key for it.

The key stands in data sets only. It is no part of what is said: chat templates and endpoints never see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

WEIGHT = "weight"


def is_supervised(message: Mapping[str, Any]) -> bool:
    """Whether the loss counts this message."""
    return message["role"] == "assistant" and message.get(WEIGHT) != 0


def last_supervised(messages: Sequence[Mapping[str, Any]]) -> int | None:
    """The index of the last supervised message; None if none is."""
    return next((index for index in reversed(range(len(messages))) if is_supervised(messages[index])), None)


def without_weights(messages: Sequence[Message]) -> list[Message]:
    """The messages as a chat template or an endpoint takes them."""
    return [
        {key: value for key, value in message.items() if key != WEIGHT} if WEIGHT in message else message
        for message in messages
    ]


def through_last_supervised(messages: Sequence[Message]) -> list[Message]:
    """Without weights, and without what follows the last supervised message: no loss depends on it.

    The messages as they are if none is supervised.
    """
    last = last_supervised(messages)
    return list(messages) if last is None else without_weights(messages[: last + 1])
