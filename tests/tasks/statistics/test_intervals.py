from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from tunelift.tasks.statistics import bootstrap_mean, mean_interval, wilson

scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)
unbounded = st.lists(st.floats(-50, 50), min_size=1, max_size=30)
SETTINGS = {"samples": 300, "seed": 0}


@given(n=st.integers(1, 3000), share=st.floats(0, 1))
def test_wilson_agrees_with_statsmodels(n, share):
    successes = round(share * n)
    assert wilson(successes, n) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)


def test_wilson_holds_the_estimate_at_the_ends():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 150)[0] == 0.0 and wilson(150, 150)[1] == 1.0
    with pytest.raises(ValueError, match="4 successes of 3"):
        wilson(4, 3)


@settings(max_examples=50)
@given(values=scores, seed=st.integers(0, 9))
def test_bootstrap_interval_holds_the_mean_and_stays_in_bounds(values, seed):
    low, high = bootstrap_mean(values, 200, seed)
    assert 0 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 1
    assert (low, high) == bootstrap_mean(values, 200, seed), "the seed decides"


@settings(max_examples=50)
@given(values=unbounded, scale=st.sampled_from([0.01, 3.0, 1000.0]))
def test_intervals_of_unbounded_scores_change_with_their_unit(values, scale):
    low, high = mean_interval(values, "graded", bounded=False, **SETTINGS)
    assert low <= np.mean(values) + 1e-9 and np.mean(values) - 1e-9 <= high
    scaled = mean_interval([scale * value for value in values], "graded", bounded=False, **SETTINGS)
    assert scaled == pytest.approx((scale * low, scale * high), rel=1e-6, abs=1e-6)


def test_equal_scores_get_a_width_from_the_items_that_were_not_asked():
    assert bootstrap_mean([], 100, 0) == (0.0, 1.0)
    assert bootstrap_mean([1.0] * 20, 100, 0) == pytest.approx(wilson(20, 20))
    assert bootstrap_mean([0.0] * 20, 100, 0) == pytest.approx(wilson(0, 20))
    unlike = wilson(0, 20)[1]
    assert bootstrap_mean([0.4] * 20, 100, 0) == pytest.approx((0.4 * (1 - unlike), 0.4 + 0.6 * unlike))
    low, high = bootstrap_mean([0.4], 100, 0)
    assert low < 0.1 and high > 0.8, f"one item says little: {low} to {high}"
    low, high = mean_interval([1.3], "graded", bounded=False, **SETTINGS)
    assert low < 0.3 and high > 2.3, f"nor does one text's bits per byte: {low} to {high}"


def test_a_few_unlike_scores_do_not_make_an_interval_narrower_than_none():
    none, some = bootstrap_mean([1.0] * 100, 1000, 0), bootstrap_mean([1.0] * 98 + [0.9] * 2, 1000, 0)
    assert some[0] <= none[0] + 0.003, f"{some} against {none}"


def test_the_bootstrap_agrees_with_scipy_on_many_values():
    values = np.random.default_rng(3).beta(2, 1, 400)
    expected = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=4).confidence_interval
    assert bootstrap_mean(list(values), 10_000, 5) == pytest.approx(tuple(expected), abs=2e-3)


def test_no_interval_is_narrower_than_students_t():
    values = np.random.default_rng(4).gamma(2, 0.3, 12)
    t = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    low, high = mean_interval(list(values), "graded", bounded=False, **SETTINGS)
    assert low <= t[0] + 1e-12 and t[1] - 1e-12 <= high


def test_scores_that_are_no_scores_are_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\], these span 0.5 to 1.5"):
        bootstrap_mean([0.5, 1.5], 100, 0)
    for wrong in ([0.5, float("nan")], [0.5, float("inf")]):
        with pytest.raises(ValueError, match="must be finite"):
            mean_interval(wrong, "graded", bounded=False, **SETTINGS)
    with pytest.raises(ValueError, match=r"0 or 1, got \[0.5\]"):
        mean_interval([1, 0.5], "binary", **SETTINGS)


def test_clusters_widen_an_interval_by_how_much_their_items_agree():
    agreeing, clusters = [1.0] * 100 + [0.0] * 100, [f"c{i // 10}" for i in range(200)]
    alone = mean_interval(agreeing, "binary", **SETTINGS)
    assert alone == wilson(100, 200)
    low, high = mean_interval(agreeing, "binary", clusters=clusters, **SETTINGS)
    assert (low, high) == pytest.approx(wilson(9.5, 19, stats.t.ppf(0.975, 19))), "20 clusters count as 19 items"
    assert mean_interval(agreeing, "graded", clusters=clusters, **SETTINGS) == (low, high)
    t = stats.t.interval(0.95, 19, loc=0.5, scale=stats.sem([1.0] * 10 + [0.0] * 10))
    assert mean_interval(agreeing, "graded", clusters=clusters, bounded=False, **SETTINGS) == pytest.approx(t)


@given(
    values=st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from(["a", "b", "c", None])), max_size=25),
    kind=st.sampled_from(["binary", "graded"]),
)
def test_clustered_intervals_hold_the_mean_and_stay_in_bounds(values, kind):
    found = [float(value == 1) if kind == "binary" else value for value, _ in values]
    low, high = mean_interval(found, kind, clusters=[cluster for _, cluster in values], **SETTINGS)
    assert 0 <= low <= np.mean(found or [0]) + 1e-9 and np.mean(found or [1]) - 1e-9 <= high <= 1
