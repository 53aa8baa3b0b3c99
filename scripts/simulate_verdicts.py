"""Measure that verdicts keep their word: false claims, coverage of intervals, power.

    python scripts/simulate_verdicts.py                      # about 10 minutes on one core
    python scripts/simulate_verdicts.py --repetitions 200    # a look

Each repetition makes up two arms' scores on the same items, with a known truth, and asks tunelift.tasks.statistics as a
report does. Exit code 1 if a bound is broken. With fewer than 2,000 repetitions the bounds are widened by three
standard errors of the simulation itself. The seed is fixed: a test that is wrong in exactly 5% of cases is seen above
6% in 2,000 repetitions by one seed in fifty.

Guards are measured with the true loss at their margin, where "non-inferior" is a false claim, and with equal arms.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator

import numpy as np

from simulation.guards import equal_arms, guards, harmed_clusters, worst_sizes
from simulation.power import detected
from simulation.scores import METRICS, Metric, arms, labels, true_mean
from simulation.table import REPETITIONS, Rate, Row
from tunelift.tasks.statistics import ALPHA, Kind, compare, holm, mean_interval, non_inferiority, verdict

RESAMPLES = 499
"""Bootstrap samples and sign flips, against 10,000 in a report: more only makes both steadier."""
MAX_TYPE_ONE, MIN_COVERAGE, MIN_POWER = 0.06, 0.93, 0.32
SHIFT = 0.3
"""How much better the first arm is, in standard deviations of what lies behind a score, where it is better."""
RIGHT, HARMED, LOST, LOST_ELSEWHERE = 0.9, 0.1, 0.6, 0.005
"""Of `concentrated_harm`: items that the base has right, clusters harmed, and what is lost in these and in others."""
TEMPLATES, SPLIT_ITEMS = (4, 8, 12, 20, 50), 200
"""Of `split_task`."""
CLUSTERS: dict[int, tuple[int | None, ...]] = {50: (None, 10, 32), 200: (None, 8, 50), 1000: (None, 20, 150)}
"""By number of items."""
COLUMNS = ("false claims", "covers: equal", "one better", "one arm alone")
HEADER = (
    f"False claims at most {MAX_TYPE_ONE:.0%}, coverage of 95% intervals at least {MIN_COVERAGE:.0%}, power at least "
    f"{MIN_POWER:.0%}.\n\n{'':58}" + "".join(f"{column:>15}" for column in COLUMNS)
)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure type I error, coverage and power of the verdicts.")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of each row; %(default)s by default")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.repetitions < 1:
        parser.error("--repetitions must be 1 or more")
    started, held = time.monotonic(), True
    print(HEADER)
    for row in rows(arguments.repetitions, arguments.seed):
        print(row, flush=True)
        held = held and row.holds
    taken = f"{arguments.repetitions:,} repetitions, seed {arguments.seed}, {time.monotonic() - started:.0f} s"
    print(f"\n{'Every bound holds' if held else 'A bound is broken'} ({taken}).")
    return 0 if held else 1


def rows(repetitions: int, seed: int) -> Iterator[Row]:
    """Everything that is measured, in order."""
    for n, numbers in CLUSTERS.items():
        for groups in numbers:
            for metric in METRICS:
                yield scenario(metric, n, groups, repetitions, seed)
    yield several_metrics(repetitions, seed)
    for templates in TEMPLATES:
        yield split_task(templates, repetitions, seed)
    yield from guards(repetitions, seed)
    yield from equal_arms(repetitions, seed)
    yield from worst_sizes(repetitions, seed)
    yield from harmed_clusters(repetitions, seed)
    for kind in ("binary", "graded"):
        for groups in (10, 20):
            yield from concentrated_harm(kind, groups, repetitions, seed)
    yield from power(repetitions, seed)
    yield from detected(repetitions, seed)
    yield clusters_ignored(repetitions, seed)


def scenario(metric: Metric, n: int, groups: int | None, repetitions: int, seed: int) -> Row:
    """Two arms that are equally good, then two that are not."""
    generator = np.random.default_rng([seed, n, groups or 0, METRICS.index(metric)])
    name = f"{metric.name}, n={n:,}, {f'{groups} clusters' if groups else 'no clusters'}"
    claims = covered = covered_shifted = covered_mean = 0
    for repetition in range(repetitions):
        clusters = None if groups is None else labels(n, groups, generator)
        options = {"clusters": clusters, "samples": RESAMPLES, "seed": repetition, "bounded": metric.bounded}
        first, second = arms(metric, n, clusters, 0.0, generator)
        pair = compare(first, second, metric.kind, **options)
        claims += verdict(pair, effect=0.05, mde=None) in ("improved", "regressed")
        covered += pair.low <= 0 <= pair.high
        first, second = arms(metric, n, clusters, SHIFT, generator)
        pair = compare(first, second, metric.kind, **options)
        covered_shifted += pair.low <= true_mean(metric, SHIFT) - true_mean(metric, 0.0) <= pair.high
        low, high = mean_interval(first, metric.kind, **options)
        covered_mean += low <= true_mean(metric, SHIFT) <= high
    covers = [Rate(count / repetitions, least=MIN_COVERAGE) for count in (covered, covered_shifted, covered_mean)]
    return Row(name, (Rate(claims / repetitions, most=MAX_TYPE_ONE), *covers), repetitions)


def several_metrics(repetitions: int, seed: int) -> Row:
    """Any false claim among five confirmatory metrics, by Holm."""
    generator, metric, wrong = np.random.default_rng([seed, 5]), METRICS[0], 0
    for repetition in range(repetitions):
        pairs = [
            compare(*arms(metric, 200, None, 0.0, generator), metric.kind, samples=RESAMPLES, seed=repetition)
            for _ in range(5)
        ]
        adjusted = holm([pair.p for pair in pairs])
        wrong += any(
            verdict(pair, p_adjusted=p, effect=0.05, mde=None) != "underpowered"
            for pair, p in zip(pairs, adjusted, strict=True)
        )
    what = "5 binary metrics, n=200: any false claim after Holm"
    return Row(what, (Rate(wrong / repetitions, most=MAX_TYPE_ONE),), repetitions)


def split_task(templates: int, repetitions: int, seed: int) -> Row:
    """Equal arms on a test split of few templates with many values each: the templates are the clusters."""
    generator, metric = np.random.default_rng([seed, templates, 7]), METRICS[0]
    wrong = alone = 0
    for repetition in range(repetitions):
        clusters = [str(item % templates) for item in range(SPLIT_ITEMS)]
        scores = arms(metric, SPLIT_ITEMS, clusters, 0.0, generator)
        pair = compare(*scores, metric.kind, clusters=clusters, samples=RESAMPLES, seed=repetition)
        wrong += verdict(pair, effect=0.05, mde=None) in ("improved", "regressed")
        alone += compare(*scores, metric.kind, samples=RESAMPLES, seed=repetition).p <= ALPHA
    rates = Rate(wrong / repetitions, most=MAX_TYPE_ONE), Rate(alone / repetitions)
    return Row(f"split of {templates} templates: false claims; were they no clusters", rates, repetitions)


def concentrated_harm(kind: Kind, groups: int, repetitions: int, seed: int) -> Iterator[Row]:
    """A guard's hard case: harm that strikes a cluster in ten, of which few or none may have been drawn.

    The base is right on 90% of 200 items; of these the tuned arm loses 60% in a harmed cluster and 0.5% elsewhere.
    With the margin at the true loss, "non-inferior" is a false claim. Graded: the same scores under the other method.
    """
    n, generator, covered, passed = 200, np.random.default_rng([seed, groups, 10]), 0, 0
    truth = -RIGHT * (HARMED * LOST + (1 - HARMED) * LOST_ELSEWHERE)
    for repetition in range(repetitions):
        clusters = labels(n, groups, generator)
        harmed = (generator.random(groups) < HARMED)[np.asarray(clusters, dtype=np.intp)]
        base = generator.random(n) < RIGHT
        kept = base & (generator.random(n) >= np.where(harmed, LOST, LOST_ELSEWHERE))
        scores = kept.astype(np.float64), base.astype(np.float64)
        pair = compare(*scores, kind, clusters=clusters, samples=RESAMPLES, seed=repetition)
        covered += pair.low <= truth <= pair.high
        passed += non_inferiority(pair, -truth) == "non-inferior"
    what = f"{kind}, harm in a tenth of {groups} clusters: "
    yield Row(what + "covered", (Rate(covered / repetitions),), repetitions)
    yield Row(what + "guard passes", (Rate(passed / repetitions),), repetitions)


def power(repetitions: int, seed: int) -> Iterator[Row]:
    """A true +5 points with a fifth of 200 items discordant; the unpaired z-test beside it, on the same draws."""
    n, generator = 200, np.random.default_rng([seed, 200])
    cells = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=np.float64)
    paired = unpaired = 0
    for _ in range(repetitions):
        drawn = cells[generator.choice(4, n, p=[0.525, 0.125, 0.075, 0.275])]
        pair = compare(drawn[:, 0], drawn[:, 1], "binary", samples=RESAMPLES, seed=0)
        paired += verdict(pair, effect=0.05, mde=None) == "improved"
        pooled = drawn.mean()
        unpaired += pair.difference / math.sqrt(2 * pooled * (1 - pooled) / n) > 1.959964
    what = "+5 points, 20% discordant, n=200: "
    yield Row(what + "shown", (Rate(paired / repetitions, least=MIN_POWER),), repetitions)
    yield Row(what + "by an unpaired z-test", (Rate(unpaired / repetitions),), repetitions)


def clusters_ignored(repetitions: int, seed: int) -> Row:
    """What clusters are for: the same data taken for independent items."""
    generator, metric, claims = np.random.default_rng([seed, 20]), METRICS[0], 0
    for _ in range(repetitions):
        first, second = arms(metric, 1000, labels(1000, 20, generator), 0.0, generator)
        claims += compare(first, second, metric.kind, samples=RESAMPLES, seed=0).p <= ALPHA
    return Row("binary, n=1,000, 20 clusters ignored: false claims", (Rate(claims / repetitions),), repetitions)


if __name__ == "__main__":
    sys.exit(main())
