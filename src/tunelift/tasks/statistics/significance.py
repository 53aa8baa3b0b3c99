"""Tests of no difference between two arms on the same items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunelift.tasks.statistics.intervals import CHUNK_DRAWS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EXACT_UNITS = 15
"""All 2^14 ways to flip the signs of so many are gone through; of more, a random sample."""
NEGLIGIBLE = 1e-20
"""Share of a sum at which its next term is left out."""
SCALE_BITS = 60
"""Binary places to which a factor is rounded before it is multiplied by an integer."""


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
    # Each term of the tail is the one before it times `k / (n - k + 1)`, so no binomial is computed twice. The first
    # one stays an integer: it is exact, and does not overflow for thousands of items.
    ratio, tail = 1.0, 1.0
    for k in range(fewer, 0, -1):
        ratio *= k / (n - k + 1)
        tail += ratio
        if ratio < NEGLIGIBLE * tail:
            break  # The terms left fall faster than a geometric series and change no digit.
    doubled = math.comb(n, fewer) * round((2 * tail - 1) * (1 << SCALE_BITS))
    return max(doubled / (1 << (n + SCALE_BITS)), math.ulp(0.0))


def sign_flip(differences: Sequence[float] | Floats, samples: int, seed: int, *, mid_p: bool = False) -> float:
    """Two-sided p of a mean difference by flipping signs: the permutation test for pairs (Fisher 1935).

    Exact for up to 15 differences that are not zero. Of more, `samples` random flips are taken and the observed signs
    counted among them, so that p is never 0 (Phipson & Smyth, Stat Appl Genet Mol Biol 9:39, 2010).

    Args:
        differences: Per item, or summed within each cluster.
        samples: Random flips.
        seed: Of the flips.
        mid_p: Count ties with the observed sum by half. For 0/1 scores without clusters this is `mcnemar_midp`.
    """
    import numpy as np

    array = np.asarray(differences, dtype=np.float64)
    sizes = abs(array[array != 0])
    total, observed = float(sizes.sum()), abs(math.fsum(array))
    slack = 1e-9 * total  # Equal sums of other signs differ by rounding.
    if observed <= slack:
        return 1.0
    exact = sizes.size <= EXACT_UNITS
    above = ties = drawn = 0
    for signs in _all_signs(sizes.size) if exact else _random_signs(sizes.size, samples, seed):
        flipped = abs(2 * (signs @ sizes) - total)
        above += int((flipped > observed + slack).sum())
        ties += int((abs(flipped - observed) <= slack).sum())
        drawn += len(signs)
    if not exact:
        ties, drawn = ties + 1, drawn + 1
    return (above + (ties / 2 if mid_p else ties)) / drawn


def _all_signs(units: int) -> Iterator[Floats]:
    """1 for plus, 0 for minus; the last one stays plus, since flipping all of them changes no size."""
    import numpy as np

    ways = np.arange(1 << (units - 1))[:, None]
    yield ((ways >> np.arange(units)) & 1 ^ (np.arange(units) == units - 1)).astype(np.float64)


def _random_signs(units: int, samples: int, seed: int) -> Iterator[Floats]:
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK_DRAWS // units)
    for start in range(0, samples, rows):
        packed = generator.integers(0, 256, (min(rows, samples - start), -(-units // 8)), dtype=np.uint8)
        yield np.unpackbits(packed, axis=1)[:, :units].astype(np.float64)
