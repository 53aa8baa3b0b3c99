"""What one answer to everything would score, and which metrics take an answer that means nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunelift.tasks.right_answers import TOLERANCE, best_of
from tunelift.tasks.scorers import Scorer, canonical_json
from tunelift.tasks.task import Item, Task

NONSENSE = ("zxqv", "jkwp", "vbxq", "qwzj", "xkvp")
"""Words of no language, of which answers are made that nobody can mean."""
LENGTHS = (1, 2, 3, 12, 60, 240)
"""Words of such answers, beside as many as the accepted ones have: some metrics only look at the length."""
COMMONEST = 3
"""Accepted answers that are tried as the answer to everything."""
TRIED_OUTSIDE = 50
"""Items on which code from outside is tried, which may be slow."""


@dataclass(frozen=True)
class Constant:
    """What always giving one answer scores by one metric."""

    answer: str
    mean: float
    full: tuple[Item, ...]
    """Items on which it gets full marks."""


def constants(task: Task, scorer: Scorer) -> tuple[Constant, list[Constant]]:
    """The best of the likely answers to everything, and every answer that means nothing.

    Raises:
        UserError: code from outside failed.
    """
    written = Counter(canonical_json(answer) for item in task.items for answer in item.accepted)
    by_form = {canonical_json(answer): answer for item in task.items for answer in item.accepted}
    likely = [scorer.written(by_form[form]) for form, _ in written.most_common(COMMONEST)]
    # Overlap with nonsense is small whatever its length.
    lengths = _lengths(task) if scorer.kind == "binary" or scorer.outside else [1]
    meaningless = [_constant(task, scorer, answer) for answer in (*map(nonsense, lengths), "")]
    best = [_constant(task, scorer, answer) for answer in (*likely, "{}")]
    sign = -1 if scorer.lower_is_better else 1
    return max([*best, *meaningless], key=lambda one: sign * one.mean), meaningless


def nonsense(words: int) -> str:
    """So many words that mean nothing."""
    return " ".join(NONSENSE[number % len(NONSENSE)] for number in range(words))


def _lengths(task: Task) -> list[int]:
    sizes = sorted(len(str(answer).split()) for item in task.items for answer in item.accepted)
    return sorted({*LENGTHS, max(1, sizes[0]), max(1, sizes[len(sizes) // 2]), max(1, sizes[-1])})


def _constant(task: Task, scorer: Scorer, answer: str) -> Constant:
    items = task.items[:TRIED_OUTSIDE] if scorer.outside else task.items
    values = [scorer.function(answer, item, task) for item in items]
    best = best_of(scorer)
    full = tuple(item for item, value in zip(items, values, strict=True) if abs(value - best) <= TOLERANCE)
    return Constant(answer, sum(values) / len(values), full)


def won_by_nothing(scorer: Scorer, tried: Sequence[Constant]) -> list[tuple[str, Item]]:
    """The items, each with an answer, that an answer which means nothing wins though it should not."""
    if scorer.identity["scorer"] == "tool_call":
        return []  # Where no call may be made, any text is right.
    found: dict[str, tuple[str, Item]] = {}
    for constant in tried:
        for item in constant.full:
            # Where whole texts are compared, an accepted "" asks for silence.
            meant = scorer.strict is not None and any(_says(answer) == "" for answer in item.accepted)
            if constant.answer or not meant:
                found.setdefault(item.id, (constant.answer, item))
    return list(found.values())


def _says(answer: Any) -> str:
    return answer.strip() if isinstance(answer, str) else canonical_json(answer)
