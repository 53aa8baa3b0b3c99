"""What a scorer is, and what its options may refer to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunelift.config.section import Section
from tunelift.errors import UserError
from tunelift.tasks.thinking import scored

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task

VERSION = 4
"""Part of every scorer's identity: raise it when a score can come out differently; old scores are then not compared."""

Kind = Literal["binary", "graded"]
"""`binary`: right or wrong; `graded`: a number. Each gets the statistics that it needs."""

Function = Callable[[Any, "Item", "Task"], float]
"""From the output's text (likelihood tasks: the log-probabilities), the item and the task to the score."""


def of_the_answer(function: Function) -> Function:
    """The function, given the answer alone: thinking that the output begins with is taken off."""
    return lambda output, item, task: function(scored(output, item.accepted), item, task)


def written(answer: Any) -> str:
    """An accepted answer as a model would write it: text as it is, anything else as JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


@dataclass(frozen=True)
class Scorer:
    """One metric of a task: a scorer with its options."""

    name: str
    """The metric's name; no other scorer of the task has it."""
    kind: Kind
    function: Function
    """Given the whole output; it takes the thinking off by itself. Rules never raise, whatever a model wrote. Code from
    outside (a published metric, a user's function) may fail; then it raises a UserError that names it and the item."""
    identity: Mapping[str, Any]
    """What it is, as JSON: enters the digest by which evaluations are compared."""
    lower_is_better: bool = False
    bounded: bool = True
    """Scores lie in [0, 1]."""
    written: Callable[[Any], str] = written
    """An accepted answer as an output that deserves full marks."""
    compares: bool = True
    """It compares with the accepted answers, so that each of these deserves full marks."""
    strict: bool | None = None
    """Whether equal texts are equal character by character; None where it does not compare whole texts."""
    sees: Callable[[str], float] | None = None
    """Of a metric that divides text into words: the share of a text's letters that it can tell apart by them."""
    outside: bool = False
    """Code from outside judges, which may be slow, and may mean anything by full marks."""


@dataclass(frozen=True)
class Place:
    """Where a scorer stands."""

    folder: Path
    """Files that options name are relative to it."""
    where: str
    """For messages, such as `evals/mine/task.yaml:12`."""


@dataclass(frozen=True)
class Bound:
    """What options make of a rule: the parts of a `Scorer` that the rule itself decides."""

    kind: Kind
    function: Function
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Replaces options of the same name: a file's content stands for its path."""
    lower_is_better: bool = False
    bounded: bool = True
    written: Callable[[Any], str] = written
    compares: bool = True
    strict: bool | None = None
    sees: Callable[[str], float] | None = None
    outside: bool = False


class NoOptions(Section):
    """It has none."""


@dataclass(frozen=True)
class Rule:
    """A kind of scorer, as `scorers:` names it: which options it takes, and what they make of it."""

    bind: Callable[[Any, Place], Bound]
    options: type[Section] = NoOptions
    needs_tools: Callable[[Any], bool] = lambda options: False


def fixed(kind: Kind, function: Function, *, compares: bool = True) -> Rule:
    """A rule without options."""
    return Rule(lambda options, place: Bound(kind, function, compares=compares))


def read_text(path: Path, remedy: str) -> str:
    """A file of a task.

    Raises:
        UserError: it is missing, cannot be read or is not in UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError("The file is missing.", where=str(path), remedy=remedy) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError("The file is not in UTF-8.", where=f"{path}:{line}", remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"The file cannot be read: {error.strerror}.", where=str(path), remedy=remedy) from error
