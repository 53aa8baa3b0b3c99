"""Rules on the content of answers in JSON: the share of its fields that are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tunelift.tasks.scorers.base import Bound, Place
from tunelift.tasks.scorers.json_values import AnswerOptions, canonical_json
from tunelift.tasks.scorers.structured import parsed_output

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task

MAX_PAIRS = 250_000
"""Fields of the output times fields of the accepted answer; in larger answers, lists are compared place by place."""


@dataclass(frozen=True)
class Tree:
    """A JSON value with the number of its fields: values that are neither object nor list, and empty ones."""

    value: Any
    strict: bool
    inside: dict[str, Tree] | list[Tree] = field(default_factory=list)
    """Of an object or list; empty for anything else."""
    size: int = 1

    @cached_property
    def canonical(self) -> str:
        """Equal for equal values. An empty list is no empty object."""
        return canonical_json(self.value, strict=self.strict)


def tree(value: Any, strict: bool) -> Tree:
    """The value as a tree."""
    if isinstance(value, dict) and value:
        entries = {key: tree(entry, strict) for key, entry in value.items()}
        return Tree(value, strict, entries, sum(entry.size for entry in entries.values()))
    if isinstance(value, list) and value:
        parts = [tree(entry, strict) for entry in value]
        return Tree(value, strict, parts, sum(part.size for part in parts))
    return Tree(value, strict)


def shared(left: Tree, right: Tree) -> int:
    """How many fields they have in common: at the same keys, and in lists as well as their order allows."""
    return _shared(left, right, left.size * right.size <= MAX_PAIRS)


def _shared(left: Tree, right: Tree, aligned: bool) -> int:
    if left.canonical == right.canonical:
        return left.size
    if isinstance(left.inside, dict) and isinstance(right.inside, dict):
        common = left.inside.keys() & right.inside.keys()
        return sum(_shared(left.inside[key], right.inside[key], aligned) for key in common)
    if isinstance(left.inside, list) and isinstance(right.inside, list):
        if not aligned:
            return sum(_shared(one, other, False) for one, other in zip(left.inside, right.inside, strict=False))
        return _aligned(left.inside, right.inside)
    return 0


def _aligned(left: Sequence[Tree], right: Sequence[Tree]) -> int:
    """The most fields that elements have in common, each with at most one of the other list, none crossing another.

    The longest common subsequence, with elements that are equal in part: one inserted in front shifts no other.
    """
    best = [0] * (len(right) + 1)
    for one in left:
        before, best = best, [0]
        for place, other in enumerate(right):
            best.append(max(before[place + 1], best[place], before[place] + _shared(one, other, True)))
    return best[-1]


def _field_scorer(measure: Callable[[int, int, int], float]) -> Callable[[AnswerOptions, Place], Bound]:
    def bind(options: AnswerOptions, place: Place) -> Bound:
        def function(output: str, item: Item, task: Task) -> float:
            parsed = parsed_output(output, options)
            given = tree(parsed[0], options.strict) if parsed else None
            text = tree(output.strip(), options.strict)
            best, result = -1.0, 0.0
            for answer in item.accepted:
                is_text = isinstance(answer, str)
                wanted = tree(answer.strip() if is_text else answer, options.strict)
                compared = text if is_text else given
                if compared is None:
                    continue
                numbers = (shared(compared, wanted), compared.size, wanted.size)
                if _f1(*numbers) > best:
                    best, result = _f1(*numbers), measure(*numbers)
            return result

        return Bound("graded", function, strict=options.strict)

    return bind


def _f1(common: int, given: int, expected: int) -> float:
    return 2 * common / (given + expected)


def _precision(common: int, given: int, expected: int) -> float:
    return common / given


def _recall(common: int, given: int, expected: int) -> float:
    return common / expected


field_f1 = _field_scorer(_f1)
"""F1 over fields (path and value), against the accepted answer that it fits best. An empty list or object is one."""
field_precision = _field_scorer(_precision)
"""Share of the output's fields that are right, against the accepted answer that fits best by F1."""
field_recall = _field_scorer(_recall)
"""Share of the accepted answer's fields that the output has, likewise."""
