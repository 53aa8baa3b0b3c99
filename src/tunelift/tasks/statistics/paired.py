"""Two arms on the same items: the difference, its interval and its p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunelift.tasks.statistics.clustered import cluster_index, effective_items, jackknife, t_quantile
from tunelift.tasks.statistics.intervals import ALPHA, FEW_UNLIKE, Kind, Z, bootstrap, checked, unlike_interval, wilson
from tunelift.tasks.statistics.power import Spread
from tunelift.tasks.statistics.significance import mcnemar_midp, sign_flip

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
    design_effect: float = 1.0


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
        samples: Bootstrap resamples and sign flips (not used for binary scores without clusters).
        seed: Of both.
        bounded: Whether scores lie in [0, 1].

    Raises:
        ValueError: sequences of different lengths, or scores that their kind does not know.
    """
    if len(first) != len(second):
        raise ValueError(f"paired scores differ in number: {len(first)} and {len(second)}")
    a, b = checked(first, kind, bounded), checked(second, kind, bounded)
    d, index = a - b, cluster_index(clusters, a.size)
    bounded = bounded or kind == "binary"
    reach = 1.0 if bounded or d.size == 0 else float(max(abs(a).max(), abs(b).max()))
    if index is not None:
        found = _by_cluster(a, b, kind, index, samples, seed, reach, bounded)
    elif kind == "binary":
        found = _by_counts(a, b)
    else:
        low, high = paired_bootstrap(d, samples, seed, reach=reach, bounded=bounded)
        found = _Found(low, high, sign_flip(d, samples, seed), "bootstrap, sign-flip", _independent_se(d))
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
        spread=_spread(kind, d, discordant, index, found),
    )


def newcombe_paired(a: float, b: float, c: float, d: float, quantile: float = Z) -> tuple[float, float, float]:
    """Difference of two paired proportions with its interval: method 10 of Newcombe (Stat Med 17:2635-2650, 1998).

    Wilson's intervals of the two proportions, combined by "square and add" with the continuity-corrected correlation.

    Args:
        a: Items both arms got right; like the others a count, or its share of an effective number of items.
        b: Items only the first got right.
        c: Items only the second got right.
        d: Items neither got right.
        quantile: Standard errors to either side: z, or Student's t.

    Returns:
        (first minus second, low, high); (0, -1, 1) for no items.
    """
    n = a + b + c + d
    if n == 0:
        return 0.0, -1.0, 1.0
    first, second = (a + b) / n, (a + c) / n
    low1, high1 = wilson(a + b, n, quantile)
    low2, high2 = wilson(a + c, n, quantile)
    phi = _correlation(a, b, c, d)
    difference = (b - c) / n
    down = _square_and_add(first - low1, high2 - second, phi)
    up = _square_and_add(high1 - first, second - low2, phi)
    return difference, max(-1.0, difference - down), min(1.0, difference + up)


def _correlation(a: float, b: float, c: float, d: float) -> float:
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    excess: float = a * d - b * c
    if excess > 0:
        excess = max(excess - (a + b + c + d) / 2, 0.0)
    return excess / math.sqrt(margins)


def _square_and_add(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))


def paired_bootstrap(
    differences: Sequence[float] | Floats, samples: int, seed: int, *, reach: float = 1.0, bounded: bool = True
) -> tuple[float, float]:
    """Bootstrap interval of a mean of per-item differences, made as `bootstrap_mean` is; (-reach, reach) for none.

    Args:
        differences: One per item.
        samples: Resamples.
        seed: Of the resampling.
        reach: The largest score in size: how far the arms could differ on an item that was not seen.
        bounded: Whether no difference can be larger than `reach`.
    """
    import numpy as np

    array = np.asarray(differences, dtype=np.float64)
    if array.size == 0:
        return -reach, reach
    return _within(bootstrap(array, samples, seed, _extremes(array, reach, bounded)), reach, bounded)


def _extremes(differences: Floats, reach: float, bounded: bool) -> tuple[float, float]:
    centre = 0.0 if bounded else float(differences.mean())
    return centre - reach, centre + reach


def _within(interval: tuple[float, float], reach: float, bounded: bool) -> tuple[float, float]:
    low, high = interval
    return (max(-reach, low), min(reach, high)) if bounded else (low, high)


def _by_counts(a: Floats, b: Floats) -> _Found:
    both, only_first, only_second, neither = _cells(a, b)
    _, low, high = newcombe_paired(both, only_first, only_second, neither)
    p = mcnemar_midp(only_first, only_second)
    return _Found(low, high, p, "Newcombe, mid-p McNemar", _independent_se(a - b))


def _by_cluster(
    a: Floats, b: Floats, kind: Kind, index: Index, samples: int, seed: int, reach: float, bounded: bool
) -> _Found:
    """Binary: Newcombe at n / design effect, so that rare outcomes keep a width. Graded: Student's t."""
    import numpy as np

    d = a - b
    mean, assumed = jackknife(d, index), effective_items(index)
    design_effect = d.size / assumed if index.max() == 0 else _design_effect(d, mean.se, d.size / assumed)
    quantile, se = t_quantile(1 - ALPHA / 2, mean.df), _independent_se(d) * math.sqrt(design_effect)
    if kind == "binary":
        both, only_first, only_second, neither = (count / design_effect for count in _cells(a, b))
        _, low, high = newcombe_paired(both, only_first, only_second, neither, quantile)
        method = "Newcombe at the effective number of items, sign-flip by cluster"
    else:
        least, most = unlike_interval(d, assumed, _extremes(d, reach, bounded))
        half = quantile * se
        low, high = _within((min(least, mean.mean - half), max(most, mean.mean + half)), reach, bounded)
        method = "jackknife t by cluster, sign-flip by cluster"
    # Sums of 0/1 scores tie often, and the plain p is then far too large.
    sums = np.bincount(index, weights=d).astype(np.float64)
    p = sign_flip(sums, samples, seed, mid_p=kind == "binary")
    return _Found(low, high, p, method, se, design_effect)


def _design_effect(d: Floats, se: float, assumed: float) -> float:
    """As measured, but not below 1, and where few items are unlike the others not far below what is assumed.

    A single unlike item lies in one cluster whatever clusters do, and so measures 1. Up to `FEW_UNLIKE` the assumed
    effect is the least, and of more its excess over 1 fades as FEW_UNLIKE / their number. As the variance goes with
    that number times the effect, the interval widens with each item lost: no guard passes because of a loss.
    """
    import numpy as np

    independent = _independent_se(d)
    measured = (se / independent) ** 2 if independent > 0 else 0.0
    unlike = d.size - int(np.unique(d, return_counts=True)[1].max())
    return max(measured, 1 + (assumed - 1) * min(1.0, FEW_UNLIKE / max(unlike, 1)))


def _cells(a: Floats, b: Floats) -> tuple[int, int, int, int]:
    both, first, second = int((a * b).sum()), int(a.sum()), int(b.sum())
    return both, first - both, second - both, a.size - first - second + both


def _independent_se(differences: Floats) -> float:
    return float(differences.std(ddof=1)) / math.sqrt(differences.size) if differences.size > 1 else 0.0


def _spread(kind: Kind, d: Floats, discordant: int, index: Index | None, found: _Found) -> Spread:
    n = max(d.size, 1)
    if kind == "binary":
        value = discordant / n
    else:
        # Differences that are all alike have no deviation, but their interval has a width.
        value = (_independent_se(d) or (found.high - found.low) / (2 * Z)) * math.sqrt(n)
    return Spread(kind, value, found.design_effect, None if index is None else n / (int(index.max()) + 1))
