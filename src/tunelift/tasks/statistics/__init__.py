"""Intervals, paired tests, verdicts and power, at 95% two-sided.

What is used where, and why (scripts/simulate_verdicts.py measures that it holds):

| scores | items stand alone | items share clusters |
|---|---|---|
| binary, one arm | Wilson | Wilson at the effective number of items |
| graded, one arm | Student's t with one unseen item | the same, with a jackknife by cluster |
| unbounded, one arm | bootstrap | Student's t with a jackknife by cluster |
| binary, paired | Tango; mid-p McNemar | Tango at the effective number of items; sign-flip by cluster |
| graded, paired | Student's t with one unseen item; sign-flip | the same, with a jackknife and sign-flip by cluster |
| unbounded, paired | bootstrap; sign-flip | Student's t with a jackknife by cluster; sign-flip by cluster |

The normal approximation is not used: near 0 and 1, and for few items, it covers far less than it claims. Nor is the
bootstrap of clusters, which covers too little when they are few. Graded scores lie in [0, 1]: say `bounded=False` for
those that do not, such as bits per byte. Every interval is about the items asked, not about another training run.
"""

from tunelift.tasks.statistics.intervals import Kind, mean_interval
from tunelift.tasks.statistics.multiplicity import benjamini_hochberg, holm
from tunelift.tasks.statistics.paired import PairedDifference, compare, whichever
from tunelift.tasks.statistics.power import (
    LEAST_TO_CHOOSE_BY,
    Spread,
    clusters_for_margin,
    minimum_detectable_effect,
    needed_for_margin,
    needed_items,
)
from tunelift.tasks.statistics.proportions import ALPHA, tango, wilson
from tunelift.tasks.statistics.significance import mcnemar_midp, sign_flip
from tunelift.tasks.statistics.verdict import (
    MIN_CLUSTERS,
    NonInferiority,
    Verdict,
    non_inferiority,
    verdict,
)

__all__ = [
    "ALPHA",
    "LEAST_TO_CHOOSE_BY",
    "MIN_CLUSTERS",
    "Kind",
    "NonInferiority",
    "PairedDifference",
    "Spread",
    "Verdict",
    "benjamini_hochberg",
    "clusters_for_margin",
    "compare",
    "holm",
    "mcnemar_midp",
    "mean_interval",
    "minimum_detectable_effect",
    "needed_for_margin",
    "needed_items",
    "non_inferiority",
    "sign_flip",
    "tango",
    "verdict",
    "whichever",
    "wilson",
]
