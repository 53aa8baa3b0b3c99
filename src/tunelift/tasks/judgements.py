"""What a judge's verdicts add up to: wins and losses with an interval, flips with the order, a taste for length.

A missing verdict (none could be read) is left out of every share and counted beside it: it is nobody's loss.
Intervals are at 95%.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunelift.tasks.statistics import PairedDifference, compare, mean_interval, wilson
from tunelift.tasks.statistics.proportions import Z

Winner = Literal["a", "b", "tie"]

Figure = dict[str, Any]
"""{"value", "low", "high", "n"}; `value` is None where there is nothing to tell it from."""

LEAST_FOR_CORRELATION = 10
"""Marks below which a correlation says nothing."""


def share(count: int, n: int) -> Figure:
    """A proportion with Wilson's interval."""
    low, high = wilson(count, n)
    return {"value": count / n if n else None, "low": low, "high": high, "n": n}


def settle(one: Winner | None, other: Winner | None) -> Winner | None:
    """The verdict on a pair that was judged in both orders: disagreement is a tie, a missing verdict leaves none."""
    if one is None or other is None:
        return None
    return one if one == other else "tie"


@dataclass(frozen=True)
class PairedJudgements:
    """How often the first arm won against the second, item by item."""

    wins: int
    ties: int
    losses: int
    missing: int
    pair: PairedDifference
    """Share of wins minus share of losses, of the items with a verdict."""


