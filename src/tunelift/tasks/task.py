"""A task: what is asked and how it is judged. Read from a folder with a task.yaml, or made from a data set's split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import digest, file_sha256
from tunelift.config.schema import SplitTaskConfig
from tunelift.errors import UserError
from tunelift.tasks import scorers
from tunelift.tasks.folder import (
    PromptFile,
    Role,
    TaskFile,
    check_scorers,
    item_lines,
    read_description,
    read_row,
    read_tools,
)

Message = dict[str, Any]

DECODING: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0}
"""How every arm answers: greedily."""


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
    """What the user asks, without the fixed parts of the prompt: what must not stand in the training data."""
    cluster: str | None = None
    tags: tuple[str, ...] = ()
    tools: tuple[Any, ...] | None = None
    """Schemas that the chat template renders; a task's own tools stand in the prompt's text instead."""


@dataclass(frozen=True)
class Task:
    """Items with their judgement. `target` tasks should get better, `guard` tasks must not get worse."""

    name: str
    version: int
    role: Role
    description: str
    licence: str
    items: tuple[Item, ...]
    scorers: tuple[str, ...]
    primary: str
    max_tokens: int
    tools: tuple[Any, ...] | None = None

    @cached_property
    def digests(self) -> dict[str, str]:
        """Evaluations compare when these are equal: what was asked and is right, how it is judged, how it was decoded.

        Prompts are not in it: they belong to the arm.
        """
        return {
            "items": digest(
                [
                    [item.id, item.question, item.prompt[-1]["content"], item.accepted, item.cluster]
                    for item in self.items
                ]
            ),
            "scorers": digest([self.scorers, self.primary, self.tools, scorers.VERSION]),
            "decoding": digest({**DECODING, "max_tokens": self.max_tokens}),
        }

    @cached_property
    def digest(self) -> str:
        """Of the whole task, prompts included: what an evaluation is made from."""
        prompts = [[item.prompt, item.instructed, item.tools, item.tags] for item in self.items]
        return digest([self.name, self.version, self.role, self.digests, prompts])

    def first(self, count: int | None) -> Task:
        """The task with its first `count` items; with all for None."""
        return self if count is None or count >= len(self.items) else replace(self, items=self.items[:count])


def distinct(tasks: Iterable[Task]) -> list[Task]:
    """The tasks, each under a name of its own.

    Raises:
        UserError: two have one name.
    """
    found = list(tasks)
    names = [task.name for task in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"Two of evaluate.tasks have the name {twice!r}.",
            remedy="Give each a name of its own: `name:` in task.yaml, or beside `from_split:`.",
        )
    return found


def load_task(folder: Path) -> Task:
    """Read a task's folder.

    Raises:
        UserError: a file that is missing, malformed or changed, with file, line and remedy.
    """
    described = read_description(folder / "task.yaml")
    tools = read_tools(folder / described.tools) if described.tools else None
    check_scorers(described.scorers, described.primary, tools, where=str(folder / "task.yaml"))
    path = folder / described.items
    items = _read_items(path, described, tools)
    actual = file_sha256(path)
    if actual != described.items_sha256:
        raise UserError(
            f"The items file changed: its sha256 is {actual}, and task.yaml says {described.items_sha256}.",
            where=str(path),
            remedy="Restore the file; or, if it is meant, raise `version` in task.yaml and put the new sha256 there.",
        )
    return Task(
        name=described.name,
        version=described.version,
        role=described.role,
        description=described.description,
        licence=described.licence,
        items=items,
        scorers=described.scorers,
        primary=described.primary,
        max_tokens=described.max_tokens,
        tools=tools,
    )


def _read_items(path: Path, described: TaskFile, tools: tuple[Any, ...] | None) -> tuple[Item, ...]:
    rows = [(number, read_row(line, f"{path}:{number}")) for number, line in item_lines(path)]
    if not rows:
        raise UserError(
            "The file holds no item.", where=str(path), remedy='Write one JSON object a line: {"id", "accepted", …}.'
        )
    known = {name for _, row in rows for name in row}
    fixed = {"tools": _as_text(tools)} if tools else {}
    seen: dict[str, int] = {}
    items = []
    for number, row in rows:
        first = seen.setdefault(row["id"], number)
        if first != number:
            raise UserError(
                f"The id {row['id']!r} stands on line {first} already.",
                where=f"{path}:{number}",
                remedy="Give each item an id of its own.",
            )
        items.append(_make_item(row, described, known, fixed, f"{path}:{number}"))
    return tuple(items)


def _make_item(row: dict[str, Any], described: TaskFile, known: set[str], fixed: dict[str, str], where: str) -> Item:
    templates = described.prompt
    needed = [name for name in _fields(templates) if name in known and name not in fixed]
    absent = [name for name in (*needed, *([described.cluster] if described.cluster else [])) if name not in row]
    if absent:
        raise UserError(f"The item has no field `{absent[0]}`, which the task uses.", where=where, remedy="Add it.")
    values = {name: _as_text(row[name]) for name in needed} | fixed
    user = {"role": "user", "content": _fill(templates.user, values)}
    system = templates.system
    instructed = templates.instructed if templates.instructed is not None else system
    asked = ["request"] if "request" in needed else [name for name in _FIELD.findall(templates.user) if name in needed]
    return Item(
        id=row["id"],
        prompt=(*_system(system, values), user),
        instructed=(*_system(instructed, values), user),
        accepted=tuple(row["accepted"]),
        question="\n".join(values[name] for name in asked) or user["content"],
        cluster=_as_text(row[described.cluster]) if described.cluster else None,
        tags=tuple(row.get("tags", ())),
    )


_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _fields(prompt: PromptFile) -> list[str]:
    return list(dict.fromkeys(_FIELD.findall("".join((prompt.system or "", prompt.user, prompt.instructed or "")))))


def _fill(template: str, values: Mapping[str, str]) -> str:
    """In one pass, so that braces inside a value stay as they are."""
    return _FIELD.sub(lambda found: values.get(found[1], found[0]), template)


def _system(template: str | None, values: Mapping[str, str]) -> tuple[Message, ...]:
    return () if template is None else ({"role": "system", "content": _fill(template, values)},)


def _as_text(value: Any) -> str:
    import orjson

    return value if isinstance(value, str) else orjson.dumps(value).decode()


def task_from_split(rows: Sequence[Mapping[str, Any]], config: SplitTaskConfig) -> Task:
    """A data set's own rows as a task: asked is the conversation without its last reply, right is that reply.

    Raises:
        UserError: no row, an unknown scorer, or a last message that is no reply in text.
    """
    rows = rows[: config.max_items]
    if not rows:
        raise UserError(
            f"The {config.from_split} split is empty, so it cannot be a task.",
            remedy=f"Raise curate.split.{config.from_split}, or give more data.",
        )
    replies = [_last_reply(row) for row in rows]
    parsed = [_object_or_none(reply) for reply in replies]
    structured = [value for value in parsed if value is not None]
    is_json = len(structured) == len(replies)
    calls = is_json and all("tool" in value for value in structured)
    automatic = ("exact_match", *(("valid_json", "field_f1") if is_json else ()), *(("right_tool",) if calls else ()))
    chosen = automatic if config.scorers == "auto" else tuple(config.scorers)
    primary = "exact_match" if "exact_match" in chosen else chosen[0]
    name = config.name or config.from_split
    check_scorers(chosen, primary, None, where=f"task {name}")
    accepted: list[Any] = list(structured) if is_json else list(replies)
    return Task(
        name=name,
        version=1,
        role="target",
        description=f"The data set's own {config.from_split} split, which training does not see.",
        licence="as the source data",
        items=tuple(_item_from_row(row, right, config.instruction) for row, right in zip(rows, accepted, strict=True)),
        scorers=chosen,
        primary=primary,
        max_tokens=config.max_tokens,
    )


def _last_reply(row: Mapping[str, Any]) -> str:
    last = row["messages"][-1]
    if last["role"] != "assistant" or not isinstance(last.get("content"), str):
        raise UserError(
            "The row does not end with a reply in text, so there is nothing to compare an answer with.",
            where=str(row.get("source", row["id"])),
            remedy="Leave such rows out of the data, or evaluate on a task folder instead.",
        )
    return str(last["content"])


def _object_or_none(reply: str) -> dict[str, Any] | None:
    try:
        value = scorers.parse_json(reply)
    except scorers.NotJsonError:
        return None
    return value if isinstance(value, dict) else None


def _item_from_row(row: Mapping[str, Any], right: Any, instruction: str | None) -> Item:
    prompt = tuple(row["messages"][:-1])
    spoken = tuple(message for message in prompt if message["role"] != "system")
    question = next((str(message["content"]) for message in reversed(prompt) if message["role"] == "user"), "")
    return Item(
        id=row["id"],
        prompt=prompt,
        instructed=prompt if instruction is None else ({"role": "system", "content": instruction}, *spoken),
        accepted=(right,),
        question=question,
        cluster=row.get("group"),
        tools=tuple(row["tools"]) if row.get("tools") else None,
    )
