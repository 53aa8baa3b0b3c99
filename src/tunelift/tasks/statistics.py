"""Intervals and paired tests, at 95%, for scores in [0, 1].

Binary scores get Wilson's interval, Newcombe's for paired differences and McNemar's mid-p test; graded scores get the
bootstrap. The normal approximation is not used: near 0 and 1, and for few items, it covers far less than it claims.
Every interval is about the items asked, not about another training run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Z = NormalDist().inv_cdf(0.975)
"""1.96: two-sided 95%."""

ALPHA = 0.05
CHUNK_DRAWS = 2_000_000
"""Resampled values held at once: 16 MB of indices."""

Kind = Literal["binary", "graded"]


@dataclass(frozen=True)
class PairedDifference:
    """Mean of the first arm minus mean of the second, on the same items."""

    difference: float
    low: float
    high: float
    p: float
    """Two-sided, in (0, 1]; the null hypothesis is no difference."""
    n: int
    discordant: int
    """Items on which the two arms score differently."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval for a proportion (JASA 22, 1927); (0, 1) for no items."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the bound is the estimate itself; rounding must not move it past.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def mcnemar_midp(b: int, c: int) -> float:
    """McNemar's exact test with mid-p, two-sided (Fagerland, Lydersen & Laake, BMC Med Res Methodol 13:91, 2013).

    Args:
        b: Items that only the first arm got right.
        c: Items that only the second arm got right.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts must not be negative: {b}, {c}")
    n, fewer = b + c, min(b, c)
    if b == c:
        return 1.0
    # In integers: exact, and no overflow for thousands of items.
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    doubled = 2 * tail - math.comb(n, fewer)
    return max(doubled / (1 << n), math.ulp(0.0))


def newcombe_paired(a: int, b: int, c: int, d: int) -> tuple[float, float, float]:
    """Difference of two paired proportions with its interval: method 10 of Newcombe (Stat Med 17:2635-2650, 1998).

    Wilson's intervals of the two proportions, combined by "square and add" with the continuity-corrected correlation.

    Args:
        a: Items both arms got right.
        b: Items only the first got right.
        c: Items only the second got right.
        d: Items neither got right.

    Returns:
        (first minus second, low, high); (0, -1, 1) for no items.
    """
    n = a + b + c + d
    if n == 0:
        return 0.0, -1.0, 1.0
    first, second = (a + b) / n, (a + c) / n
    low1, high1 = wilson(a + b, n)
    low2, high2 = wilson(a + c, n)
    phi = _correlation(a, b, c, d)
    difference = (b - c) / n
    down = _square_and_add(first - low1, high2 - second, phi)
    up = _square_and_add(high1 - first, second - low2, phi)
    return difference, max(-1.0, difference - down), min(1.0, difference + up)


def _correlation(a: int, b: int, c: int, d: int) -> float:
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    excess: float = a * d - b * c
    if excess > 0:
        excess = max(excess - (a + b + c + d) / 2, 0.0)
    return excess / math.sqrt(margins)


def _square_and_add(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))


def bootstrap_mean(values: Sequence[float], samples: int, seed: int) -> tuple[float, float]:
    """Bootstrap interval of a mean of scores in [0, 1].

    Percentile bootstrap with quantiles widened for small n by Student's t (Hesterberg, Am Stat 69:371-386, 2015).
    Values that are all equal (one value is the simplest case) resample to themselves and would give no width. Then the
    share of unlike items is taken to be at most q = `wilson(0, n)[1]`, and these could score anything in [0, 1]; at
    values of 0 or 1 this is Wilson's interval. No values: (0, 1).
    """
    array = _checked(values, 0.0)
    if array.size == 0:
        return 0.0, 1.0
    low, high, _ = _interval(array, samples, seed, floor=0.0)
    return low, high


def paired_bootstrap(differences: Sequence[float], samples: int, seed: int) -> tuple[float, float, float]:
    """Bootstrap interval and p of a mean of per-item differences in [-1, 1].

    The interval is made as in `bootstrap_mean`. p is twice the share of resampled means on the far side of zero, the
    observed sample counted among them, so it is never 0. Nor is it below 2 / 2^m, m the number of differences that are
    not zero: the least that flipping their signs can give. Where that alone is above 0.05 (m of five or fewer), the
    interval is widened to hold zero. No differences: (-1, 1, 1).
    """
    array = _checked(differences, -1.0)
    if array.size == 0:
        return -1.0, 1.0, 1.0
    low, high, means = _interval(array, samples, seed, floor=-1.0)
    least = min(1.0, 2.0 * 0.5 ** int((array != 0).sum()))
    if least > ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    # A hair of slack: means of equal size and opposite sign cancel to 1e-17, not to 0.
    below, above = int((means <= 1e-12).sum()), int((means >= -1e-12).sum())
    return low, high, min(1.0, max(2 * (min(below, above) + 1) / (samples + 1), least))


def _checked(values: Sequence[float], floor: float) -> Floats:
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if array.size and not (array.min() >= floor and array.max() <= 1.0):  # Also catches NaN.
        raise ValueError(f"values must lie in [{floor:g}, 1], these span {array.min()} to {array.max()}")
    return array


def _interval(array: Floats, samples: int, seed: int, floor: float) -> tuple[float, float, Floats]:
    """(low, high, resampled means), for one value or more."""
    import numpy as np

    mean = float(array.mean())
    if array.min() == array.max():
        unlike = wilson(0, array.size)[1]
        mean = float(array[0])
        return mean + unlike * (floor - mean), mean + unlike * (1.0 - mean), np.full(samples, mean)
    means = _resampled_means(array, samples, seed)
    tail = _tail(array.size)
    low, high = np.quantile(means, [tail, 1 - tail])
    return min(float(low), mean), max(float(high), mean), means


def _resampled_means(array: Floats, samples: int, seed: int) -> Floats:
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK_DRAWS // array.size)
    parts = [
        array[generator.integers(0, array.size, (min(rows, samples - start), array.size))].mean(axis=1)
        for start in range(0, samples, rows)
    ]
    return np.concatenate(parts)


def _tail(n: int) -> float:
    """The quantile to cut at either end: 0.025, less for few items, whose resampled means vary too little."""
    from scipy import stats

    t: Any = stats.t.ppf(1 - ALPHA / 2, n - 1)
    return NormalDist().cdf(-math.sqrt(n / (n - 1)) * float(t))


def compare(
    first: Sequence[float], second: Sequence[float], kind: Kind, *, samples: int, seed: int
) -> PairedDifference:
    """First minus second, item by item: Newcombe and McNemar for binary scores, the bootstrap for graded ones.

    Args:
        first: Scores in [0, 1], one per item; 0 or 1 if binary.
        second: The other arm's scores, of the same items in the same order.
        kind: The kind of score.
        samples: Bootstrap resamples (graded only).
        seed: Of the bootstrap (graded only).
    """
    if len(first) != len(second):
        raise ValueError(f"paired scores differ in number: {len(first)} and {len(second)}")
    n, discordant = len(first), sum(x != y for x, y in zip(first, second, strict=True))
    if kind == "graded":
        differences = [x - y for x, y in zip(first, second, strict=True)]
        low, high, p = paired_bootstrap(differences, samples, seed)
        return PairedDifference(math.fsum(differences) / max(n, 1), low, high, p, n, discordant)
    if not set(first) | set(second) <= {0, 1}:
        raise ValueError(f"binary scores must be 0 or 1, got {sorted({*first, *second} - {0, 1})[:3]}")
    cells = [(bool(x), bool(y)) for x, y in zip(first, second, strict=True)]
    a, b = cells.count((True, True)), cells.count((True, False))
    c, d = cells.count((False, True)), cells.count((False, False))
    difference, low, high = newcombe_paired(a, b, c, d)
    return PairedDifference(difference, low, high, mcnemar_midp(b, c), n, discordant)
