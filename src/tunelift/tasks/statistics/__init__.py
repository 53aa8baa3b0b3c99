"""Intervals, paired tests, verdicts and power, at 95% two-sided.

What is used where, and why (scripts/simulate_verdicts.py measures that it holds):

| scores | items stand alone | items share clusters |
|---|---|---|
| binary, one arm | Wilson | Wilson at the effective number of items |
| graded, one arm | bootstrap | as binary; if unbounded, Student's t with a jackknife by cluster |
| binary, paired | Newcombe; mid-p McNemar | Newcombe at the effective number of items; sign-flip by cluster |
| graded, paired | bootstrap; sign-flip | Student's t with a jackknife by cluster; sign-flip by cluster |

The normal approximation is not used: near 0 and 1, and for few items, it covers far less than it claims. Nor is the
bootstrap of clusters, which covers too little when they are few. Scores need not lie in [0, 1]: say `bounded=False` for
those that do not, such as bits per byte. Every interval is about the items asked, not about another training run.
"""

from tunelift.tasks.statistics.intervals import ALPHA, Kind, bootstrap_mean, mean_interval, wilson
from tunelift.tasks.statistics.multiplicity import benjamini_hochberg, holm
from tunelift.tasks.statistics.paired import (
    PairedDifference,
    compare,
    newcombe_paired,
    paired_bootstrap,
    whichever,
)
from tunelift.tasks.statistics.power import Spread, minimum_detectable_effect, needed_items
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
    "MIN_CLUSTERS",
    "Kind",
    "NonInferiority",
    "PairedDifference",
    "Spread",
    "Verdict",
    "benjamini_hochberg",
    "bootstrap_mean",
    "compare",
    "holm",
    "mcnemar_midp",
    "mean_interval",
    "minimum_detectable_effect",
    "needed_items",
    "newcombe_paired",
    "non_inferiority",
    "paired_bootstrap",
    "sign_flip",
    "verdict",
    "whichever",
    "wilson",
]
