"""What the numbers allow to be said."""

from __future__ import annotations

from typing import Literal

from tunelift.tasks.statistics.paired import PairedDifference
from tunelift.tasks.statistics.proportions import ALPHA

MIN_CLUSTERS = 8
"""Of fewer, neither an interval nor a test is worth its name."""

Verdict = Literal["improved", "not shown", "regressed", "underpowered"]
NonInferiority = Literal["non-inferior", "inconclusive", "inferior"]


def verdict(
    pair: PairedDifference,
    *,
    p_adjusted: float | None = None,
    effect: float,
    mde: float | None,
    lower_is_better: bool = False,
) -> Verdict:
    """What is shown of the first arm against the second.

    A difference is shown where p and the interval both say so. `underpowered`: it is not, but neither would one of
    `effect` have been.

    Args:
        pair: The two arms compared.
        p_adjusted: p over all confirmatory tests; by default the pair's own.
        effect: Smallest difference worth finding.
        mde: `minimum_detectable_effect` of the pair; None if the items can show none.
        lower_is_better: Whether a lower score is the better one.
    """
    if _too_few(pair):
        return "underpowered"
    low, high = _in_favour(pair, lower_is_better)
    if (pair.p if p_adjusted is None else p_adjusted) <= ALPHA and (low > 0 or high < 0):
        return "improved" if low > 0 else "regressed"
    return "underpowered" if mde is None or mde > effect else "not shown"


def non_inferiority(pair: PairedDifference, margin: float, lower_is_better: bool = False) -> NonInferiority:
    """Whether the first arm is shown to be worse than the second by less than the margin, or by more.

    One-sided at 2.5%: the lower bound of the 95% interval, in the metric's better direction, lies above -margin.
    """
    low, high = _in_favour(pair, lower_is_better)
    if _too_few(pair) or low <= -margin <= high:
        return "inconclusive"
    return "non-inferior" if low > -margin else "inferior"


def _in_favour(pair: PairedDifference, lower_is_better: bool) -> tuple[float, float]:
    return (-pair.high, -pair.low) if lower_is_better else (pair.low, pair.high)


def _too_few(pair: PairedDifference) -> bool:
    return pair.n == 0 or (pair.clusters is not None and pair.clusters < MIN_CLUSTERS)
