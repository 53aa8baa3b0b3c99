"""Two arms on the same items: the difference, its interval and its p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunelift.tasks.statistics.clustered import (
    ASSUMED_CORRELATION,
    cluster_index,
    effective_items,
    jackknife,
    satterthwaite,
    t_quantile,
)
from tunelift.tasks.statistics.intervals import Kind, bootstrap, checked
from tunelift.tasks.statistics.power import Spread
from tunelift.tasks.statistics.proportions import ALPHA, tango
from tunelift.tasks.statistics.significance import mcnemar_midp, sign_flip
from tunelift.tasks.statistics.unseen import FEW_UNLIKE, ROUNDING, bounded_interval, count_unlike, unlike_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Index = NDArray[np.intp]


@dataclass(frozen=True)
class PairedDifference:
    """Mean of the first arm minus mean of the second, on the same items."""

    difference: float
    low: float
    high: float
    """End of the 95% interval, which holds zero wherever p is above 0.05."""
    p: float
    """Two-sided, in (0, 1]; the null hypothesis is no difference."""
    n: int
    discordant: int
    """Items on which the two arms score differently."""
    method: str
    """Of the interval, and of the test."""
    clusters: int | None
    """How many the items form; None if every item stands alone."""
    se: float
    """Standard error of the difference, by cluster if there are any; 0 where all items differ alike."""
    spread: Spread
    """How much the differences vary, for `minimum_detectable_effect` and `needed_items`."""


def whichever(one: PairedDifference, other: PairedDifference) -> PairedDifference:
    """What is known where it is not known which of the two holds, as when scores are missing.

    The interval spans both, and p is the larger; it is 1 where they point in different directions, since between them
    lies no difference at all. Everything else is `one`'s.
    """
    apart = one.difference * other.difference < 0
    p = 1.0 if apart else max(one.p, other.p)
    return replace(one, low=min(one.low, other.low), high=max(one.high, other.high), p=p)


@dataclass(frozen=True)
class _Found:
    """What a method says of the differences."""

    low: float
    high: float
    p: float
    method: str
    se: float
    df: float
    """Of the interval; infinite where it is a normal one."""
    design_effect: float = 1.0
    assumed_effect: float = 1.0
    """The design effect where nothing is measured."""
    steady_df: float = math.inf
    """df if items of a cluster are as alike as is assumed where nothing is measured."""


def compare(
    first: Sequence[float],
    second: Sequence[float],
    kind: Kind,
    *,
    clusters: Sequence[str | None] | None = None,
    samples: int,
    seed: int,
    bounded: bool = True,
) -> PairedDifference:
    """First minus second, item by item, in the metric's own direction.

    Args:
        first: Scores, one per item; 0 or 1 if binary.
        second: The other arm's scores, of the same items in the same order.
        kind: The kind of score.
        clusters: Per item what it shares with others, such as a source text; None for an item that stands alone.
        samples: Sign flips, and bootstrap resamples of unbounded scores (neither for binary scores without clusters).
        seed: Of both.
        bounded: Whether scores lie in [0, 1].

    Raises:
        ValueError: sequences of different lengths, or scores that their kind does not know.
    """
    if len(first) != len(second):
        raise ValueError(f"paired scores differ in number: {len(first)} and {len(second)}")
    a, b = checked(first, kind, bounded), checked(second, kind, bounded)
    d, index = a - b, cluster_index(clusters, a.size)
    reach = _reach(a, b, bounded or kind == "binary")
    if index is None:
        found = _alone(d, kind, samples, seed, reach)
    else:
        found = _by_cluster(d, kind, index, samples, seed, reach)
    # An interval must not claim what the test does not.
    low, high = (min(found.low, 0.0), max(found.high, 0.0)) if found.p > ALPHA else (found.low, found.high)
    discordant = int((d != 0).sum())
    return PairedDifference(
        difference=math.fsum(d) / max(d.size, 1),
        low=low,
        high=high,
        p=found.p,
        n=d.size,
        discordant=discordant,
        method=found.method,
        clusters=None if index is None else int(index.max()) + 1,
        se=found.se,
        spread=_spread(kind, d, discordant, found, bounded or kind == "binary"),
    )


def _reach(a: Floats, b: Floats, bounded: bool) -> float | None:
    """How far unbounded scores lie from zero at most; None for bounded ones."""
    return None if bounded else float(max(abs(a).max(initial=0.0), abs(b).max(initial=0.0)))


def _alone(d: Floats, kind: Kind, samples: int, seed: int, reach: float | None) -> _Found:
    """Items that each stand alone."""
    n, se = d.size, _independent_se(d)
    if kind == "binary":
        first, second = _discordant(d)
        low, high = tango(first, second, n)
        return _Found(low, high, mcnemar_midp(first, second), "Tango, mid-p McNemar", se, math.inf)
    p = sign_flip(d, samples, seed)
    if reach is None:
        low, high = bounded_interval(d, se, n, n, (-1.0, 1.0))
        return _Found(low, high, p, "Student's t with one unseen item, sign-flip", se, n)
    low, high = bootstrap(d, samples, seed, _around(d, reach)) if n else (-reach, reach)
    return _Found(low, high, p, "bootstrap, sign-flip", se, n - 1)


def _by_cluster(d: Floats, kind: Kind, index: Index, samples: int, seed: int, reach: float | None) -> _Found:
    """The same at the effective number of items, n / design effect, and with Student's t by cluster."""
    import numpy as np

    mean, assumed = jackknife(d, index), effective_items(index)
    design_effect = d.size / assumed if index.max() == 0 else _design_effect(d, mean.se, d.size / assumed)
    n, quantile = d.size / design_effect, t_quantile(1 - ALPHA / 2, mean.df)
    se = _independent_se(d) * math.sqrt(design_effect)
    if kind == "binary":
        first, second = _discordant(d)
        low, high = tango(first / design_effect, second / design_effect, n, quantile)
        method = "Tango at the effective number of items, sign-flip by cluster"
    elif reach is None:
        low, high = bounded_interval(d, se, min(n, assumed), mean.df, (-1.0, 1.0))
        method = "Student's t by cluster with one unseen item, sign-flip by cluster"
    else:
        least, most = unlike_interval(d, assumed, _around(d, reach), ROUNDING)
        low, high = min(least, mean.mean - quantile * se), max(most, mean.mean + quantile * se)
        method = "jackknife t by cluster, sign-flip by cluster"
    # Sums of 0/1 scores tie often, and the plain p is then far too large.
    sums = np.bincount(index, weights=d).astype(np.float64)
    p = sign_flip(sums, samples, seed, mid_p=kind == "binary")
    return _Found(
        low, high, p, method, se, mean.df, design_effect, d.size / assumed, satterthwaite(index, ASSUMED_CORRELATION)
    )


