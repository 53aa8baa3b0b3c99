"""What each arm sees, and which training rows the `prompted` arm is shown."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tunelift.config.schema import Arm
from tunelift.tasks.task import Item

Message = dict[str, Any]

EXAMPLE_POOL = 500
"""Rows that examples are chosen from."""


def build(item: Item, arm: Arm, shots: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages: the trained prompt for `tuned`, the instructed one otherwise, with examples for `prompted`."""
    if arm == "tuned":
        return list(item.prompt)
    system = [message for message in item.instructed if message["role"] == "system"]
    spoken = [message for message in item.instructed if message["role"] != "system"]
    shown = [
        {"role": message["role"], "content": message["content"]}
        for shot in shots
        for message in shot["messages"]
        if message["role"] != "system"
    ]
    return [*system, *shown, *spoken]


def describe(arm: Arm, shots: int) -> str:
    """For summaries."""
    if arm == "tuned":
        return "the short prompt that it was trained with"
    return "the task's full instruction" + (f" and {shots} examples from the training split" if shots else "")


def choose_examples(rows: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[Mapping[str, Any]]:
    """Rows whose replies together show most of what replies are made of, in a fixed order for a seed.

    Greedy maximum coverage of the reply's words, each weighted by the number of replies that have it and counted once,
    per word of the reply (budgeted maximum coverage: Khuller, Moss & Naor, Inf Process Lett 70:39-45, 1999).
    """
    usable = [row for row in rows if _is_plain(row)]
    pool = random.Random(seed).sample(usable, min(EXAMPLE_POOL, len(usable)))
    words = [_words(str(row["messages"][-1]["content"])) for row in pool]
    frequency = Counter(word for found in words for word in found)
    chosen: list[int] = []
    covered: set[str] = set()
    for _ in range(min(count, len(pool))):
        free = (index for index in range(len(pool)) if index not in chosen)
        best = max(free, key=lambda index: _gain(words[index], covered, frequency))
        chosen.append(best)
        covered |= words[best]
    return [pool[index] for index in chosen]


def _gain(words: set[str], covered: set[str], frequency: Mapping[str, int]) -> float:
    # A word of a single reply is a value, and teaches nothing about the others.
    return sum(frequency[word] for word in words - covered if frequency[word] > 1) / (len(words) or 1)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _is_plain(row: Mapping[str, Any]) -> bool:
    """A conversation in text that ends with a reply."""
    return row["messages"][-1]["role"] == "assistant" and all(
        message["role"] in {"system", "user", "assistant"} and isinstance(message.get("content"), str)
        for message in row["messages"]
    )
