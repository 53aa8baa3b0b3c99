from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunelift.tasks.statistics import compare, mcnemar_midp, non_inferiority, tango, verdict, whichever, wilson

pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)
outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)
SETTINGS = {"samples": 200, "seed": 1}


@given(outcomes)
def test_binary_comparison_counts_the_four_cells(outcomes):
    first, second = [float(x) for x, _ in outcomes], [float(y) for _, y in outcomes]
    found = compare(first, second, "binary", **SETTINGS)
    b, c = sum(x and not y for x, y in outcomes), sum(y and not x for x, y in outcomes)
    assert (found.n, found.discordant, found.p) == (len(outcomes), b + c, mcnemar_midp(b, c))
    assert found.difference == pytest.approx((b - c) / max(len(outcomes), 1))
    mirrored = compare(second, first, "binary", **SETTINGS)
    assert (mirrored.difference, mirrored.low, mirrored.high) == pytest.approx(
        (-found.difference, -found.high, -found.low)
    )


@settings(max_examples=60)
@given(pairs=pairs, clusters=st.booleans(), bounded=st.booleans())
def test_graded_comparison_is_bounded_and_antisymmetric(pairs, clusters, bounded):
    first, second = zip(*pairs, strict=True)
    options = SETTINGS | {
        "bounded": bounded,
        "clusters": [str(i // 3) for i in range(len(pairs))] if clusters else None,
    }
    one, other = compare(first, second, "graded", **options), compare(second, first, "graded", **options)
    assert one.low <= one.difference + 1e-9 and one.difference - 1e-9 <= one.high
    assert not bounded or (one.low >= -1 and one.high <= 1)
    assert 0 < one.p <= 1
    # The bootstrap's quantiles are those of one stream of draws, not mirrored ones.
    tolerance = 1e-9 if clusters or bounded else 0.1
    assert (other.difference, other.p) == pytest.approx((-one.difference, one.p), abs=1e-9)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=tolerance)


@settings(max_examples=100)
@given(
    pairs=st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), max_size=40),
    kind=st.sampled_from(["binary", "graded"]),
    per_cluster=st.integers(1, 4),
)
def test_an_interval_holds_zero_wherever_p_is_above_five_percent(pairs, kind, per_cluster):
    first, second = (
        ([float(s == 1) if kind == "binary" else s for s in side] for side in zip(*pairs, strict=True))
        if pairs
        else ([], [])
    )
    found = compare(first, second, kind, clusters=[str(i // per_cluster) for i in range(len(pairs))], **SETTINGS)
    assert found.p <= 0.05 or found.low <= 0 <= found.high, found


def test_clusters_of_single_items_change_nothing():
    generator = np.random.default_rng(2)
    first, second = generator.random(40), generator.random(40)
    for clusters in ([None] * 40, [str(i) for i in range(40)]):
        assert compare(first, second, "graded", clusters=clusters, **SETTINGS) == compare(
            first, second, "graded", **SETTINGS
        )


def test_graded_differences_by_cluster_are_a_t_test_of_cluster_means():
    """Unbounded ones; bounded ones get the unseen item as well."""
    generator = np.random.default_rng(3)
    first, second = 0.5 + generator.random(60) / 2, generator.random(60) / 2
    first -= generator.random(12).repeat(5) / 2
    clusters = [str(i // 5) for i in range(60)]
    found, bounded = (
        compare(first, second, "graded", clusters=clusters, samples=500, seed=0, bounded=bounded)
        for bounded in (False, True)
    )
    assert found.spread.design_effect > 2
    means = (first - second).reshape(12, 5).mean(axis=1)
    expected = stats.ttest_1samp(means, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    exact = stats.permutation_test((means,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert found.p == bounded.p == pytest.approx(exact)
    assert (found.clusters, found.method) == (12, "jackknife t by cluster, sign-flip by cluster")
    assert bounded.low < found.low and found.high < bounded.high


def test_binary_differences_by_cluster_count_for_fewer_items():
    """16 clusters of 5 items; within a cluster all say the same."""
    first = [1.0] * 45 + [0.0] * 35
    second = [1.0] * 20 + [0.0] * 20 + [1.0] * 5 + [0.0] * 35
    clusters = [str(i // 5) for i in range(80)]
    alone, found = (compare(first, second, "binary", clusters=given, **SETTINGS) for given in (None, clusters))
    assert alone.p < 1e-5 and found.p == pytest.approx(mcnemar_midp(4, 0)) == 0.0625
    assert found.low < 0 < alone.low and found.high > alone.high
    # A t test's variance of 16 means, against that of 80 items.
    assert found.spread.design_effect == pytest.approx(79 / 15)
    quantile = stats.t.ppf(0.975, 15)
    assert found.high == pytest.approx(tango(20 * 15 / 79, 0, 80 * 15 / 79, quantile)[1])


@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_no_guard_passes_because_of_a_loss(kind):
    """200 items in 10 clusters, right in 90%; item after item is lost, each in the next cluster."""
    base = [float(item % 10 != 9) for item in range(200)]
    clusters = [str(item // 20) for item in range(200)]
    lows, scores = [], list(base)
    for lost in range(15):
        lows.append(compare(scores, base, kind, clusters=clusters, **SETTINGS).low)
        scores[20 * (lost % 10) + lost // 10] = 0.0
    # Graded: within a third of a point where the unlike items become enough to measure from.
    assert all(after <= before + 0.0035 for before, after in itertools.pairwise(lows)), lows
    assert lows[0] < -0.05, "of what was not seen to differ, the assumed design effect holds"


def test_few_items_that_differ_measure_no_design_effect():
    base, clusters = [1.0] * 200, [str(item // 20) for item in range(200)]

    def effect(lost):
        scores = [float(item not in lost) for item in range(200)]
        return compare(scores, base, "binary", clusters=clusters, **SETTINGS).spread.design_effect

    assert [effect([20 * item for item in range(lost)]) for lost in range(6)] == pytest.approx([2.9] * 6)
    assert effect([20 * item for item in range(8)]) == pytest.approx(1 + 1.9 * 5 / 8), "it fades as more are seen"
    assert effect(range(20)) > 15, "what is measured holds where it is larger"


def test_arms_that_never_differ_are_not_certain_to_be_equal():
    same = [0.5] * 60
    assert [(one.low, one.high) for one in (compare([], [], kind, **SETTINGS) for kind in ("binary", "graded"))] == [
        (-1.0, 1.0)
    ] * 2
    found = compare(same, same, "graded", **SETTINGS)
    unlike = wilson(0, 60)[1]
    assert (found.low, found.high, found.p) == (pytest.approx(-unlike), pytest.approx(unlike), 1.0)
    right = compare([1.0] * 60, [1.0] * 60, "binary", **SETTINGS)
    assert (right.low, right.high) == pytest.approx((-unlike, unlike)), "right or wrong: alike"
    per_byte = compare([1.2] * 60, [1.2] * 60, "graded", bounded=False, **SETTINGS)
    assert (per_byte.low, per_byte.high) == pytest.approx((-1.2 * unlike, 1.2 * unlike))
    by_cluster = compare(same, same, "graded", clusters=[str(i // 6) for i in range(60)], **SETTINGS)
    assert by_cluster.high == pytest.approx(wilson(0, 60 / 1.5)[1]), "six to a cluster, assumed to correlate by 0.1"


@pytest.mark.parametrize("noise", [1e-12, 1e-9, 1e-4, 0.003])
@pytest.mark.parametrize("clusters", [None, [str(i // 6) for i in range(60)]], ids=["alone", "clusters"])
def test_noise_says_no_more_of_rare_losses_than_equal_scores_do(noise, clusters):
    jitter = noise * np.random.default_rng(1).standard_normal(60)
    found = compare(0.5 + jitter, [0.5] * 60, "graded", clusters=clusters, **SETTINGS)
    equal = compare([0.5] * 60, [0.5] * 60, "graded", clusters=clusters, **SETTINGS)
    assert equal.low - 0.002 - 3 * noise <= found.low <= equal.low + 3 * noise and found.low < -0.05
    assert non_inferiority(found, 0.01) == "inconclusive"


def test_rounding_says_nothing_of_scores_without_bounds():
    jitter = 1e-12 * np.random.default_rng(1).standard_normal(60)
    found = compare(1.2 + jitter, [1.2] * 60, "graded", bounded=False, **SETTINGS)
    assert found.low == pytest.approx(-1.2 * wilson(0, 60)[1], abs=1e-6)


def test_many_small_gains_do_not_hide_a_few_items_that_may_lose_everything():
    """97% of all items gain 0.028 and 3% lose 0.9: no difference on the whole. 60 of them may well hold no loss."""
    generator, shown = np.random.default_rng(5), 0
    for _ in range(400):
        d = np.where(generator.random(60) < 0.03, -0.9, 0.028) + 0.005 * generator.standard_normal(60)
        found = compare(0.5 + d / 2, 0.5 - d / 2, "graded", **SETTINGS)
        shown += verdict(found, effect=0.05, mde=None) == "improved"
    assert shown <= 0.025 * 400, shown


def test_no_item_that_differs_is_not_the_same_as_no_loss():
    """100 items on which two models agree, half of them right: a loss of 2 points is not ruled out."""
    half = [1.0, 0.0] * 50
    found = compare(half, half, "binary", **SETTINGS)
    assert (found.low, found.high) == pytest.approx((-0.03699, 0.03699), abs=1e-5)
    assert non_inferiority(found, 0.02) == "inconclusive" and non_inferiority(found, 0.05) == "non-inferior"


def test_five_differences_of_one_sign_do_not_exclude_zero():
    found = compare([0.0] * 5 + [0.5] * 15, [0.5] * 20, "graded", samples=1000, seed=0)
    assert (found.high >= 0, found.p) == (True, 2 / 2**5)
    found = compare([1.0] * 100, [0.5] * 100, "graded", samples=1000, seed=0)
    assert 0.4 < found.low < 0.5 < found.high < 0.6 and found.p == 1 / 1001


def test_bits_per_byte_may_lie_above_one():
    generator = np.random.default_rng(6)
    first = generator.gamma(4, 0.3, 200)
    second = first + generator.normal(0.1, 0.1, 200)
    found = compare(first, second, "graded", bounded=False, samples=1000, seed=0)
    assert -0.12 < found.low < -0.1 < found.high < -0.08 and found.p < 0.002


@pytest.mark.parametrize("right", [0, 10, 30])
def test_of_two_possible_differences_only_what_both_show_is_known(right):
    first = [1.0] * 20 + [0.0] * 20
    lost = compare(first, [0.0] * 40, "binary", samples=200, seed=1)
    won = compare(first, [0.0] * (40 - right) + [1.0] * right, "binary", samples=200, seed=1)
    found = whichever(lost, won)
    assert (found.low, found.high) == (min(lost.low, won.low), max(lost.high, won.high))
    assert (found.difference, found.n) == (lost.difference, 40)
    assert found.p == (1.0 if right == 30 else max(lost.p, won.p)), "between opposite differences lies none"


def test_scores_that_are_no_scores_are_refused():
    with pytest.raises(ValueError, match="differ in number: 2 and 1"):
        compare([1, 0], [1], "binary", **SETTINGS)
    with pytest.raises(ValueError, match=r"0 or 1, got \[0.5\]"):
        compare([1, 0.5], [1, 0], "binary", **SETTINGS)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        compare([1.5, 0], [1, 0], "graded", **SETTINGS)
