"""What a paired test can find, before the run from assumptions and after it from what was observed.

Power is 80% of a two-sided test at 5%, or of a guard's one-sided one at 2.5%. It is asked of the very interval that
decides: a difference is found when the interval's bound passes even where the mean comes out lower, by as much as it
does in one sample in five.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tunelift.tasks.statistics.clustered import (
    ASSUMED_CORRELATION,
    cluster_index,
    effective_items,
    satterthwaite,
    t_quantile,
)
from tunelift.tasks.statistics.proportions import ALPHA, bisect, score
from tunelift.tasks.statistics.unseen import t_bound

POWER = 0.8
ASSUMED_DISCORDANCE = 0.2
"""Share of items that one arm gets right and the other wrong, where nothing has been measured."""
ASSUMED_SD = 0.3
"""Standard deviation of per-item differences of graded scores in [0, 1], likewise."""
LEAST_DF = 4
"""With fewer degrees of freedom what a test finds cannot be told: few clusters, or one that outweighs the others."""
LEAST_TO_CHOOSE_BY = 8
"""Items that stand alone, to choose a prompt or a step by. Of two equal ones the first does better on all of n items
once in 2^n: with 8, among a dozen candidates, once in twenty runs."""
MOST_ITEMS = 10**9


@dataclass(frozen=True)
class Spread:
    """How much per-item differences vary: all that power depends on beside the number of items."""

    kind: Literal["binary", "graded"]
    value: float
    """Binary: the share of discordant items; graded: the standard deviation of the differences."""
    design_effect: float = 1.0
    """How many times larger clusters make the variance of the mean."""
    assumed_effect: float = 1.0
    """The least of it for an item that was not seen: where nothing is measured."""
    df_per_item: float = math.inf
    """The interval's degrees of freedom, and one, for each item: fewer where clusters are few or unequal."""
    steady_df_per_item: float = math.inf
    """The same if items of a cluster are as alike as `ASSUMED_CORRELATION`: how steady the interval's width is."""
    bounded: bool = True
    """Scores lie in [0, 1]."""
    outermost: float = 1.0
    """How far the most extreme difference lies from the mean, as a share of how far it could."""

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
            return cls(kind, value, df_per_item=math.inf if kind == "binary" else 1.0)
        effect = index.size / effective_items(index)
        df, steady_df = (
            (satterthwaite(index, correlation) + 1) / index.size for correlation in (0.0, ASSUMED_CORRELATION)
        )
        return cls(kind, value, effect, effect, df, steady_df)


def minimum_detectable_effect(n: int, spread: Spread, tests: int = 1) -> float | None:
    """The smallest true difference that n items show in 80% of runs; None if they can show none.

    Args:
        n: Items.
        spread: How much the differences vary.
        tests: How many tests p is corrected for; the figure is for the one that is corrected most.
    """
    most = 1.0 if spread.bounded else 100 * spread.value + 1
    if not _finds(most, 0.0, n, spread, tests):
        return None
    return bisect(lambda effect: _finds(effect, 0.0, n, spread, tests), 0.0, most)


def needed_items(effect: float, spread: Spread, tests: int = 1) -> int:
    """Items to find a true difference of `effect` in 80% of runs, in clusters of the same sizes if there are any.

    Raises:
        ValueError: an effect that is not above 0, or above 1 for bounded scores.
    """
    if not effect > 0 or (spread.bounded and effect > 1):
        raise ValueError(f"an effect must be above 0, and at most 1 for bounded scores; it is {effect:g}")
    return _fewest(lambda n: _finds(effect, 0.0, n, spread, tests))


def needed_for_margin(margin: float, spread: Spread) -> int:
    """Items with which a guard passes its margin in 80% of runs, if the arms are equal.

    Raises:
        ValueError: a margin that is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"a margin must be above 0; it is {margin:g}")
    return _fewest(lambda n: _finds(0.0, margin, n, spread, 1))


def clusters_for_margin(margin: float) -> int:
    """Clusters of which one, in 97.5% of runs, is harmed if so many of all clusters lose everything that their loss is
    the margin: 1 - (1 - margin)^clusters."""
    return math.ceil(math.log(ALPHA / 2) / math.log1p(-min(margin, 0.999)))


def _fewest(enough: Callable[[int], bool]) -> int:
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


def _finds(effect: float, margin: float, n: int, spread: Spread, tests: int) -> bool:
    """Whether the interval lies above -margin in 80% of runs of n items with that true difference."""
    df = n * spread.df_per_item - 1
    clustered = spread.df_per_item < 1
    items = n / spread.design_effect
    unseen = min(items, n / spread.assumed_effect)
    if unseen < LEAST_DF or df < (LEAST_DF if clustered else 1):
        return False
    quantile = t_quantile(1 - ALPHA / tests / 2, df)
    # A difference is never larger than the share of discordant items: an arm better by `effect` has that many.
    discordance = max(spread.value, effect) if spread.kind == "binary" else 0.0
    variance = max(discordance - effect * effect, 0.0) if spread.kind == "binary" else spread.value**2
    se = math.sqrt(variance / items)
    # What few clusters measure varies, and the interval with it; more so the more the clusters matter.
    unsteady = 2 * (1 - 1 / spread.design_effect) / max(n * spread.steady_df_per_item - 1, 1.0)
    unlucky = effect - t_quantile(POWER, math.inf if clustered else df) * se * (1 + unsteady)
    if spread.kind == "binary":
        if variance > 0:  # Where fewer items are won than usual, fewer differ.
            discordance += (unlucky - effect) * effect * (1 - discordance) / variance
        first, second = (max(items * (discordance + sign * unlucky) / 2, 0.0) for sign in (1, -1))
        # Tango's bound is above -margin where the score test rejects -margin.
        return score(first, second, max(items, first + second), -margin) > quantile
    if not spread.bounded:
        return unlucky - quantile * se > -margin
    return t_bound(unlucky, se, unseen, quantile, extreme=-1.0, seen=spread.outermost) > -margin
