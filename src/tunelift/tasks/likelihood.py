"""Judging by log-probability: multiple choice, and perplexity of text. No word is generated."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tunelift.errors import UserError
from tunelift.tasks.scorers import Scorer

if TYPE_CHECKING:
    from tunelift.tasks.items import Item
    from tunelift.tasks.task import Task

VERSION = 1
"""Raise it when a score can come out differently."""

TaskKind = Literal["generate", "choice", "perplexity"]


def accuracy(logprobs: Sequence[float], item: Item, task: Task) -> float:
    """The right choice has the highest log-probability; the first of equals counts."""
    return float(_first_highest(logprobs) == item.right)


def accuracy_norm(logprobs: Sequence[float], item: Item, task: Task) -> float:
    """The same per byte (UTF-8, white space around the choice aside), so that short choices have no advantage.

    lm-eval's `acc_norm` divides by characters instead: equal for ASCII, other figures for other text.
    """
    per_byte = [
        value / max(1, len(choice.strip().encode("utf-8", "replace")))
        for value, choice in zip(logprobs, item.choices, strict=True)
    ]
    return float(_first_highest(per_byte) == item.right)


def bits_per_byte(logprobs: Sequence[float], item: Item, task: Task) -> float:
    """Bits that the model needs for a byte of the text (Gao et al. 2020, arXiv 2101.00027): comparable across
    tokenizers, as perplexity per token is not."""
    return -logprobs[0] / math.log(2) / len(item.text.encode("utf-8", "replace"))


LIKELIHOOD: dict[str, dict[str, Scorer]] = {
    "choice": {
        name: Scorer(name, "binary", function, {"scorer": name, "version": VERSION})
        for name, function in (("accuracy", accuracy), ("accuracy_norm", accuracy_norm))
    },
    "perplexity": {
        "bits_per_byte": Scorer(
            "bits_per_byte",
            "graded",
            bits_per_byte,
            {"scorer": "bits_per_byte", "version": VERSION},
            lower_is_better=True,
            bounded=False,
        )
    },
}
"""The metrics of each kind of task that generates nothing."""


def likelihood_scorers(
    kind: TaskKind, entries: Sequence[Any], where: Callable[[Sequence[str | int]], str]
) -> tuple[Scorer, ...]:
    """The metrics that the entries name; all of the kind's for none.

    Raises:
        UserError: one that the kind does not have, or one twice.
    """
    known = LIKELIHOOD[kind]
    names: list[str] = []
    for position, entry in enumerate(entries):
        name = entry["scorer"] if isinstance(entry, Mapping) and set(entry) == {"scorer"} else entry
        if not isinstance(name, str) or name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise UserError(
                f"A task of the kind {kind} has no scorer {name!r}.",
                where=where((position,)),
                remedy=f"Did you mean `{near[0]}`?" if near else f"It has: {', '.join(known)}.",
            )
        if name in names:
            raise UserError(f"The scorer {name} stands twice.", where=where((position,)), remedy="Name each once.")
        names.append(name)
    return tuple(known[name] for name in names or known)


def score_likelihood(logprobs: Sequence[float], item: Item, task: Task) -> dict[str, float]:
    """All of a likelihood task's scores for one item.

    Args:
        logprobs: In nats, summed over tokens: one for each choice, or the one of the whole text.
        item: The item.
        task: Its task.

    Raises:
        ValueError: not as many numbers as the item asks for, or one that is not finite.
    """
    expected = len(item.choices) if task.kind == "choice" else 1
    if len(logprobs) != expected or not all(map(math.isfinite, logprobs)):
        raise ValueError(f"item {item.id!r} needs {expected} finite log-probabilities, got {list(logprobs)}")
    return {scorer.name: scorer.function(logprobs, item, task) for scorer in task.scorers}


def likeliest(logprobs: Sequence[float], item: Item) -> str:
    """The choice of the highest log-probability; the first of equals."""
    return item.choices[_first_highest(logprobs)]


def _first_highest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
