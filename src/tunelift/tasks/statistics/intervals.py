"""Intervals of one arm's mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from tunelift.tasks.statistics.clustered import cluster_index, effective_items, jackknife, t_quantile
from tunelift.tasks.statistics.proportions import ALPHA, wilson
from tunelift.tasks.statistics.unseen import ROUNDING, bounded_interval, unlike_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Index = NDArray[np.intp]

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

    With clusters, right-or-wrong scores get Wilson's interval at the effective number of items, p (1 - p) / se^2, and
    with Student's t in place of z (Franco, Little, Louis & Slud, J Surv Stat Methodol 7:334-364, 2019); others
    Student's t interval, if they are bounded with one more item that was not seen. se is by cluster.

    Args:
        values: One score per item; 0 or 1 if binary.
        kind: The kind of score.
        clusters: Per item what it shares with others, such as a source text; None for an item that stands alone.
        samples: Bootstrap resamples (unbounded scores without clusters only).
        seed: Of the bootstrap.
        bounded: Whether scores lie in [0, 1].

    Raises:
        ValueError: scores that their kind does not know, or not one cluster per item.
    """
    array = checked(values, kind, bounded)
    index = cluster_index(clusters, array.size)
    if kind == "binary":
        return wilson(int(array.sum()), array.size) if index is None else _clustered_share(array, index)
    if not bounded:
        return _unbounded_mean(array, index, samples, seed)
    if index is None:
        se = float(array.std(ddof=1)) / math.sqrt(array.size) if array.size > 1 else 0.0
        return bounded_interval(array, se, array.size, array.size, (0.0, 1.0))
    found, assumed = jackknife(array, index), effective_items(index)
    measured = float(array.var(ddof=1)) / found.se**2 if found.se > 0 else assumed
    return bounded_interval(array, found.se, min(measured, assumed), found.df, (0.0, 1.0))


def _clustered_share(array: Floats, index: Index) -> tuple[float, float]:
    found, assumed = jackknife(array, index), effective_items(index)
    varies = found.se > 0 and 0 < found.mean < 1
    n = found.mean * (1 - found.mean) / found.se**2 if varies else assumed
    low, high = wilson(found.mean * n, n, t_quantile(1 - ALPHA / 2, found.df))
    least, most = unlike_interval(array, assumed, (0.0, 1.0))
    return min(low, least), max(high, most)


def _unbounded_mean(array: Floats, index: Index | None, samples: int, seed: int) -> tuple[float, float]:
    if not array.size:
        return 0.0, 1.0
    mean, reach = float(array.mean()), float(abs(array).max())
    extremes = mean - reach, mean + reach
    if index is None:
        return bootstrap(array, samples, seed, extremes)
    found = jackknife(array, index)
    least, most = unlike_interval(array, effective_items(index), extremes, ROUNDING)
    half = t_quantile(1 - ALPHA / 2, found.df) * found.se
    return min(mean - half, least), max(mean + half, most)


def bootstrap(array: Floats, samples: int, seed: int, extremes: tuple[float, float]) -> tuple[float, float]:
    """Interval of the mean of unbounded values, one or more.

    Percentile bootstrap with quantiles widened for small n (Hesterberg, Am Stat 69:371-386, 2015), and nowhere
    narrower than Student's t interval: the one follows skew, the other heavy tails. Values that are all alike, or all
    but a few, resample to next to no width; then the interval is that of `unlike_interval`.

    Args:
        array: The values.
        samples: Resamples.
        seed: Of the resampling.
        extremes: What bounds a value that was not seen.
    """
    import numpy as np

    low, high = unlike_interval(array, array.size, extremes, ROUNDING)
    if array.min() == array.max():
        return low, high
    mean, t = float(array.mean()), t_quantile(1 - ALPHA / 2, array.size - 1)
    half = t * float(array.std(ddof=1)) / math.sqrt(array.size)
    tail = NormalDist().cdf(-math.sqrt(array.size / (array.size - 1)) * t)
    resampled = np.quantile(_resampled_means(array, samples, seed), [tail, 1 - tail])
    return min(low, mean - half, float(resampled[0])), max(high, mean + half, float(resampled[1]))


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


def _resampled_means(array: Floats, samples: int, seed: int) -> Floats:
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK_DRAWS // array.size)
    parts = [
        array[generator.integers(0, array.size, (min(rows, samples - start), array.size))].mean(axis=1)
        for start in range(0, samples, rows)
    ]
    return np.concatenate(parts)
