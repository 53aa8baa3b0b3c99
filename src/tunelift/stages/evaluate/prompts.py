"""What each arm sees, and which training rows it is shown as examples."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunelift.config.evaluation import ArmConfig
from tunelift.tasks.task import Item, Task

Message = dict[str, Any]
Row = Mapping[str, Any]

EXAMPLE_POOL = 500
"""Rows that examples are chosen from."""
SHOWN_CHARACTERS = 20_000
"""Of an example of the arm's prompt in the summary."""


@dataclass(frozen=True)
class Prompting:
    """How an arm puts its questions."""

    trained: bool
    """With the prompt that the tuned model was trained with, instead of the task's full instruction."""
    instruction: str | None = None
    """System message in place of the task's own."""
    shots: tuple[Row, ...] = ()
    """Training rows, shown as earlier turns."""

    @classmethod
    def of(cls, arm: ArmConfig, shots: Sequence[Row] = ()) -> Prompting:
        """An arm whose prompt is declared, with its examples."""
        return cls(arm.prompt == "trained", arm.instruction, tuple(shots))

    def build(self, task: Task, item: Item) -> list[Message]:
        """The messages. Guards are put the same way by every arm; a text whose perplexity is measured stands alone."""
        if task.kind == "perplexity":
            return [{"role": "text", "content": item.text}]
        if task.role == "guard":
            return list(item.instructed)
        if self.trained:
            return list(item.prompt)
        spoken = [message for message in item.instructed if message["role"] != "system"]
        system = [message for message in item.instructed if message["role"] == "system"]
        if self.instruction is not None:
            system = [{"role": "system", "content": self.instruction}]
        shown = [
            {"role": message["role"], "content": message["content"]}
            for shot in self.shots
            for message in shot["messages"]
            if message["role"] != "system"
        ]
        return [*system, *shown, *spoken]

    def describe(self) -> str:
        """For summaries."""
        if self.trained:
            return "the short prompt that it was trained with"
        instruction = "an instruction of its own" if self.instruction is not None else "the task's full instruction"
        examples = f"{len(self.shots)} example{'s' if len(self.shots) > 1 else ''} from the training split"
        return instruction + (f" and {examples}" if self.shots else "")


def as_text(messages: Sequence[Message]) -> str:
    """For tasks that are asked without a chat template: what is said, with a blank line between the messages."""
    return "\n\n".join(str(message.get("content") or "") for message in messages)


def shortened(messages: Sequence[Message]) -> list[Message]:
    """The messages with at most `SHOWN_CHARACTERS` of content, cut where they reach it."""
    left, shown = SHOWN_CHARACTERS, []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            message = {**message, "content": content if len(content) <= left else content[:left] + "…"}
            left = max(0, left - len(content))
        shown.append(message)
        if not left:
            break
    return shown


def choose_examples(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Rows whose replies together show most of what replies are made of, in a fixed order for a seed.

    Fewer examples are the first of more. Greedy maximum coverage of the reply's words, each weighted by the number of
    replies that have it and counted once, per word of the reply (budgeted maximum coverage: Khuller, Moss & Naor, Inf
    Process Lett 70:39-45, 1999).
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


def _is_plain(row: Row) -> bool:
    """A conversation in text that ends with a reply."""
    return row["messages"][-1]["role"] == "assistant" and all(
        message["role"] in {"system", "user", "assistant"} and isinstance(message.get("content"), str)
        for message in row["messages"]
    )
