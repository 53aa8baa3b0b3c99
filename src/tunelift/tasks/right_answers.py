"""Do a task's scorers give its own right answers full marks? A metric that does not would compare nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunelift.errors import UserError
from tunelift.tasks.scorers import Scorer

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task

TOLERANCE = 1e-9
"""Rounding of a score."""
SEEN_LEAST = 0.5
"""Share of an answer's letters that a metric of words must see."""
TRIED_OUTSIDE = 8
"""Answers that code from outside is asked about, which may be slow."""


@dataclass(frozen=True)
class Shortfall:
    """A right answer that a metric does not give full marks."""

    output: str
    value: float
    best: float
    seen: float | None
    """The share of its letters that the metric sees, where that is the reason."""

    def told(self, metric: str) -> str:
        """As the end of a sentence about the answer: "scores 0 by rougeL …"."""
        if self.seen is None or abs(self.value - self.best) > TOLERANCE:
            return f"scores {self.value:g} by {metric}, the primary metric, instead of {self.best:g}"
        return f"cannot be judged by {metric}, the primary metric, which sees {self.seen:.0%} of its letters and digits"


def best_of(scorer: Scorer) -> float:
    """Full marks of a bounded scorer."""
    return 0.0 if scorer.lower_is_better else 1.0


def shortfall(scorer: Scorer, output: str, item: Item, task: Task) -> Shortfall | None:
    """What is wrong with a bounded scorer's judgement of a right answer; None if it gets full marks.

    Raises:
        UserError: code from outside failed.
    """
    best = best_of(scorer)
    if scorer.sees is not None:
        # A text overlaps wholly with itself wherever it has a word; long ones would take long to compare.
        seen = scorer.sees(output)
        if seen >= SEEN_LEAST:
            return None
        return Shortfall(output, scorer.function(output, item, task), best, seen)
    value = scorer.function(output, item, task)
    return None if abs(value - best) <= TOLERANCE else Shortfall(output, value, best, None)


def refuse_shortfalls(task: Task, places: Sequence[str], *, open_ended: bool) -> None:
    """Whether arms can be compared by the primary metric: a right answer to every item gets full marks.

    Args:
        task: Generating; any other kind is not looked at.
        places: Where each item stands.
        open_ended: Also refuse a metric that compares with no answer, or is code from outside, if it gives every one
            of the answers the worst score.

    Raises:
        UserError: it does not; with the first answer's place, its score, and what would help.
    """
    scorer = task.scorer(task.primary)
    if task.kind != "generate" or not scorer.bounded:
        return
    if scorer.compares and not scorer.outside:
        short = list(_short(task, scorer))
    elif open_ended:
        short = _all_worst(task, scorer)
    else:
        return
    if short:
        number, first = short[0]
        more = f" So it is with {len(short):,} of {len(task.items):,} right answers." if len(short) > 1 else ""
        raise UserError(
            f"Task {task.name}: the right answer {shown(first.output)} {first.told(scorer.name)}.{more}",
            where=places[number],
            remedy=remedy_for(scorer),
        )


def _short(task: Task, scorer: Scorer) -> Iterator[tuple[int, Shortfall]]:
    """Items of which no accepted answer gets full marks."""
    for number, item in enumerate(task.items):
        found = [shortfall(scorer, scorer.written(answer), item, task) for answer in item.accepted]
        if found and all(found):
            assert found[0] is not None
            yield number, found[0]


def _all_worst(task: Task, scorer: Scorer) -> list[tuple[int, Shortfall]]:
    """All items that were tried, if each answer gets the worst score; otherwise none."""
    best = best_of(scorer)
    found = []
    for number, item in enumerate(task.items[: TRIED_OUTSIDE if scorer.outside else None]):
        output = scorer.written(item.accepted[0])
        value = scorer.function(output, item, task)
        if abs(value - best) < 1 - TOLERANCE:
            return []
        found.append((number, Shortfall(output, value, best, None)))
    return found


def remedy_for(scorer: Scorer) -> str:
    """What to do about right answers that a scorer does not give full marks."""
    rule, options = scorer.identity["scorer"], scorer.identity["options"]
    if rule == "bleu":
        return "Use `chrf`, which works for any language, or bleu with `tokenize: char` (`zh` for Chinese)."
    if rule.startswith("rouge"):
        return "Use `chrf`, which works for any language and any length."
    if rule == "number" and options.get("find") != "last":
        return "Write `{scorer: number, find: last}` to take the last number of a text, or use another primary metric."
    if rule == "number":
        return "Use another primary metric, or write these answers so that the last thing like a number is one."
    if rule == "tool_call" and options.get("find") != "anywhere":
        return (
            "Write `{scorer: tool_call, find: anywhere}` if calls stand inside other text; otherwise correct the call."
        )
    return "Use another primary metric, correct this one's options, or correct the answer."


def shown(text: str) -> str:
    """A text for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
