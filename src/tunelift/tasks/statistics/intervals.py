"""Intervals of one arm's mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from tunelift.tasks.statistics.clustered import cluster_index, effective_items, jackknife, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Index = NDArray[np.intp]

ALPHA = 0.05
Z = NormalDist().inv_cdf(1 - ALPHA / 2)
"""1.96: two-sided 95%."""

FEW_UNLIKE = 5
"""With so few values unlike the others, what was seen says too little about what was not: 2 / 2^5 > 0.05."""

CHUNK_DRAWS = 2_000_000
"""Resampled values held at once: 16 MB of indices."""

Kind = Literal["binary", "graded"]


def mean_interval(
    values: Sequence[float],
    kind: Kind,
    *,
    clusters: Sequence[str | None] | None = None,
    samples: int,
    seed: int,
    bounded: bool = True,
) -> tuple[float, float]:
    """Interval of an arm's mean score.

    With clusters, scores in [0, 1] get Wilson's interval at the effective number of items, p (1 - p) / se^2, and with
    Student's t in place of z (Franco, Little, Louis & Slud, J Surv Stat Methodol 7:334-364, 2019), others Student's t
    interval; se is by cluster.

    Args:
        values: One score per item; 0 or 1 if binary.
        kind: The kind of score.
        clusters: Per item what it shares with others, such as a source text; None for an item that stands alone.
        samples: Bootstrap resamples (graded scores without clusters only).
        seed: Of the bootstrap.
        bounded: Whether scores lie in [0, 1].

    Raises:
        ValueError: scores that their kind does not know, or not one cluster per item.
    """
    array = checked(values, kind, bounded)
    index = cluster_index(clusters, array.size)
    if index is not None:
        return _clustered_mean(array, index, bounded or kind == "binary")
    if kind == "binary":
        return wilson(int(array.sum()), array.size)
    return bootstrap_mean(values, samples, seed, bounded=bounded)


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


def bootstrap_mean(values: Sequence[float], samples: int, seed: int, *, bounded: bool = True) -> tuple[float, float]:
    """Bootstrap interval of a mean of graded scores; (0, 1) for no values.

    Percentile bootstrap with quantiles widened for small n (Hesterberg, Am Stat 69:371-386, 2015), and nowhere
    narrower than Student's t interval: the one follows skew, the other heavy tails.

    Values that are all alike, or all but a few, resample to next to no width. Then the share of unlike items is taken
    to be up to `wilson(0, n)[1]`, and these could score anything: in [0, 1], which for values of 0 or 1 is Wilson's
    interval; if unbounded, as far from the mean as the largest score is from zero.
    """
    array = checked(values, "graded", bounded)
    if array.size == 0:
        return 0.0, 1.0
    extremes = _extremes(array, bounded)
    low, high = bootstrap(array, samples, seed, extremes)
    return (max(extremes[0], low), min(extremes[1], high)) if bounded else (low, high)


def bootstrap(array: Floats, samples: int, seed: int, extremes: tuple[float, float]) -> tuple[float, float]:
    """The interval that `bootstrap_mean` describes, for one value or more; `extremes` bound what was not seen."""
    import numpy as np

    low, high = unlike_interval(array, array.size, extremes)
    if array.min() == array.max():
        return low, high
    mean, t = float(array.mean()), t_quantile(1 - ALPHA / 2, array.size - 1)
    half = t * float(array.std(ddof=1)) / math.sqrt(array.size)
    tail = NormalDist().cdf(-math.sqrt(array.size / (array.size - 1)) * t)
    resampled = np.quantile(_resampled_means(array, samples, seed), [tail, 1 - tail])
    return min(low, mean - half, float(resampled[0])), max(high, mean + half, float(resampled[1]))


def unlike_interval(array: Floats, n: float, extremes: tuple[float, float]) -> tuple[float, float]:
    """What items that were not seen could make of the mean; the mean itself where enough unlike ones were seen.

    Args:
        array: The values.
        n: How many independent ones they count for.
        extremes: The least and the most that an item could score.
    """
    import numpy as np

    mean = float(array[0]) if array.min() == array.max() else float(array.mean())
    if array.size - int(np.unique(array, return_counts=True)[1].max()) > FEW_UNLIKE:
        return mean, mean
    unlike = wilson(0, n)[1]
    return mean + unlike * (extremes[0] - mean), mean + unlike * (extremes[1] - mean)


def checked(values: Sequence[float], kind: Kind, bounded: bool) -> Floats:
    """The scores as an array.

    Raises:
        ValueError: a score that its kind does not know, or that is no number.
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite numbers")
    if kind == "binary" and not ((array == 0) | (array == 1)).all():
        raise ValueError(f"binary scores must be 0 or 1, got {np.setdiff1d(array, [0, 1])[:3].tolist()}")
    if bounded and array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"scores must lie in [0, 1], these span {array.min():g} to {array.max():g}")
    return array


def _extremes(array: Floats, bounded: bool) -> tuple[float, float]:
    if bounded:
        return 0.0, 1.0
    mean, reach = float(array.mean()), float(abs(array).max())
    return mean - reach, mean + reach


def _clustered_mean(array: Floats, index: Index, bounded: bool) -> tuple[float, float]:
    found, extremes, assumed = jackknife(array, index), _extremes(array, bounded), effective_items(index)
    mean, quantile = found.mean, t_quantile(1 - ALPHA / 2, found.df)
    if bounded:
        varies = found.se > 0 and 0 < mean < 1
        n = mean * (1 - mean) / found.se**2 if varies else assumed
        low, high = wilson(min(max(mean, 0.0), 1.0) * n, n, quantile)
    else:
        low, high = mean - quantile * found.se, mean + quantile * found.se
    least, most = unlike_interval(array, assumed, extremes)
    return min(low, least), max(high, most)


def _resampled_means(array: Floats, samples: int, seed: int) -> Floats:
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK_DRAWS // array.size)
    parts = [
        array[generator.integers(0, array.size, (min(rows, samples - start), array.size))].mean(axis=1)
        for start in range(0, samples, rows)
    ]
    return np.concatenate(parts)
