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
    needed_items,
    newcombe_paired,
)

spreads = st.builds(
    Spread,
    st.sampled_from(["binary", "graded"]),
    st.floats(0.01, 1),
    st.floats(1, 5),
    st.none() | st.floats(1.5, 20),
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
    assert more is not None and (fewer is None or more < fewer)


@pytest.mark.parametrize(("n", "discordance"), [(200, 0.2), (1000, 0.1)])
def test_the_verdict_finds_the_minimum_detectable_effect_four_times_in_five(n, discordance):
    effect = minimum_detectable_effect(n, Spread("binary", discordance))
    cells = [0.4, (discordance + effect) / 2, (discordance - effect) / 2, 0.6 - discordance]
    tables = np.random.default_rng(4).multinomial(n, cells, 2000).tolist()
    found = np.mean([mcnemar_midp(b, c) <= 0.05 and newcombe_paired(a, b, c, d)[1] > 0 for a, b, c, d in tables])
    assert 0.77 <= found <= 0.83, found


def test_graded_scores_agree_with_statsmodels():
    effect = minimum_detectable_effect(60, Spread("graded", 0.3))
    assert TTestPower().power(effect / 0.3, 60, 0.05) == pytest.approx(0.8, abs=0.005)
    assert needed_items(0.1, Spread("graded", 0.3)) == pytest.approx(
        TTestPower().solve_power(0.1 / 0.3, alpha=0.05, power=0.8), abs=1
    )


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
    assert alone == Spread("binary", 0.2, 1.0, None)
    assert clustered == Spread("binary", 0.2, pytest.approx(1.9), 10.0)
    assert needed_items(0.05, alone) == 626
    assert needed_items(0.05, clustered) > 1.9 * 626
    assert Spread.assumed("graded", sd=0.1, clusters=[None, "a"]) == Spread("graded", 0.1)


def test_what_was_observed_says_what_could_have_been_found():
    generator = np.random.default_rng(9)
    first, second = (generator.random(200) < 0.7).astype(float), (generator.random(200) < 0.7).astype(float)
    found = compare(first, second, "binary", samples=100, seed=0)
    assert found.spread == Spread("binary", found.discordant / 200)
    d = generator.normal(0, 0.2, 200)
    graded = compare(
        d, np.zeros(200), "graded", clusters=[str(i // 4) for i in range(200)], samples=100, seed=0, bounded=False
    )
    assert graded.spread.value == pytest.approx(d.std(ddof=1)) and graded.spread.cluster_size == 4
    assert minimum_detectable_effect(200, graded.spread) == pytest.approx(2.858 * graded.se, rel=1e-3)
    alike = compare([0.5] * 60, [0.5] * 60, "graded", samples=100, seed=0)
    assert minimum_detectable_effect(60, alike.spread) > 0.05, "equal answers do not make a test a perfect one"


def test_impossible_effects_are_refused():
    for effect in (0.0, 1.5):
        with pytest.raises(ValueError, match="an effect must be above 0"):
            needed_items(effect, Spread("binary", 0.2))
