"""A task: what is asked and how it is judged. Read from a folder with a task.yaml, or made from a data set's split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import digest, file_sha256
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.drawing import draw
from tunelift.tasks import folder as files
from tunelift.tasks.folder import Place, Rendering, Role, TaskFile
from tunelift.tasks.items import Item, Message, make_item
from tunelift.tasks.likelihood import TaskKind, likelihood_scorers
from tunelift.tasks.offered import wrong_calls
from tunelift.tasks.right_answers import refuse_shortfalls
from tunelift.tasks.rows import Row, read_rows
from tunelift.tasks.scorers import NotJsonError, Scorer, build_scorers, parse_json
from tunelift.tasks.scorers.attempts import names_of
from tunelift.tasks.scorers.tool_calls import calls_of
from tunelift.tasks.thinking import without_thinking

__all__ = ["DECODING", "Item", "Message", "Task", "distinct", "load_task", "task_from_split"]

DECODING: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0}
"""How every arm is asked to answer: greedily. What an endpoint does not take of it, the evaluation's summary says."""

FENCED = re.compile(r"\s*(```[\w+-]*)[^\S\n]*\n(.*)```\s*", re.DOTALL)


@dataclass(frozen=True)
class Task:
    """Items with their judgement. `target` tasks should get better, `guard` tasks must not get worse."""

    name: str
    version: int
    role: Role
    description: str
    licence: str
    items: tuple[Item, ...]
    scorers: tuple[Scorer, ...]
    primary: str
    """Name of the metric that the verdict goes by."""
    max_tokens: int
    tools: tuple[Any, ...] | None = None
    kind: TaskKind = "generate"
    margin: float | None = None
    """Of a guard: the acceptable loss in the primary metric."""
    effect: float = 0.05
    """Smallest difference worth finding."""
    rendering: Rendering = "chat"
    """Of a multiple-choice task: through the chat template, or the prompt's contents joined as plain text."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scorers' names."""
        return tuple(scorer.name for scorer in self.scorers)

    def scorer(self, name: str) -> Scorer:
        """The scorer whose metric has this name.

        Raises:
            KeyError: none has.
        """
        return {scorer.name: scorer for scorer in self.scorers}[name]

    @property
    def shared_instruction(self) -> str | None:
        """The system message that every item puts to an untuned arm; None if they differ or have none."""
        found = {
            tuple(str(one["content"]) for one in item.instructed if one["role"] == "system") for item in self.items
        }
        alone = found.pop() if len(found) == 1 else ()
        return alone[0] if len(alone) == 1 else None

    @cached_property
    def digests(self) -> dict[str, str]:
        """Evaluations compare when these are equal: what was asked and is right, how it is judged, how it was decoded.

        Prompts are not in it: they belong to the arm.
        """
        scorers = [[scorer.name, scorer.identity, scorer.kind] for scorer in self.scorers]
        decoding = (
            {**DECODING, "max_tokens": self.max_tokens}
            if self.kind == "generate"
            else {"kind": self.kind, "rendering": self.rendering}
        )
        return {
            "items": digest([_asked(item) for item in self.items]),
            "scorers": digest([scorers, self.primary, self.tools]),
            "decoding": digest(decoding),
        }

    @cached_property
    def digest(self) -> str:
        """Of the whole task, prompts included: what an evaluation is made from."""
        prompts = [[item.prompt, item.instructed, item.tools, item.tags] for item in self.items]
        return digest([self.name, self.version, self.role, self.margin, self.effect, self.digests, prompts])

    def first(self, count: int | None, seed: int = 0) -> Task:
        """The task with the first `count` items that the seed draws, by their ids and in their order; None takes all.

        Items are drawn, not clusters: few items of many clusters tell more than many items of a few.
        """
        items = draw(self.items, count, seed, lambda item: item.id)
        return self if len(items) == len(self.items) else replace(self, items=tuple(items))


