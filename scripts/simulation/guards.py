"""Guards: how often one passes whose true loss is its margin, and how often one passes whose arms are equal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from simulation.scores import Floats, labels
from simulation.table import Rate, Row
from tunelift.tasks.statistics import Kind, compare, non_inferiority

MAX_ERROR = 0.035
MARGINS = (0.02, 0.05)
SIZES = (60, 100, 150, 200, 300, 400, 650)
LOST = 0.9
"""What an item loses that loses nearly all."""
CLUSTERED = ((120, 12), (300, 12), (200, 20), (300, 30), (650, 50))
"""Items and clusters."""
ALIKE = 0.1
"""Correlation of the losses of two items of a cluster."""
FLIPS = 19
"""A guard's verdict does not depend on p."""


def passes(scores: tuple[Floats, Floats], kind: Kind, margin: float, **options: object) -> bool:
    """Whether a guard with these scores is non-inferior."""
    pair = compare(*scores, kind, samples=FLIPS, seed=0, **options)  # type: ignore[arg-type]
    return non_inferiority(pair, margin) == "non-inferior"


def right_or_wrong(n: int, loss: float, gain: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Items that only one arm gets right, and items that both do."""
    drawn = generator.choice(3, n, p=[gain, loss + gain, 1 - loss - 2 * gain])
    return (drawn != 1).astype(np.float64), (drawn != 0).astype(np.float64)


def graded(
    n: int, loss: float, noise: float, generator: np.random.Generator, lost: float = LOST, rates: Floats | None = None
) -> tuple[Floats, Floats]:
    """A few items lose `lost`, so that the mean loses `loss`; all differ by noise. `rates`: each item's, if unequal."""
    rare = generator.random(n) < (loss / lost if rates is None else rates)
    d = np.clip(np.where(rare, -lost, 0.0) + noise * generator.standard_normal(n), -1, 1)
    return 0.5 + d / 2, 0.5 - d / 2


def guards(repetitions: int, seed: int) -> Iterator[Row]:
    """The true loss is the margin; columns: right or wrong, without and with gains; graded, little and much noise."""
    for margin in MARGINS:
        for n in SIZES:
            generator = np.random.default_rng([seed, n, int(1000 * margin)])
            drawn = (
                ("binary", partial(right_or_wrong, n, margin, 0.0)),
                ("binary", partial(right_or_wrong, n, margin, 0.05)),
                ("graded", partial(graded, n, margin, 0.01)),
                ("graded", partial(graded, n, margin, 0.1)),
            )
            rates = tuple(
                _bounded(sum(passes(draw(generator), kind, margin) for _ in range(repetitions)), repetitions)
                for kind, draw in drawn
            )
            yield Row(f"guard, n={n}, loss = margin {margin:g}: passes", rates, repetitions)
        for n, groups in CLUSTERED:
            yield _in_clusters(n, groups, margin, repetitions, seed)


def _in_clusters(n: int, groups: int, margin: float, repetitions: int, seed: int) -> Row:
    """Losses independent, then alike within clusters; right or wrong, then graded with little noise."""
    generator, passed = np.random.default_rng([seed, n, groups, int(1000 * margin)]), np.zeros(4, int)
    for _ in range(repetitions):
        clusters = labels(n, groups, generator)
        index = np.asarray(clusters, dtype=np.intp)
        for place, lost in enumerate((1.0, LOST)):
            mean = margin / lost
            alike = generator.beta(mean * (1 / ALIKE - 1), (1 - mean) * (1 / ALIKE - 1), groups)[index]
            for column, rates in ((2 * place, np.full(n, mean)), (2 * place + 1, alike)):
                kind: Kind = "graded" if place else "binary"
                scores = (
                    graded(n, margin, 0.01, generator, rates=rates)
                    if place
                    else ((generator.random(n) >= rates).astype(np.float64), np.ones(n))
                )
                passed[column] += passes(scores, kind, margin, clusters=clusters)
    name = f"guard, n={n} in {groups} clusters, loss = margin {margin:g}: passes"
    return Row(name, tuple(_bounded(count, repetitions) for count in passed.tolist()), repetitions)


def _bounded(count: int, repetitions: int) -> Rate:
    return Rate(count / repetitions, most=MAX_ERROR)


def equal_arms(repetitions: int, seed: int) -> Iterator[Row]:
    """A guard must also be able to pass."""
    generator = np.random.default_rng([seed, 11])
    for n, margin, noise, least in ((60, 0.05, 0.01, 0.6), (200, 0.05, 0.1, 0.95), (300, 0.02, 0.1, 0.65)):
        count = sum(passes(graded(n, 0.0, noise, generator), "graded", margin) for _ in range(repetitions))
        name = f"equal arms, graded, n={n}, noise {noise:g}, margin {margin:g}: passes"
        yield Row(name, (Rate(count / repetitions, least=least),), repetitions)
    for n, margin in ((200, 0.05), (650, 0.02), (650, 0.05)):
        count = sum(passes(right_or_wrong(n, 0.0, 0.05, generator), "binary", margin) for _ in range(repetitions))
        name = f"equal arms, right or wrong, n={n}, 10% differ, margin {margin:g}: passes"
        yield Row(name, (Rate(count / repetitions),), repetitions)


def worst_sizes(repetitions: int, seed: int) -> Iterator[Row]:
    """Where graded bounds are weakest: items that lose all, at the sizes at which a sample without one just passes."""
    generator = np.random.default_rng([seed, 12])
    for n, margin in ((62, 0.05), (155, 0.02), (160, 0.02)):
        rates = tuple(
            Rate(
                sum(passes(graded(n, margin, noise, generator, 1.0), "graded", margin) for _ in range(repetitions))
                / repetitions
            )
            for noise in (0.0, 0.003, 0.01, 0.03)
        )
        yield Row(f"graded, all is lost, n={n}, loss = margin {margin:g}: passes", rates, repetitions)


def harmed_clusters(repetitions: int, seed: int) -> Iterator[Row]:
    """Not bounded: whole clusters lose everything; and scores without bounds of which few items lose much."""
    for groups in (20, 72, 150):
        generator, passed = np.random.default_rng([seed, groups, 13]), [0, 0]
        for _ in range(repetitions):
            clusters = [str(item // 5) for item in range(5 * groups)]
            kept = np.repeat(generator.random(groups) >= 0.05, 5).astype(np.float64)
            for place, kind in enumerate(("binary", "graded")):
                passed[place] += passes((kept, np.ones(kept.size)), kind, 0.05, clusters=clusters)
        name = f"one in 20 of {groups} clusters loses all, margin 0.05: passes"
        yield Row(name, tuple(Rate(count / repetitions) for count in passed), repetitions)
    generator = np.random.default_rng([seed, 14])
    for n in (60, 200, 650):
        rates = []
        for noise in (0.01, 0.05):
            count = 0
            for _ in range(repetitions):
                rare = generator.random(n) < 0.05 / LOST
                d = np.where(rare, -LOST, 0.0) + noise * generator.standard_normal(n)
                count += passes((1 + d, np.ones(n)), "graded", 0.05, bounded=False)
            rates.append(Rate(count / repetitions))
        yield Row(f"scores without bounds, few lose 0.9, n={n}, margin 0.05: passes", tuple(rates), repetitions)
