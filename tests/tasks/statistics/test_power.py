from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from tunelift.tasks.statistics import (
    Spread,
    compare,
    mcnemar_midp,
    minimum_detectable_effect,
    needed_for_margin,
    needed_items,
    non_inferiority,
    tango,
)

spreads = st.builds(
    Spread,
    st.sampled_from(["binary", "graded"]),
    st.floats(0.01, 1),
    st.floats(1, 5),
    st.floats(1, 5),
    st.just(1.0) | st.floats(0.05, 0.7),
)


@given(spread=spreads, effect=st.floats(0.02, 0.9))
def test_needed_items_are_the_fewest_that_detect_the_effect(spread, effect):
    n = needed_items(effect, spread)
    detectable, with_fewer = (minimum_detectable_effect(items, spread) for items in (n, n - 1))
    assert detectable is not None and detectable <= effect * (1 + 1e-9)
    assert with_fewer is None or with_fewer >= effect * (1 - 1e-9)


@given(spread=spreads, n=st.integers(30, 3000))
def test_more_items_detect_less(spread, n):
    fewer, more = (minimum_detectable_effect(items, spread) for items in (n, 2 * n))
    assert fewer is None or (more is not None and more < fewer)


@pytest.mark.parametrize(("n", "discordance"), [(200, 0.2), (1000, 0.1)])
def test_the_verdict_finds_the_minimum_detectable_effect_four_times_in_five(n, discordance):
    effect = minimum_detectable_effect(n, Spread("binary", discordance))
    cells = [0.4, (discordance + effect) / 2, (discordance - effect) / 2, 0.6 - discordance]
    tables = np.random.default_rng(4).multinomial(n, cells, 2000).tolist()
    found = np.mean([mcnemar_midp(b, c) <= 0.05 and tango(b, c, n)[0] > 0 for _, b, c, _ in tables])
    assert 0.77 <= found <= 0.83, found


def test_scores_without_bounds_agree_with_statsmodels():
    spread = Spread("graded", 0.3, df_per_item=1.0, bounded=False)
    effect = minimum_detectable_effect(60, spread)
    assert TTestPower().power(effect / 0.3, 60, 0.05) == pytest.approx(0.8, abs=0.005)
    assert needed_items(0.1, spread) == pytest.approx(TTestPower().solve_power(0.1 / 0.3, alpha=0.05, power=0.8), abs=1)
    assert minimum_detectable_effect(60, Spread("graded", 0.3, df_per_item=1.0)) > effect, "bounded: the unseen item"


def test_rare_disagreement_does_not_make_a_small_test_a_strong_one():
    """All of an effect is disagreement: 50 items that all agree could not have shown one of 2 points."""
    assert minimum_detectable_effect(50, Spread("binary", 0.0)) > 0.1
    assert minimum_detectable_effect(3, Spread("binary", 0.5)) is None
    assert (
        minimum_detectable_effect(0, Spread("binary", 0.5))
        is minimum_detectable_effect(1, Spread("graded", 0.5))
        is None
    )


def test_a_plan_counts_clusters():
    alone, clustered = Spread.assumed("binary"), Spread.assumed("binary", clusters=[str(i // 10) for i in range(200)])
    assert alone == Spread("binary", 0.2)
    assert clustered == Spread("binary", 0.2, *[pytest.approx(1.9)] * 2, *[pytest.approx(0.1)] * 2)
    # 626 by Miettinen (Biometrics 24:339-352, 1968), who takes the discordant items for as many in every run.
    assert needed_items(0.05, alone) == 619
    assert needed_items(0.05, clustered) > 1.9 * 619
    assert Spread.assumed("graded", sd=0.1, clusters=[None, "a"]) == Spread("graded", 0.1, df_per_item=1.0)


@pytest.mark.parametrize("sizes", [[110] + [10] * 9, [60, 60] + [10] * 8, [300] + [20] * 15, [20] * 4])
@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_a_cluster_that_outweighs_the_others_leaves_nothing_to_be_promised(sizes, kind):
    clusters = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    assert minimum_detectable_effect(len(clusters), Spread.assumed(kind, clusters=clusters)) is None
    generator = np.random.default_rng(2)
    scores = (generator.random((2, len(clusters))) < 0.6).astype(float)
    found = compare(*scores, kind, clusters=clusters, samples=100, seed=0)
    assert minimum_detectable_effect(found.n, found.spread) is None


def test_unequal_clusters_can_show_less_than_equal_ones():
    def smallest(sizes):
        clusters = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
        return minimum_detectable_effect(200, Spread.assumed("binary", clusters=clusters))

    equal, unequal = smallest([10] * 20), smallest([48] + [8] * 19)
    assert unequal > 1.1 * equal, "20 clusters of 200 items either way"


def test_a_correction_for_several_tests_takes_larger_differences():
    spread = Spread("binary", 0.2)
    assert minimum_detectable_effect(200, spread, tests=4) > 1.15 * minimum_detectable_effect(200, spread)
    assert needed_items(0.05, spread, tests=4) > 1.3 * needed_items(0.05, spread)


@pytest.mark.parametrize(
    "spread", [Spread("binary", 0.1), Spread("graded", 0.1, df_per_item=1.0, outermost=0.3)], ids=lambda one: one.kind
)
def test_equal_arms_pass_a_guard_of_the_needed_size_four_times_in_five(spread):
    n, generator, passed = needed_for_margin(0.04, spread), np.random.default_rng(3), 0
    for _ in range(400):
        if spread.kind == "binary":
            drawn = generator.choice(3, n, p=[0.05, 0.05, 0.9])
            first, second = (drawn == 0).astype(float), (drawn == 1).astype(float)
        else:
            d = 0.1 * generator.standard_normal(n)
            first, second = 0.5 + d / 2, 0.5 - d / 2
        passed += non_inferiority(compare(first, second, spread.kind, samples=9, seed=0), 0.04) == "non-inferior"
    assert 0.74 <= passed / 400 <= 0.86, passed


def test_what_was_observed_says_what_could_have_been_found():
    generator = np.random.default_rng(9)
    first, second = (generator.random(200) < 0.7).astype(float), (generator.random(200) < 0.7).astype(float)
    found = compare(first, second, "binary", samples=100, seed=0)
    assert (found.spread.value, found.spread.df_per_item) == (found.discordant / 200, np.inf)
    d = generator.normal(0, 0.2, 200)
    graded = compare(
        d, np.zeros(200), "graded", clusters=[str(i // 4) for i in range(200)], samples=100, seed=0, bounded=False
    )
    assert graded.spread.value == pytest.approx(d.std(ddof=1)) and graded.spread.df_per_item == pytest.approx(0.25)
    assert minimum_detectable_effect(200, graded.spread) == pytest.approx(2.86 * graded.se, rel=0.01)
    alike = compare([0.5] * 60, [0.5] * 60, "graded", samples=100, seed=0)
    assert minimum_detectable_effect(60, alike.spread) > 0.045, "equal answers do not make a test a perfect one"
    few = compare([0.5] * 3, [0.5] * 3, "graded", samples=100, seed=0)
    assert minimum_detectable_effect(3, few.spread) is None, "three items show no difference that there can be"


def test_impossible_effects_are_refused():
    for effect in (0.0, 1.5):
        with pytest.raises(ValueError, match="an effect must be above 0"):
            needed_items(effect, Spread("binary", 0.2))
    with pytest.raises(ValueError, match="a margin must be above 0"):
        needed_for_margin(0.0, Spread("binary", 0.2))