def _asked(item: Item) -> list[Any]:
    spoken = item.prompt[-1]["content"] if item.prompt else item.text
    return [item.id, item.question, spoken, item.accepted, item.cluster, item.choices]


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
        UserError: a file that is missing, malformed or changed, or an item whose right answers the primary metric does
            not give full marks; with file, line and remedy.
    """
    described, place = files.read_description(folder / files.FILE)
    rows, problems = read_rows(folder, described)
    if problems:
        more = f" ({len(problems) - 1} more items have something wrong; `tunelift lint` shows all.)"
        raise UserError(
            problems[0].message + (more if len(problems) > 1 else ""),
            where=problems[0].where,
            remedy=problems[0].remedy,
        )
    if described.items_sha256 is not None:
        check_unchanged(folder / described.items, described.items_sha256)
    task = make_task(folder, described, place, rows)
    refuse_shortfalls(task, [row.where for row in rows], open_ended=False)
    return task


def check_unchanged(path: Path, expected: str) -> None:
    """Whether the items file is the one that task.yaml was written for.

    Raises:
        UserError: it is not.
    """
    actual = file_sha256(path)
    if actual != expected:
        raise UserError(
            f"The items file changed: its sha256 is {actual}, and task.yaml says {expected}.",
            where=str(path),
            remedy="Restore the file; or, if it is meant, raise `version` in task.yaml and put the new sha256 there.",
        )


def make_task(folder: Path, described: TaskFile, place: Place, rows: Sequence[Row]) -> Task:
    """The task of a description and its sound rows.

    Raises:
        UserError: the tools, the scorers or an item's fields are not as they should be.
    """
    tools = files.read_tools(folder / described.tools) if described.tools else None
    known = {name for row in rows for name in row.content}
    items = tuple(make_item(row, described, known, tools) for row in rows)

    def where(path: Sequence[str | int]) -> str:
        return place(("scorers", *path))

    if described.kind == "generate":
        has_tools = tools is not None or any(item.tools for item in items)
        scorers = build_scorers(described.scorers, folder=folder, has_tools=has_tools, where=where)
    else:
        scorers = likelihood_scorers(described.kind, described.scorers, where)
    return Task(
        name=described.name,
        version=described.version,
        role=described.role,
        description=described.description,
        licence=described.licence,
        items=items,
        scorers=scorers,
        primary=_primary(described.primary, scorers, place(("primary",))),
        max_tokens=described.max_tokens,
        tools=tools,
        kind=described.kind,
        margin=described.margin,
        effect=described.effect,
        rendering=described.rendering,
    )


def _primary(given: str | None, scorers: Sequence[Scorer], where: str) -> str:
    names = [scorer.name for scorer in scorers]
    if given is not None and given not in names:
        raise UserError(
            f"primary={given} is not among the scorers ({', '.join(names)}).",
            where=where,
            remedy="Add it to them, or choose another.",
        )
    return given or names[0]


# A split of the run's own data


def task_from_split(
    rows: Sequence[Mapping[str, Any]], config: SplitTaskConfig, like: Task | None = None, *, seed: int = 0
) -> Task:
    """A data set's own rows as a task: asked is the conversation without its last reply, right is that reply.

    A reply that calls tools has its calls as the right answer, one as an object and several as a list; one that is a
    JSON object or list has that value, any other its text. Rows whose last reply calls what its tools do not allow are
    left out. Where `tool_call` judges, JSON that is no call stays text
    as well, by which it wants no call. JSON in a code fence counts as JSON where the scorers look for it anywhere.
    Thinking that a reply begins with is no part of its answer.
    Files that scorers name are relative to the working directory.

    Args:
        rows: Of the split.
        config: What is asked of them, and how they are judged.
        like: Judges as this task does, whatever scorers and primary the config names.
        seed: Draws the rows where there are more than `max_items`.

    Raises:
        UserError: no row, an unknown scorer, a last message that is no reply in text, tools whose schemas judge and
            are none, or replies that the primary metric does not give full marks.
    """
    found = [row for row in rows if not any(wrong_calls(row["messages"][-1], row.get("tools")))]
    left_out = len(rows) - len(found)
    rows = draw(found, config.max_items, seed, lambda row: str(row["id"]))
    if not rows:
        raise UserError(
            f"The {config.from_split} split has no row whose reply could be right: {left_out} of {left_out} call what "
            "is not offered, or break the tool's schema."
            if left_out
            else f"The {config.from_split} split is empty, so it cannot be a task.",
            remedy=f"Raise curate.split.{config.from_split}, or give more data.",
        )
    calling = [calls_of_reply(row["messages"][-1]) for row in rows]
    replies = [_last_reply(row) for row in rows]
    values = [_structured(reply) for reply in replies]
    name = config.name or config.from_split
    where = f"task {name}"
    scorers = (
        like.scorers
        if like
        else build_scorers(
            _automatic(calling, values) if config.scorers == "auto" else config.scorers,
            has_tools=any(row.get("tools") for row in rows),
            where=lambda path: where,
        )
    )
    judging = {scorer.identity["scorer"] for scorer in scorers}
    if "schema_valid" in judging:
        for row in rows:
            if row.get("tools"):
                files.check_tools(row["tools"], _place(row))
    if not scorers:
        raise UserError("The task has no scorers.", where=where, remedy="Name one, or write `scorers: auto`.")
    primary = like.primary if like else config.primary
    if primary is None and any(scorer.name == "exact_match" for scorer in scorers):
        primary = "exact_match"
    primary = _primary(primary, scorers, where)
    deciding = next(scorer for scorer in scorers if scorer.name == primary)
    if deciding.identity["options"].get("find") == "anywhere":
        values = [_structured(inside_fence(reply)[1] or reply) for reply in replies]
    if "tool_call" in judging:
        known = [names_of(row.get("tools") or (like.tools if like else None) or ()) for row in rows]
        values = [
            value if calls_of(value, names) is not None else None for value, names in zip(values, known, strict=True)
        ]
    said = [reply if value is None else value for reply, value in zip(replies, values, strict=True)]
    accepted = [as_answer(calls) if calls else right for calls, right in zip(calling, said, strict=True)]
    if left_out:
        console.warn(f"task {name}: {_left_out(left_out)}")
    task = Task(
        name=name,
        version=1,
        role="target",
        description=f"The data set's own {config.from_split} split, which training does not see"
        + (f"; {_left_out(left_out)}" if left_out else "."),
        licence="as the source data",
        items=tuple(_item_from_row(row, right, config.instruction) for row, right in zip(rows, accepted, strict=True)),
        scorers=scorers,
        primary=primary,
        max_tokens=config.max_tokens,
        tools=like.tools if like else None,
        effect=config.effect,
    )
    refuse_shortfalls(task, [_place(row) for row in rows], open_ended=True)
    return task


def _left_out(count: int) -> str:
    return f"left out are {count:,} rows whose reply calls a tool that is not offered, or breaks its schema."


def _automatic(calling: Sequence[list[Any]], values: Sequence[Any]) -> tuple[str, ...]:
    """The scorers that fit every reply, by its native calls and its JSON object or list, if it is one."""
    if any(calling):
        return ("tool_call",)
    if any(value is None for value in values):
        return ("exact_match",)
    names_tools = all(isinstance(value, dict) and "tool" in value for value in values)
    return ("exact_match", "valid_json", "field_f1", *(("right_tool",) if names_tools else ()))


def _last_reply(row: Mapping[str, Any]) -> str:
    last = row["messages"][-1]
    if last["role"] != "assistant" or not isinstance(last.get("content"), str):
        raise UserError(
            "The row does not end with a reply in text, so there is nothing to compare an answer with.",
            where=_place(row),
            remedy="Leave such rows out of the data, or evaluate on a task folder instead.",
        )
    return without_thinking(str(last["content"]))


def _place(row: Mapping[str, Any]) -> str:
    return str(row.get("source", row["id"]))


def calls_of_reply(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls of a message, as the scorer `tool_call` reads them."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return [{"name": function["name"], "arguments": function["arguments"]} for function in functions]


def as_answer(calls: list[dict[str, Any]]) -> Any:
    """Calls as an endpoint's native ones are read: one as an object, several as a list."""
    return calls[0] if len(calls) == 1 else calls


def _structured(reply: str) -> dict[str, Any] | list[Any] | None:
    """The JSON object or list that the reply is; None if it is neither: a bare number or string is text."""
    try:
        value = parse_json(reply)
    except NotJsonError:
        return None
    return value if isinstance(value, (dict, list)) else None


def inside_fence(reply: str) -> tuple[str, str]:
    """How the code fence begins that the reply is, such as "```json", and what stands in it; ("", "") without one."""
    found = FENCED.fullmatch(reply)
    return (found[1], found[2]) if found else ("", "")


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
        # Rows that curation did not write may have no more than their own group.
        cluster=row.get("cluster") or row.get("group") or None,
        tools=tuple(row["tools"]) if row.get("tools") else None,
    )
