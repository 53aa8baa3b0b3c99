"""How an answer is judged: functions from an output and an item to a score. No rule raises on any output.

Thinking that an output begins with is taken off. The answer is then taken as it came: no code fence is forgiven,
nothing is fished out of surrounding text, unless an option asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunelift.tasks.scorers.base import VERSION, Kind, Scorer
from tunelift.tasks.scorers.build import SCORERS, build_scorers
from tunelift.tasks.scorers.json_values import NotJsonError, canonical_json, canonical_text, parse_json

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task

__all__ = [
    "SCORERS",
    "VERSION",
    "Kind",
    "NotJsonError",
    "Scorer",
    "build_scorers",
    "canonical_json",
    "canonical_text",
    "parse_json",
    "score",
]


def score(output: str, item: Item, task: Task) -> dict[str, float]:
    """All of a generating task's scores for one output, by the metrics' names.

    Raises:
        UserError: code from outside (a published metric, a user's function) failed.
    """
    return {scorer.name: scorer.function(output, item, task) for scorer in task.scorers}