def _around(d: Floats, reach: float) -> tuple[float, float]:
    """How far the arms could differ on an item that was not seen: by as much as the largest score."""
    return float(d.mean()) - reach, float(d.mean()) + reach


def _design_effect(d: Floats, se: float, assumed: float) -> float:
    """As measured, but not below 1, and where few items are unlike the others not far below what is assumed.

    A single unlike item lies in one cluster whatever clusters do, and so measures 1. Up to `FEW_UNLIKE` the assumed
    effect is the least, and of more its excess over 1 fades as FEW_UNLIKE / their number. As the variance goes with
    that number times the effect, the interval widens with each item lost: no guard passes because of a loss.
    """
    independent = _independent_se(d)
    measured = (se / independent) ** 2 if independent > 0 else 0.0
    return max(measured, 1 + (assumed - 1) * min(1.0, FEW_UNLIKE / max(count_unlike(d), 1)))


def _discordant(d: Floats) -> tuple[int, int]:
    """Items that only the first arm got right, and those that only the second did."""
    return int((d > 0).sum()), int((d < 0).sum())


def _independent_se(differences: Floats) -> float:
    return float(differences.std(ddof=1)) / math.sqrt(differences.size) if differences.size > 1 else 0.0


def _spread(kind: Kind, d: Floats, discordant: int, found: _Found, bounded: bool) -> Spread:
    n = max(d.size, 1)
    value = discordant / n if kind == "binary" else _independent_se(d) * math.sqrt(n)
    outermost = max((abs(d - d.mean()) / (1 + abs(d.mean()))).max(initial=0.0), 0.0) if d.size else 1.0
    df, steady_df = (found.df + 1) / n, (found.steady_df + 1) / n
    return Spread(kind, value, found.design_effect, found.assumed_effect, df, steady_df, bounded, float(outermost))
