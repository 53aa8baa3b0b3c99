"""Scores of two arms on the same items, with a known truth.

Items have a difficulty that both arms share, clusters another one, and each arm does better or worse on each cluster:
what makes items of a cluster say the same about the difference. Cluster sizes are very unequal (log-normal).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tunelift.tasks.statistics import Kind

Floats = NDArray[np.float64]

ITEM, CLUSTER, ARM_ON_CLUSTER = 0.4, 0.2, 0.15
"""Shares of the variance behind a score; the rest is each arm's own on each item. Without clusters: 0.6, 0, 0."""


@dataclass(frozen=True)
class Metric:
    """A score as a function of a standard normal number."""

    name: str
    kind: Kind
    bounded: bool
    score: Callable[[Floats], Floats]


METRICS = (
    Metric("binary", "binary", True, lambda z: (z > -0.5).astype(np.float64)),
    # A tenth is all wrong, more than half all right, as fields of a JSON reply are.
    Metric("graded", "graded", True, lambda z: np.clip((ndtr(z) - 0.1) / 0.35, 0.0, 1.0)),
    Metric("bits per byte", "graded", False, lambda z: np.exp(0.4 * z)),
)


def labels(n: int, groups: int, generator: np.random.Generator) -> list[str]:
    """Each item's cluster; sizes differ widely, none is empty."""
    shares = generator.lognormal(0.0, 0.7, groups)
    sizes = 1 + generator.multinomial(n - groups, shares / shares.sum())
    return [str(group) for group, size in enumerate(sizes) for _ in range(size)]


def arms(
    metric: Metric, n: int, clusters: list[str] | None, shift: float, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Scores of two arms on the same items, the first better by `shift`; both are standard normal before scoring."""
    if clusters is None:
        shared, own = math.sqrt(ITEM + CLUSTER) * generator.standard_normal(n), np.zeros((2, n))
        rest = 1 - ITEM - CLUSTER
    else:
        group = np.asarray(clusters, dtype=np.intp)
        difficulty = generator.standard_normal(group.max() + 1)[group]
        shared = math.sqrt(ITEM) * generator.standard_normal(n) + math.sqrt(CLUSTER) * difficulty
        own = math.sqrt(ARM_ON_CLUSTER) * generator.standard_normal((2, group.max() + 1))[:, group]
        rest = 1 - ITEM - CLUSTER - ARM_ON_CLUSTER
    behind = shared + own + math.sqrt(rest) * generator.standard_normal((2, n))
    return metric.score(behind[0] + shift), metric.score(behind[1])


@cache
def true_mean(metric: Metric, shift: float) -> float:
    """The mean score over all items there could be, by numerical integration."""
    z = np.linspace(-9, 9, 200_001)
    density = np.exp(-z * z / 2)
    return float((metric.score(z + shift) * density).sum() / density.sum())