def count_wins(
    winners: Sequence[Winner | None],
    *,
    clusters: Sequence[str | None] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> PairedJudgements:
    """Wins, ties and losses of arm `a`, with the difference of their shares, its interval and p.

    To win and to lose are two outcomes of one item that exclude each other: a paired table in which no item has both
    and ties have neither. So Tango's interval for paired proportions applies, and McNemar's mid-p test, which is
    the exact sign test with mid-p on the decided items.

    Args:
        winners: One verdict an item; None is missing.
        clusters: Of the items, if they have any.
        samples: Resamples, where clusters need them.
        seed: Of the resampling.
    """
    judged = [number for number, winner in enumerate(winners) if winner is not None]
    count = Counter(winners)
    pair = compare(
        [float(winners[number] == "a") for number in judged],
        [float(winners[number] == "b") for number in judged],
        "binary",
        clusters=[clusters[number] for number in judged] if clusters is not None else None,
        samples=samples,
        seed=seed,
    )
    return PairedJudgements(count["a"], count["tie"], count["b"], count[None], pair)


def mean_mark(
    marks: Sequence[int | None],
    scale: int,
    *,
    clusters: Sequence[str | None] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> Figure:
    """The mean of marks from 1 to `scale` with its interval, and how many are `missing`."""
    given = [number for number, mark in enumerate(marks) if mark is not None]
    # The statistics are for scores in [0, 1].
    values = [((marks[number] or 1) - 1) / (scale - 1) for number in given]
    low, high = mean_interval(
        values,
        "graded",
        clusters=[clusters[number] for number in given] if clusters is not None else None,
        samples=samples,
        seed=seed,
    )
    mean = math.fsum(values) / len(values) if values else None
    return {
        "mean": None if mean is None else 1 + mean * (scale - 1),
        "low": 1 + low * (scale - 1),
        "high": 1 + high * (scale - 1),
        "n": len(values),
        "missing": len(marks) - len(values),
    }


def flip_rate(orders: Iterable[tuple[Winner | None, Winner | None]]) -> Figure:
    """Share of pairs, judged in both orders, whose verdict changes with the order."""
    judged = [(one, other) for one, other in orders if one is not None and other is not None]
    return share(sum(one != other for one, other in judged), len(judged))


def longer_wins(groups: Iterable[Iterable[tuple[Winner | None, int, int]]]) -> Figure:
    """How often the longer of two answers wins, whichever arm wrote it; 0.5 is no preference, if length is no merit.

    A better arm whose answers are also longer wins with the longer answer all the time, and shows no taste for length
    by that. So within each group the share of wins is taken apart for pairs in which `a` and in which `b` is the
    longer one, and the two are averaged; groups are weighted as by Mantel and Haenszel, J Natl Cancer Inst 22:719-748,
    1959. Where one arm is always the longer one, its length cannot be told from its quality: no value.

    Args:
        groups: By pair of arms and task: verdict, length of a's answer, length of b's. Ties and equal lengths say
            nothing.
    """
    found = []
    for group in groups:
        decided = [(winner, a > b) for winner, a, b in group if winner in {"a", "b"} and a != b]
        sides = [[winner for winner, is_longer in decided if is_longer == first] for first in (True, False)]
        if all(sides):
            shares = [
                share(sum(winner == name for winner in side), len(side))
                for side, name in zip(sides, ("a", "b"), strict=True)
            ]
            found.append((math.prod(map(len, sides)) / len(decided), len(decided), shares))
    total = math.fsum(weight for weight, _, _ in found)
    if not found:
        return share(0, 0)
    value = math.fsum(weight * one["value"] for weight, _, shares in found for one in shares) / (2 * total)

    def reach(end: str) -> float:
        """By MOVER (Zou & Donner, Stat Med 27:1693-1702, 2008), from the shares' own intervals."""
        distances = (weight * (one[end] - one["value"]) for weight, _, shares in found for one in shares)
        return math.sqrt(math.fsum(distance * distance for distance in distances)) / (2 * total)

    low, high = max(0.0, value - reach("low")), min(1.0, value + reach("high"))
    return {"value": value, "low": low, "high": high, "n": sum(n for _, n, _ in found)}


def length_correlation(groups: Iterable[tuple[Sequence[int | None], Sequence[int]]]) -> Figure:
    """Spearman's rank correlation of mark and length of answer, within groups.

    A better arm whose answers are also longer shows no taste for length by that, so each arm is looked at by itself,
    and the correlations are averaged by Fisher's z. Interval with the standard error of Bonett & Wright (Psychometrika
    65:23-28, 2000). A group of fewer than 10 marks, or of equal marks or lengths, is left out; no value without any.

    Args:
        groups: By arm and task, the marks and the lengths of the answers.
    """
    found = [one for marks, lengths in groups if (one := _correlation(marks, lengths)) is not None]
    if not found:
        return {"value": None, "low": -1.0, "high": 1.0, "n": 0}
    total = sum(n - 3 for _, n in found)
    z = math.fsum((n - 3) * math.atanh(r) for r, n in found) / total
    half = Z * math.sqrt(math.fsum((n - 3) * (1 + r * r / 2) for r, n in found)) / total
    n = sum(n for _, n in found)
    return {"value": math.tanh(z), "low": math.tanh(z - half), "high": math.tanh(z + half), "n": n}


def _correlation(marks: Sequence[int | None], lengths: Sequence[int]) -> tuple[float, int] | None:
    pairs = [(mark, length) for mark, length in zip(marks, lengths, strict=True) if mark is not None]
    n = len(pairs)
    if n < LEAST_FOR_CORRELATION or any(len(set(column)) < 2 for column in zip(*pairs, strict=True)):
        return None
    from scipy import stats

    value = float(stats.spearmanr([mark for mark, _ in pairs], [length for _, length in pairs]).statistic)
    most = 1 - 1 / n  # Of a perfect order z has no bound, and one group would outweigh all others.
    return max(-most, min(most, value)), n


def agreement(labels: Sequence[str], verdicts: Sequence[str | None]) -> tuple[Figure, Figure]:
    """Share of verdicts that are the label, and Cohen's kappa (Educ Psychol Meas 20:37-46, 1960); missing is wrong.

    Kappa's interval is the share's (Wilson), corrected for the chance agreement that was seen: as Cohen's own, which
    takes that as given, but never of no width. Kappa has no value where chance alone would agree always.
    """
    n = len(labels)
    right = sum(label == verdict for label, verdict in zip(labels, verdicts, strict=True))
    agreed = share(right, n)
    given, said = Counter(labels), Counter(verdicts)
    chance = sum(given[label] * said[label] for label in given) / (n * n) if n else 1.0
    if chance == 1.0:
        return agreed, {"value": None, "low": -1.0, "high": 1.0, "n": n}
    kappa = {key: max(-1.0, (agreed[key] - chance) / (1 - chance)) for key in ("value", "low", "high")}
    return agreed, {**kappa, "n": n}
