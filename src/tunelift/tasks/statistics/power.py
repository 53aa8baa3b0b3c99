"""What a paired test can find, before the run from assumptions and after it from what was observed.

Power is 80% of a two-sided test at 5%, before any correction for several tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunelift.tasks.statistics.clustered import cluster_index, effective_items, t_quantile

POWER = 0.8
TWO_SIDED = 0.975
ASSUMED_DISCORDANCE = 0.2
"""Share of items that one arm gets right and the other wrong, where nothing has been measured."""
ASSUMED_SD = 0.3
"""Standard deviation of per-item differences of graded scores in [0, 1], likewise."""
MOST_ITEMS = 10**9


@dataclass(frozen=True)
class Spread:
    """How much per-item differences vary: all that power depends on beside the number of items."""

    kind: Literal["binary", "graded"]
    value: float
    """Binary: the share of discordant items; graded: the standard deviation of the differences."""
    design_effect: float = 1.0
    """How many times larger clusters make the variance of the mean."""
    cluster_size: float | None = None
    """Items per cluster on average; None if every item stands alone."""

    @classmethod
    def assumed(
        cls,
        kind: Literal["binary", "graded"],
        *,
        discordance: float = ASSUMED_DISCORDANCE,
        sd: float = ASSUMED_SD,
        clusters: Sequence[str | None] | None = None,
    ) -> Spread:
        """Before the run: a fifth of the items discordant, or a deviation of 0.3; 0.1 correlation within clusters.

        Args:
            kind: The kind of score.
            discordance: Share of discordant items (binary).
            sd: Standard deviation of the differences (graded); unbounded scores have no usual one.
            clusters: Per item what it shares with others; None for an item that stands alone.
        """
        value = discordance if kind == "binary" else sd
        index = cluster_index(clusters, len(clusters)) if clusters is not None else None
        if index is None:
            return cls(kind, value)
        return cls(kind, value, index.size / effective_items(index), index.size / (int(index.max()) + 1))


def minimum_detectable_effect(n: int, spread: Spread) -> float | None:
    """The smallest true difference that n items show in 80% of runs; None if they can show none.

    Graded: (t_0.975 + t_0.8) se (Bloom, Eval Rev 19:547-556, 1995). Binary: the difference that needs n items.
    """
    quantiles = _quantiles(n, spread)
    if quantiles is None:
        return None
    if spread.kind == "graded":
        return sum(quantiles) * spread.value * math.sqrt(spread.design_effect / n)
    if _items(1.0, spread, *quantiles) > n:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if _items(middle, spread, *quantiles) <= n else (middle, high)
    return high


def needed_items(effect: float, spread: Spread) -> int:
    """Items to find a true difference of `effect` in 80% of runs, in clusters of the same size if there are any.

    Raises:
        ValueError: an effect that is not above 0, or above 1 for binary scores.
    """
    if not effect > 0 or (spread.kind == "binary" and effect > 1):
        raise ValueError(f"an effect must be above 0, and at most 1 for binary scores; it is {effect:g}")

    def enough(n: int) -> bool:
        quantiles = _quantiles(n, spread)
        return quantiles is not None and _items(effect, spread, *quantiles) <= n

    high = 2
    while not enough(high):
        if high > MOST_ITEMS:
            return high
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _items(effect: float, spread: Spread, significance: float, power: float) -> float:
    """Binary: Miettinen's formula for McNemar's test (Biometrics 24:339-352, 1968); graded: for Student's t.

    A difference is never larger than the share of discordant items: where few were seen or assumed, an arm better by
    `effect` still has that many.
    """
    if spread.kind == "graded":
        return spread.design_effect * ((significance + power) * spread.value / effect) ** 2
    discordance = max(spread.value, effect)
    root = significance * math.sqrt(discordance) + power * math.sqrt(discordance - effect * effect)
    return spread.design_effect * (root / effect) ** 2


def _quantiles(n: int, spread: Spread) -> tuple[float, float] | None:
    """For the two-sided test and for power; None with too few units to estimate a variance from."""
    if spread.kind == "binary" and spread.cluster_size is None:
        df = math.inf
    else:
        df = n / (spread.cluster_size or 1.0) - 1
    return (t_quantile(TWO_SIDED, df), t_quantile(POWER, df)) if df >= 1 else None
