"""task.yaml and the tools beside it, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tunelift.config.load import read_yaml
from tunelift.config.section import Section
from tunelift.errors import UserError
from tunelift.tasks.likelihood import TaskKind
from tunelift.tasks.scorers import NotJsonError, parse_json
from tunelift.tasks.scorers.attempts import name_of
from tunelift.tasks.scorers.base import read_text
from tunelift.tasks.scorers.build import validated
from tunelift.tasks.scorers.structured import check_schema

Role = Literal["target", "guard"]
Rendering = Literal["chat", "plain"]
FILE = "task.yaml"


class PromptFile(Section):
    """Templates: {field} becomes an item's field of that name, {tools} the schemas; other braces stay."""

    system: str | None = None
    """System message of the tuned arm."""
    user: str = "{request}"
    """User message of all arms."""
    instructed: str | None = None
    """System message of arms that were not tuned; without it they see the tuned arm's."""
    choice: str | None = None
    """Of a multiple-choice task, what follows the prompt: {choice} is its text, {letter} A, B, C …; by default
    `{choice}`, with a blank before it where the rendering is plain and the prompt ends in none."""


class HubFile(Section):
    """A data set of the hub."""

    id: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", examples=["owner/name"])
    """Its id."""
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", examples=["a full commit of 40 hex digits"])
    """The commit, so that no item changes unnoticed."""
    split: str = "test"
    """The split."""
    config: str | None = None
    """The configuration, for a data set with several."""


MEANINGLESS: dict[TaskKind, tuple[str, ...]] = {
    "generate": ("rendering",),
    "choice": ("max_tokens",),
    "perplexity": ("max_tokens", "rendering", "prompt", "tools"),
}
"""Keys that nothing would read."""


class TaskFile(Section):
    """task.yaml."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)
    """Names the task in reports."""
    version: int = Field(ge=1)
    """Raised with every change of the items or their answers."""
    role: Role = "target"
    """`target`: should get better; `guard`: must not get worse."""
    kind: TaskKind = "generate"
    """`generate`: an answer is written; `choice`: the likeliest of given answers; `perplexity`: how likely text is."""
    description: str
    """What it measures, in a sentence."""
    licence: str = Field(examples=["CC-BY-4.0"])
    """Of the items."""
    items: str = "items.jsonl"
    """One JSON object a line: `id`, `accepted` (a list), the fields of the prompt, and optionally `tags`."""
    items_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """sha256 of the items file, so that no item changes unnoticed."""
    hub: HubFile | None = None
    """A data set of the hub in place of the file."""
    fields: dict[str, str] = Field({}, examples=["{accepted: answer}"])
    """Our names for columns of the data: {accepted: answer}; a part of a column as `answers.text`."""
    tools: str | None = None
    """JSON file with a list of tool schemas."""
    prompt: PromptFile = PromptFile()
    """How an item becomes messages."""
    rendering: Rendering = "chat"
    """Of a multiple-choice task: through the model's chat template, or as plain text."""
    scorers: tuple[Any, ...] = ()
    """What is measured: names, or {scorer, name, options}."""
    primary: str | None = None
    """The metric that the verdict goes by; by default the first."""
    cluster: str | None = None
    """The item field whose equal values belong together."""
    slices: tuple[str, ...] = ()
    """Item fields whose values divide the items in the report."""
    margin: float | None = Field(None, gt=0, lt=1, examples=[0.03])
    """Of a guard: the loss in the primary metric that would still be acceptable."""
    effect: float = Field(0.05, gt=0, lt=1)
    """Smallest difference worth finding."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer."""

    @model_validator(mode="after")
    def _combinations(self) -> TaskFile:
        unread = next((key for key in MEANINGLESS[self.kind] if key in self.model_fields_set), None)
        if unread:
            raise ValueError(f"`{unread}` means nothing for a task of the kind {self.kind}; remove it")
        if self.kind == "generate" and not self.scorers:
            raise ValueError("The task has no scorers; write `scorers: [exact_match]`, say")
        if self.role == "guard" and self.margin is None:
            raise ValueError("A guard needs a margin: the loss that would still be acceptable, such as `margin: 0.03`")
        if self.role == "target" and self.margin is not None:
            raise ValueError("`margin` belongs to guards; remove it, or set `role: guard`")
        if self.hub and {"items", "items_sha256"} & self.model_fields_set:
            raise ValueError("A task has either `items` or `hub`; remove one of them")
        if not self.hub and self.items_sha256 is None:
            raise ValueError("`items_sha256` is missing; add the sha256 of the items file (`sha256sum items.jsonl`)")
        return self

    @property
    def choice(self) -> str:
        """What follows the prompt of a multiple-choice task, as a template."""
        # Behind a chat template's header no model writes a blank; in plain text it belongs to the next word's token.
        usual = " {choice}" if self.rendering == "plain" else "{choice}"
        return self.prompt.choice if self.prompt.choice is not None else usual


Place = Callable[[Sequence[str | int]], str]


def read_description(path: Path) -> tuple[TaskFile, Place]:
    """task.yaml, and where each of its values stands.

    Raises:
        UserError: it is missing, no YAML, or says what has no meaning; with file, line and remedy.
    """
    remedy = "A task is a folder with a task.yaml; correct evaluate.tasks."
    if not read_text(path, remedy).strip():
        raise UserError("The file is empty.", where=str(path), remedy="Write `name: …` and what a task needs beside.")
    tree = read_yaml(path)
    return validated(TaskFile, tree.plain(), tree.place, what="a task", written=tree.written_at), tree.place


def read_tools(path: Path) -> tuple[Any, ...]:
    """The tools' schemas.

    Raises:
        UserError: the file is missing, or is no list of tools with sound JSON schemas.
    """
    text = read_text(path, "Correct `tools:` in task.yaml.")
    try:
        tools = parse_json(text)
    except NotJsonError as error:
        raise UserError(f"This is no JSON: {error}.", where=str(path), remedy="Correct the file.") from error
    return check_tools(tools, str(path))


def check_tools(tools: Any, where: str) -> tuple[Any, ...]:
    """The tools, if they are a list of tools with sound JSON schemas.

    Raises:
        UserError: they are not.
    """
    shape = "Write a list of objects with `name`, `description` and `parameters` (a JSON schema)."
    if not isinstance(tools, list) or not tools:
        raise UserError("This is no list of tools.", where=where, remedy=shape)
    for position, tool in enumerate(tools, 1):
        name = name_of(tool)
        if not name:
            raise UserError(f"Tool {position} has no name.", where=where, remedy=shape)
        parameters = tool.get("function", tool).get("parameters", {})
        check_schema(parameters, where, f"What tool {name!r} has as parameters")
        if not isinstance(parameters, dict):
            raise UserError(f"The parameters of tool {name!r} are no JSON object.", where=where, remedy=shape)
    return tuple(tools)
