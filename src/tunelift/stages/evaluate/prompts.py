"""What each arm sees, and which training rows it is shown as examples."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunelift.config.evaluation import ArmConfig
from tunelift.runtime import turns
from tunelift.runtime.supervision import through_last_supervised
from tunelift.runtime.turns import UnusableRow
from tunelift.tasks.task import Item, Task, as_answer, calls_of_reply
from tunelift.tasks.thinking import without_thinking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = dict[str, Any]
Row = Mapping[str, Any]

EXAMPLE_POOL = 500
"""Rows that examples are chosen from."""
SHOWN_FIELDS = ("role", "content", "tool_calls")
"""Of an example's messages."""
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
            {key: message[key] for key in SHOWN_FIELDS if key in message}
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


def showable(rows: Sequence[Row], tokenizer: Callable[[], PreTrainedTokenizerFast] | None) -> list[Row]:
    """Rows as they can stand before a question: with native calls where the chat template shows them so, else in text.

    Mistral's templates and OpenAI's endpoint want a result behind every call, and ChatML without tools leaves it out.
    An example ends with its last supervised reply. Replies are shown without their thinking, as templates show earlier
    turns: an example is to show the answer, and a long thought in it would take the place and the tokens of others.

    Args:
        tokenizer: Loads the arm's tokenizer; None where it is not known.
    """
    rows = [{**row, "messages": list(map(_without_thinking, through_last_supervised(row["messages"])))} for row in rows]
    first = next((row for row in rows if _is_example(row) and row["messages"][-1].get("tool_calls")), None)
    if first is None or (tokenizer is not None and _shows_calls(tokenizer(), first)):
        return rows
    return [{**row, "messages": [_with_calls_in_text(message) for message in row["messages"]]} for row in rows]


def _without_thinking(message: Message) -> Message:
    if message["role"] != "assistant" or not isinstance(message.get("content"), str):
        return message
    return {**message, "content": without_thinking(message["content"])}


def _shows_calls(tokenizer: PreTrainedTokenizerFast, row: Row) -> bool:
    """Whether the calls are to be read in the prompt, and the template takes a question right after them."""
    *before, reply = (message for message in row["messages"] if message["role"] != "system")
    question = {"role": "user", "content": "?"}
    try:
        shown, hidden = (
            turns.render(tokenizer, [*before, last, question], row.get("tools"), generate=True)
            for last in (reply, {"role": "assistant", "content": "?"})
        )
    except UnusableRow:
        return False
    return all(shown.count(call["name"]) > hidden.count(call["name"]) for call in calls_of_reply(reply))


def _with_calls_in_text(message: Message) -> Message:
    calls = calls_of_reply(message)
    if not calls:
        return message
    return {"role": message["role"], "content": json.dumps(as_answer(calls), ensure_ascii=False)}


def choose_examples(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Rows whose replies together show most of what replies are made of, in a fixed order for a seed.

    Fewer examples are the first of more. Greedy maximum coverage of the reply's words, each weighted by the number of
    replies that have it and counted once, per word of the reply (budgeted maximum coverage: Khuller, Moss & Naor, Inf
    Process Lett 70:39-45, 1999).
    """
    usable = [row for row in rows if _is_example(row)]
    pool = random.Random(seed).sample(usable, min(EXAMPLE_POOL, len(usable)))
    words = [_words(_said(row["messages"][-1])) for row in pool]
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


def _said(reply: Message) -> str:
    """What it says, calls as JSON."""
    calls = calls_of_reply(reply)
    return str(reply["content"]) + (json.dumps(calls, ensure_ascii=False) if calls else "")


def _is_example(row: Row) -> bool:
    """A conversation without tools' results that ends with a reply, and in which no reply is blank."""
    return row["messages"][-1]["role"] == "assistant" and all(
        message["role"] in {"system", "user", "assistant"}
        and isinstance(message.get("content"), str)
        and (message["role"] != "assistant" or bool(message["content"].strip() or message.get("tool_calls")))
        for message in row["messages"]
    )
