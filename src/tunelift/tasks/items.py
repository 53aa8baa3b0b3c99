"""An item, and how a row of a task's data becomes one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunelift.artifacts.records import digest
from tunelift.errors import UserError
from tunelift.runtime.openai_form import openai_tools
from tunelift.runtime.scripts import count_words
from tunelift.tasks.folder import TaskFile, check_tools
from tunelift.tasks.rows import Row
from tunelift.tasks.thinking import without_thinking

Message = dict[str, Any]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
MADE = ("choice", "letter")
"""Fields of `prompt.choice` that the task fills in for each choice."""

FEWEST_WORDS_ALONE = 8
"""A shorter question may be an exam's usual phrase, such as "Which of the following is true?": it counts with its
choices."""


@dataclass(frozen=True)
class Item:
    """One question and its right answers."""

    id: str
    prompt: tuple[Message, ...]
    """Messages as the tuned arm sees them."""
    instructed: tuple[Message, ...]
    """Messages as an untuned arm sees them."""
    accepted: tuple[Any, ...]
    """Right answers: parsed JSON, or a string for a textual answer."""
    question: str
    """What the user asks, without the fixed parts of the prompt."""
    cluster: str | None = None
    tags: tuple[str, ...] = ()
    """The slices that it belongs to."""
    tools: tuple[Any, ...] | None = None
    """Schemas that the chat template renders; a task's own tools stand in the prompt's text instead."""
    choices: tuple[str, ...] = ()
    """Of a multiple-choice item: the continuations, as they follow the rendered prompt."""
    right: int | None = None
    """Number of the right choice, from 0."""
    text: str = ""
    """Of a perplexity item: the text."""
    held_out: str = ""
    """What must not stand in the training data: the question without choices listed in it, which may outweigh it."""

    @cached_property
    def question_digest(self) -> str:
        """16 hex digits that are equal where the same is asked, whatever the instruction and the accepted answers are.

        The question counts without its case and white space, and so does what was said before it; fixed parts of the
        prompt, the item's id and its task's name do not count.
        """
        spoken = [message for message in self.prompt if message["role"] != "system"]
        users = [place for place, message in enumerate(spoken) if message["role"] == "user"]
        if users:
            del spoken[users[-1]]  # `question` is what it asks.
        said = [[one["role"], _folded(one.get("content")), one.get("tool_calls")] for one in spoken]
        return digest([_folded(self.question), said, [_folded(one) for one in self.choices]])[:16]


def _folded(text: Any) -> Any:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split()) if isinstance(text, str) else text


def make_item(row: Row, described: TaskFile, known: set[str], tools: tuple[Any, ...] | None) -> Item:
    """The item of a checked row; `known` are the fields of any row, which the templates' {fields} may mean.

    Raises:
        UserError: the row lacks a field that the task uses, or its own tools are not as they should be.
    """
    content = row.content
    used = [*(described.cluster,) * bool(described.cluster), *described.slices]
    needed = [] if described.kind == "perplexity" else needed_fields(described, known, tools)
    absent = next((name for name in (*needed, *used) if name not in content), None)
    if absent is not None:
        raise UserError(f"The item has no field `{absent}`, which the task uses.", where=row.where, remedy="Add it.")
    cluster = _cluster(content[described.cluster]) if described.cluster else None
    tags = (*content.get("tags", ()), *(tag for name in described.slices for tag in _slices(name, content[name])))
    if described.kind == "perplexity":
        text = content["text"]
        return Item(row.id, (), (), (), question=text, cluster=cluster, tags=tags, text=text, held_out=text)
    values = {name: as_text(content[name]) for name in needed} | ({"tools": as_text(tools)} if tools else {})
    if described.kind == "choice":
        values |= {"choices": listed(content["choices"])} if "choices" in needed else {}
    templates = described.prompt
    user: Message = {"role": "user", "content": fill(templates.user, values)}
    instructed = templates.instructed if templates.instructed is not None else templates.system
    choices = _continuations(row, described, user["content"]) if described.kind == "choice" else ()
    # `request` if the prompt has it, else all fields of the user message.
    asked = ["request"] if "request" in needed else [name for name in FIELD.findall(templates.user) if name in needed]
    question = _joined(values, asked) or user["content"]
    alone = _joined(values, [name for name in asked if name != "choices"])
    return Item(
        id=row.id,
        prompt=(*_system(templates.system, values), user),
        instructed=(*_system(instructed, values), user),
        accepted=(choices[content["right"]],) if choices else tuple(map(_accepted, content["accepted"])),
        question=question,
        cluster=cluster,
        tags=tags,
        tools=None if tools or "tools" in needed else _own_tools(row),
        choices=choices,
        right=content["right"] if choices else None,
        held_out=alone if count_words(alone) >= FEWEST_WORDS_ALONE else question,
    )


def _accepted(right: Any) -> Any:
    return without_thinking(right) if isinstance(right, str) else right


def needed_fields(described: TaskFile, known: set[str], tools: tuple[Any, ...] | None) -> list[str]:
    """The item fields that the templates use, in their order. A {name} that no item has is literal text."""
    return [name for name in template_fields(described) if name in known and not (name == "tools" and tools)]


def template_fields(described: TaskFile) -> list[str]:
    """Every {field} of the templates, in their order."""
    prompt = described.prompt
    parts = [prompt.system or "", prompt.user, prompt.instructed or ""]
    fields = FIELD.findall("".join(parts))
    if described.kind == "choice":
        fields += [name for name in FIELD.findall(described.choice) if name not in MADE]
    return list(dict.fromkeys(fields))


def _joined(values: Mapping[str, str], names: Sequence[str]) -> str:
    return "\n".join(values[name] for name in dict.fromkeys(names))


def _continuations(row: Row, described: TaskFile, prompt: str) -> tuple[str, ...]:
    choices, template = row.content["choices"], described.choice
    if described.prompt.choice is None and prompt[-1:].isspace():
        template = template.lstrip()  # The prompt has the blank already.
    if "letter" in FIELD.findall(template) and len(choices) > len(LETTERS):
        raise UserError(
            f"The item has {len(choices)} choices, and there are {len(LETTERS)} letters.",
            where=row.where,
            remedy="Take choices out, or use {choice} in prompt.choice.",
        )
    values = {name: as_text(row.content[name]) for name in FIELD.findall(template) if name in row.content}
    made = tuple(
        fill(template, values | {"choice": choice, "letter": LETTERS[number % len(LETTERS)]})
        for number, choice in enumerate(choices)
    )
    twice = next((choice for choice in made if made.count(choice) > 1), None)
    if twice is not None:
        raise UserError(
            f"Two choices become the same continuation, {twice!r}.",
            where=row.where,
            remedy="Make the choices differ, and use {choice} or {letter} in prompt.choice.",
        )
    return made


def listed(choices: Sequence[str]) -> str:
    """What {choices} becomes: one line each, lettered."""
    return "\n".join(f"{LETTERS[number % len(LETTERS)]}. {choice}" for number, choice in enumerate(choices))


def _own_tools(row: Row) -> tuple[Any, ...] | None:
    """The item's own tools, for the chat template to render."""
    tools = row.content.get("tools")
    return tuple(openai_tools(check_tools(tools, row.where))) if isinstance(tools, list) and tools else None


def _cluster(value: Any) -> str | None:
    """What the item shares with others; without a value it stands alone."""
    return None if value is None else as_text(value) or None


def _slices(name: str, value: Any) -> list[str]:
    return [f"{name}: {as_text(one)}" for one in (value if isinstance(value, list) else [value])]


def _system(template: str | None, values: Mapping[str, str]) -> tuple[Message, ...]:
    return () if template is None else ({"role": "system", "content": fill(template, values)},)


def fill(template: str, values: Mapping[str, str]) -> str:
    """In one pass, so that braces inside a value stay as they are."""
    return FIELD.sub(lambda found: values.get(found[1], found[0]), template)


def as_text(value: Any) -> str:
    """Text as it is, anything else as compact JSON."""
    import orjson

    return value if isinstance(value, str) else orjson.dumps(value).decode()
