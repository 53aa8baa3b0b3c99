"""Intervals of a bounded mean that do not collapse: Student's t with one more item, which was not seen.

Where all items score nearly alike, their own deviation says nothing of a rare item that scores quite otherwise: of 60
items, one that fails in 2% of all cases is missing from three samples in ten. So the lower bound is that of the sample
and one more item that scores the least there is, the upper bound that with one more that scores the most. An outlier
that was seen makes further ones likelier: the item then counts for more than one (`SEEN`; both numbers are from
scripts/simulate_verdicts.py).

Values that are all alike but for a few get Wilson's bound for what was not seen at all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tunelift.tasks.statistics.clustered import t_quantile
from tunelift.tasks.statistics.proportions import ALPHA, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SEEN = 0.3
"""How much more than one item the unseen one counts for where an item as extreme was seen."""
FEW_UNLIKE = 5
"""With so few values unlike the others, what was seen says too little about what was not: 2 / 2^5 > 0.05."""
ALIKE = 0.005
"""Values this close to the median count as alike, as a share of the range: noise says nothing of rare items."""
ROUNDING = 1e-9
"""The same for values without bounds, whose natural noise may be a small part of them."""


def t_bound(mean: float, se: float, n: float, quantile: float, *, extreme: float, seen: float) -> float:
    """The bound on the side of `extreme`, the least or the most that an item can score.

    Args:
        mean: Of the values.
        se: Its standard error.
        n: How many independent values they count for beside the unseen one.
        quantile: Of Student's t.
        extreme: What the unseen item scores.
        seen: How far the most extreme value that was seen lies from the mean, as a share of how far it could.
    """
    weight = 1 + SEEN * min(max(seen, 0.0), 1.0)
    total = n + weight
    centre = (n * mean + weight * extreme) / total
    squares = max(n - 1, 0.0) * n * se * se + n * weight / total * (mean - extreme) ** 2
    half = quantile * math.sqrt(squares / (total - 1) / total)
    return centre + math.copysign(half, extreme - mean)


def bounded_interval(
    array: Floats, se: float, n: float, df: float, extremes: tuple[float, float]
) -> tuple[float, float]:
    """The interval of a mean of values between the extremes; they themselves for fewer than two values.

    Args:
        array: The values.
        se: Standard error of their mean.
        n: How many independent ones they count for.
        df: Degrees of freedom of the standard error.
        extremes: The least and the most that an item can score.
    """
    if array.size < 2:
        return extremes
    mean, quantile = float(array.mean()), t_quantile(1 - ALPHA / 2, df)
    least, most = unlike_interval(array, n, extremes)
    bounds = []
    for extreme, outermost in zip(extremes, (float(array.min()), float(array.max())), strict=True):
        seen = (outermost - mean) / (extreme - mean) if extreme != mean else 1.0
        bounds.append(t_bound(mean, se, n, quantile, extreme=extreme, seen=seen))
    return max(min(bounds[0], least), extremes[0]), min(max(bounds[1], most), extremes[1])


def unlike_interval(
    array: Floats, n: float, extremes: tuple[float, float], alike: float = ALIKE
) -> tuple[float, float]:
    """What items that were not seen could make of the mean; the mean itself where enough unlike ones were seen.

    The share of unlike items is taken to be up to `wilson(0, n)[1]`, and these could score anything.

    Args:
        array: The values.
        n: How many independent ones they count for.
        extremes: The least and the most that an item could score.
        alike: How close to the median values count as alike, as a share of the range.
    """
    mean = float(array[0]) if array.min() == array.max() else float(array.mean())
    if count_unlike(array, alike * (extremes[1] - extremes[0])) > FEW_UNLIKE:
        return mean, mean
    unlike = wilson(0, n)[1]
    return mean + unlike * (extremes[0] - mean), mean + unlike * (extremes[1] - mean)


def count_unlike(array: Floats, alike: float = 2 * ALIKE) -> int:
    """Values that lie further than `alike` from the median."""
    import numpy as np

    return int((abs(array - np.median(array)) > alike).sum()) if array.size else 0
