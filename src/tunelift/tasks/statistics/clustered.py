"""Items that share a source are not independent: the standard error of a mean by cluster, and its degrees of freedom.

Miller 2024 (arXiv 2411.00640) sums residuals within clusters: se^2 = sum_g u_g^2 / N^2, with u_g = sum over the items i
of cluster g of (x_i - mean). With few or unequal clusters this is too small. The jackknife corrects it, leaving out one
cluster at a time (CV3; MacKinnon, Nielsen & Webb, J Appl Econom 38:671-694, 2023), and Student's t gets the degrees of
freedom of Satterthwaite as Bell & McCaffrey use them (Surv Methodol 28:169-181, 2002). For G clusters of equal size
both are what a t test on the clusters' means has: its standard error, and G - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Index = NDArray[np.intp]


ASSUMED_CORRELATION = 0.1
"""Of two items of the same cluster, where nothing has been measured: before the run, or where all score alike."""


@dataclass(frozen=True)
class ClusteredMean:
    """A mean, its standard error, and the degrees of freedom of that."""

    mean: float
    se: float
    """0 where clusters do not differ, or where there is only one; no interval may rest on it then."""
    df: float


def cluster_index(clusters: Sequence[str | None] | None, n: int) -> Index | None:
    """Each item's cluster as a number from 0; None if all items stand alone.

    Raises:
        ValueError: not one cluster per item.
    """
    import numpy as np

    if clusters is None:
        return None
    if len(clusters) != n:
        raise ValueError(f"clusters and scores differ in number: {len(clusters)} and {n}")
    numbers: dict[str | tuple[int], int] = {}
    index = [
        numbers.setdefault(cluster if cluster is not None else (item,), len(numbers))
        for item, cluster in enumerate(clusters)
    ]
    return None if len(numbers) == n else np.asarray(index, dtype=np.intp)


def jackknife(values: Floats, index: Index) -> ClusteredMean:
    """The mean over items and its standard error, leaving out one cluster at a time."""
    import numpy as np

    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    n, groups, mean = values.size, sizes.size, float(values.mean())
    if groups == 1:
        return ClusteredMean(mean, 0.0, 1.0)
    residuals = (sums - mean * sizes) / (n - sizes)
    # Residuals of equal values are not exactly zero.
    residuals[abs(residuals) < 1e-12 * float(abs(values).max())] = 0.0
    se = math.sqrt((groups - 1) / groups * float((residuals**2).sum()))
    return ClusteredMean(mean, se, satterthwaite(index))


def satterthwaite(index: Index, correlation: float = 0.0) -> float:
    """Degrees of freedom: 2 E[V]^2 / Var[V] of the jackknife variance V; 1 for a single cluster.

    As if all items had one variance, and two of a cluster this correlation. The intervals take them for independent;
    correlated, a few large clusters decide the variance however many items stand alone.

    V is a quadratic form of the cluster sums with the matrix B = diag(d) - d w' - w d' + (w' D w) 1 1', where w are the
    clusters' shares of the items and d = (1 - w)^-2, and v are the sums' variances. Then
    df = tr(BV)^2 / tr(BVBV), written out so that it takes time linear in the number of clusters.
    """
    import numpy as np

    sizes = np.bincount(index).astype(np.float64)
    if sizes.size == 1:
        return 1.0
    w, v = sizes / sizes.sum(), sizes * (1 + (sizes - 1) * correlation)
    d = 1 / (1 - w) ** 2
    a = d * w
    k = float((w * a).sum())
    m0, m1, m2 = float(v.sum()), float((v * a).sum()), float((v * a * a).sum())
    diagonal = d + k - 2 * a
    trace = float((v * diagonal).sum())
    squares = k * k * m0 * m0 + 2 * m0 * m2 + 2 * m1 * m1 - 4 * k * m0 * m1
    squares += float((v * v * (diagonal**2 - (k - 2 * a) ** 2)).sum())
    return trace * trace / squares


def effective_items(index: Index, correlation: float = ASSUMED_CORRELATION) -> float:
    """How many independent items they count for (Kish, Survey Sampling, 1965).

    N / design effect, which is 1 + (sum n_g^2 / N - 1) correlation.

    Args:
        index: Each item's cluster.
        correlation: Of two items of the same cluster.
    """
    import numpy as np

    sizes = np.bincount(index).astype(np.float64)
    return float(index.size / (1 + ((sizes**2).sum() / index.size - 1) * correlation))


def t_quantile(probability: float, df: float) -> float:
    """Of Student's t; df may be infinite."""
    from scipy import special

    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))
