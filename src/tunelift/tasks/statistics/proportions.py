"""Intervals of proportions: Wilson's of one, Tango's of the difference of two on the same items."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

ALPHA = 0.05
Z = NormalDist().inv_cdf(1 - ALPHA / 2)
"""1.96: two-sided 95%."""
STEPS = 60
"""Halvings of [-1, 1]: more than a double can tell apart."""


def wilson(successes: float, n: float, quantile: float = Z) -> tuple[float, float]:
    """Wilson's score interval for a proportion (JASA 22, 1927); (0, 1) for no items.

    Args:
        successes: How many, or their share of an effective number of items.
        n: Items.
        quantile: Standard errors to either side: z, or Student's t.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, quantile * quantile
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = quantile * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the bound is the estimate itself; rounding must not move it past.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def tango(first: float, second: float, n: float, quantile: float = Z) -> tuple[float, float]:
    """Tango's score interval of a first proportion minus a second, on the same items (Stat Med 17:891-908, 1998).

    A difference is in it when the score test does not reject it. The variance is that under the tested difference, so
    that few items that differ leave it a width: +-z^2 / (n + z^2) where none does. (-1, 1) for no items.

    Args:
        first: Items that only the first got right; a count, or its share of an effective number of items.
        second: Items that only the second got right.
        n: All items, with those on which the two agree.
        quantile: Standard errors to either side: z, or Student's t.

    Raises:
        ValueError: counts below zero, or more than `n`.
    """
    if first < 0 or second < 0 or first + second > n * (1 + 1e-12):
        raise ValueError(f"{first} and {second} of {n} items")
    if n == 0:
        return -1.0, 1.0
    return -_upper(second, first, n, quantile), _upper(first, second, n, quantile)


def _upper(first: float, second: float, n: float, quantile: float) -> float:
    """The largest difference that the test does not reject."""
    difference = (first - second) / n
    return bisect(lambda tested: -score(first, second, n, tested) >= quantile, difference, 1.0)


def score(first: float, second: float, n: float, tested: float) -> float:
    """The score statistic, standard normal if the true difference is `tested`; falls as `tested` rises."""
    distance = first - second - n * tested
    # The maximum-likelihood estimate of the share that only the second gets right, were `tested` true.
    b = (2 * n - first + second) * tested - first - second
    c = -second * tested * (1 - tested)
    share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * share + tested * (1 - tested))
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The least value from which on `holds` is true; `high` if it never is."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
