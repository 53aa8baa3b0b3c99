"""Which rows stay under weights and a budget: drawn by a hash, so that the order of rows and files does not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def draw(
    sources: NDArray[np.int32],
    ranks: NDArray[np.uint64],
    tokens: NDArray[np.int64],
    *,
    weights: Sequence[float] | None,
    keep_rows: int | None,
    keep_tokens: int | None,
) -> NDArray[np.bool_]:
    """Which rows stay; shape (rows,).

    With weights, the rows of the sources stand in their proportion and none is repeated, so the source that has fewest
    for its weight limits the mix; one without any rows is left out of it. Without weights, all sources are one.

    Args:
        sources: The number of each row's source, from 0; shape (rows,).
        ranks: A seeded hash of each row; of a source the lowest stay.
        tokens: Of each row.
        weights: One for each source, or none.
        keep_rows: Most rows, over all sources.
        keep_tokens: Most tokens, over all sources.
    """
    of = sources if weights is not None else np.zeros_like(sources)
    wanted = np.asarray(weights if weights is not None else [1.0])
    available = np.bincount(of, minlength=len(wanted))
    shares = np.where(available > 0, wanted, 0.0)
    if not len(of):
        return np.zeros(0, dtype=bool)
    shares = shares / shares.sum()
    places = _places(of, ranks, available)

    def chosen(total: int) -> NDArray[np.bool_]:
        # The tiny addition undoes rounding, such as 0.3 * 10 = 2.9999….
        counts: NDArray[np.float64] = np.floor(shares * total + 1e-9)
        inside: NDArray[np.bool_] = places < counts[of]
        return inside

    most = int(np.min(available[shares > 0] / shares[shares > 0]) + 1e-9)
    most = min(most, keep_rows) if keep_rows is not None else most
    if keep_tokens is not None:
        most = _largest(most, lambda total: int(tokens[chosen(total)].sum()) <= keep_tokens)
    return chosen(most)


def _places(of: NDArray[np.int32], ranks: NDArray[np.uint64], available: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row's place among those of its source, from 0, by rank."""
    order = np.lexsort((ranks, of))
    starts = np.cumsum(available) - available
    places = np.empty(len(of), dtype=np.int64)
    places[order] = np.arange(len(of)) - starts[of[order]]
    return places


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest total that fits, by bisection: if one fits, so does any below it."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
