"""Is a difference of the size that the report calls detectable found in 80% of runs?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulation.scores import Floats
from simulation.table import Rate, Row
from tunelift.tasks.statistics import Kind, compare, minimum_detectable_effect, verdict

WITHIN = 0.05
RESAMPLES = 499
DISCORDANT, DEVIATION, ALIKE = 0.3, 0.3, 0.1
"""Share of items that differ (binary), standard deviation (graded), correlation of differences within a cluster."""
SIZES: dict[str, list[int]] = {
    "60 items alone": [1] * 60,
    "200 items alone": [1] * 200,
    "20 clusters of 10": [10] * 20,
    "10 clusters of 20": [20] * 10,
    "8 clusters of 25": [25] * 8,
    "17 clusters, one four times as large": [40] + [10] * 16,
    "21 clusters, one five times as large": [100] + [20] * 20,
    "17 clusters, one twice as large, and 40 items alone": [20] + [10] * 16 + [1] * 40,
    "4 clusters of 50, 100 items alone": [50] * 4 + [1] * 100,
    "10 clusters, one of 110 of 200 items": [110] + [10] * 9,
    "10 clusters, two of 60 of 200 items": [60, 60] + [10] * 8,
}


def detected(repetitions: int, seed: int) -> Iterator[Row]:
    """Binary and graded; where clusters are too few or unequal (less than 4 degrees of freedom) nothing is promised."""
    for name, sizes in SIZES.items():
        rates = [_found(kind, sizes, repetitions, seed) for kind in ("binary", "graded")]
        if None in rates:
            yield Row(f"{name}: no difference is promised (underpowered)", (), repetitions)
        else:
            kept = tuple(Rate(rate or 0.0, 0.8 - WITHIN, 0.8 + WITHIN) for rate in rates)
            yield Row(f"{name}: detectable difference found", kept, repetitions)


def _found(kind: Kind, sizes: list[int], repetitions: int, seed: int) -> float | None:
    generator = np.random.default_rng([seed, len(sizes), sizes[0], int(kind == "binary")])
    index = np.repeat(np.arange(len(sizes)), sizes)
    clusters = [str(group) for group in index] if max(sizes) > 1 else None
    told = []
    for repetition in range(max(repetitions // 4, 50)):
        pair = compare(
            *_scores(kind, index, 0.0, generator), kind, clusters=clusters, samples=RESAMPLES, seed=repetition
        )
        if (smallest := minimum_detectable_effect(pair.n, pair.spread)) is not None:
            told.append(smallest)
    if not told:
        return None
    effect, found = float(np.mean(told)), 0
    for repetition in range(repetitions):
        scores = _scores(kind, index, effect, generator)
        pair = compare(*scores, kind, clusters=clusters, samples=RESAMPLES, seed=repetition)
        found += verdict(pair, effect=0.05, mde=None) == "improved"
    return found / repetitions


def _scores(kind: Kind, index: np.ndarray, effect: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """The first arm better by `effect`, by more in some clusters than in others."""
    if kind == "graded":
        own = generator.standard_normal(int(index.max()) + 1)[index]
        d = np.sqrt(ALIKE) * own + np.sqrt(1 - ALIKE) * generator.standard_normal(index.size)
        d = np.clip(effect + DEVIATION * d, -1, 1)
        return 0.5 + d / 2, 0.5 - d / 2
    share = (1 + effect / DISCORDANT) / 2
    leaning = generator.beta(share * (1 / ALIKE - 1), (1 - share) * (1 / ALIKE - 1), int(index.max()) + 1)[index]
    differ, first = generator.random(index.size) < DISCORDANT, generator.random(index.size) < leaning
    both = generator.random(index.size) < 0.5
    return np.where(differ, first, both).astype(np.float64), np.where(differ, ~first, both).astype(np.float64)
