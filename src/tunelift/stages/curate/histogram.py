"""Counts of whole numbers between round edges, for the drawings of lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_BINS = 30
CROWDED = 0.3
"""Where even bins would put more than this share of the values into one, the bins grow with the values."""
LADDERS = ((10, 12, 15, 20, 25, 30, 40, 50, 60, 80), (10, 15, 20, 30, 50, 70), (10, 20, 50), (10,))
"""Round edges within a factor of ten, the finest first; the last are the powers of ten."""


def histogram(values: np.ndarray) -> dict[str, list[int]]:
    """Count whole numbers of 0 or more in at most 30 bins.

    Returns:
        `edges` (rising whole numbers, one more than bins) and `counts`: bin i holds edges[i] <= value < edges[i + 1].
        The edges lie 1, 2 or 5 times a power of ten apart; where that would crowd the values into few bins, they grow
        by round factors. Both are empty for no values.
    """
    if not len(values):
        return {"edges": [], "counts": []}
    low, high = int(values.min()), int(values.max())
    even = _counted(values, _even(low, high))
    if max(even["counts"]) <= CROWDED * len(values) or len(even["counts"]) <= 2:
        return even
    return _counted(values, _growing(low, high))


def _counted(values: np.ndarray, edges: list[int]) -> dict[str, list[int]]:
    # searchsorted instead of numpy.histogram, whose last bin holds its upper edge too.
    counts: Any = np.bincount(np.searchsorted(edges, values, side="right") - 1, minlength=len(edges) - 1)
    return {"edges": edges, "counts": counts.tolist()}


def _even(low: int, high: int) -> list[int]:
    """Multiples of the least 1, 2 or 5 times a power of ten that needs no more than 30 bins."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            first, last = low // step, high // step + 1
            if last - first <= MOST_BINS:
                return [step * edge for edge in range(first, last + 1)]
        power *= 10


def _growing(low: int, high: int) -> list[int]:
    """From the last round number at or below `low` to the first above `high`, on the finest ladder that fits."""
    for ladder in LADDERS:
        rungs = {0, *range(1, 10)} if ladder is LADDERS[0] else {0, 1, *(rung // 10 for rung in ladder)}
        power = 1
        while power <= high:
            rungs |= {rung * power for rung in ladder}
            power *= 10
        rungs.add(power * 10)
        ranked = sorted(rungs)
        first = max(at for at, rung in enumerate(ranked) if rung <= low)
        last = next(at for at, rung in enumerate(ranked) if rung > high)
        if last - first <= MOST_BINS:
            return ranked[first : last + 1]
    raise AssertionError(f"{high} has more than 30 digits")
