"""Many tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of which those up to 0.05 hold any false claim with 5% chance at most (Scand J Stat 6:65-70, 1979)."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """q-values: those up to 0.05 hold at most 5% false claims on average (J R Stat Soc B 57:289-300, 1995)."""
    order = sorted(range(len(ps)), key=ps.__getitem__, reverse=True)
    adjusted, smallest = [0.0] * len(ps), 1.0
    for passed, i in enumerate(order):
        smallest = min(smallest, len(ps) / (len(ps) - passed) * ps[i])
        adjusted[i] = smallest
    return adjusted
