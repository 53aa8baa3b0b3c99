from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunelift.tasks.statistics import mean_interval, wilson

scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)
unbounded = st.lists(st.floats(-50, 50), min_size=1, max_size=30)
SETTINGS = {"samples": 300, "seed": 0}


def graded(values):
    return mean_interval(values, "graded", **SETTINGS)


@settings(max_examples=50)
@given(values=scores)
def test_an_interval_holds_the_mean_and_stays_in_bounds(values):
    low, high = mean_interval(values, "graded", **SETTINGS)
    assert 0 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 1


@settings(max_examples=50)
@given(values=unbounded, scale=st.sampled_from([0.01, 3.0, 1000.0]))
def test_intervals_of_unbounded_scores_change_with_their_unit(values, scale):
    low, high = mean_interval(values, "graded", bounded=False, **SETTINGS)
    assert low <= np.mean(values) + 1e-9 and np.mean(values) - 1e-9 <= high
    scaled = mean_interval([scale * value for value in values], "graded", bounded=False, **SETTINGS)
    assert scaled == pytest.approx((scale * low, scale * high), rel=1e-6, abs=1e-6)


def test_equal_scores_get_a_width_from_the_items_that_were_not_asked():
    assert graded([]) == (0.0, 1.0)
    assert graded([1.0] * 20) == pytest.approx(wilson(20, 20))
    assert graded([0.0] * 20) == pytest.approx(wilson(0, 20))
    unlike = wilson(0, 20)[1]
    assert graded([0.4] * 20) == pytest.approx((0.4 * (1 - unlike), 0.4 + 0.6 * unlike))
    low, high = graded([0.4])
    assert low < 0.1 and high > 0.8, f"one item says little: {low} to {high}"
    low, high = mean_interval([1.3], "graded", bounded=False, **SETTINGS)
    assert low < 0.3 and high > 2.3, f"nor does one text's bits per byte: {low} to {high}"


def test_a_few_unlike_scores_do_not_make_an_interval_narrower_than_none():
    none, some = graded([1.0] * 100), graded([1.0] * 98 + [0.9] * 2)
    assert some[0] <= none[0] + 0.003, f"{some} against {none}"


def test_the_bootstrap_agrees_with_scipy_on_many_values():
    values = np.random.default_rng(3).beta(2, 1, 400)
    expected = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=4).confidence_interval
    found = mean_interval(list(values), "graded", bounded=False, samples=10_000, seed=5)
    assert found == pytest.approx(tuple(expected), abs=2e-3)


def test_bounded_scores_get_students_t_with_one_item_more_that_was_not_seen():
    """Scored 0 for the lower bound and 1 for the upper one; where an item as extreme was seen it counts for 1.3."""
    values = np.random.default_rng(8).uniform(0.2, 0.9, 50)
    for place, extreme, outermost in ((0, 0.0, values.min()), (1, 1.0, values.max())):
        seen = (values.mean() - outermost) / (values.mean() - extreme)
        weight, with_unseen = 1 + 0.3 * seen, np.append(values, extreme)
        mean = np.average(with_unseen, weights=[*[1] * 50, weight])
        squares = np.average((with_unseen - mean) ** 2, weights=[*[1] * 50, weight]) * (50 + weight)
        half = stats.t.ppf(0.975, 50) * np.sqrt(squares / (49 + weight) / (50 + weight))
        assert graded(values)[place] == pytest.approx(mean + (half if place else -half))


def test_no_interval_is_narrower_than_students_t():
    values = np.random.default_rng(4).gamma(2, 0.3, 12)
    t = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    low, high = mean_interval(list(values), "graded", bounded=False, **SETTINGS)
    assert low <= t[0] + 1e-12 and t[1] - 1e-12 <= high


def test_scores_that_are_no_scores_are_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\], these span 0.5 to 1.5"):
        graded([0.5, 1.5])
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
    graded_low, graded_high = mean_interval(agreeing, "graded", clusters=clusters, **SETTINGS)
    assert graded_low < low and graded_high > high, "one more cluster's worth of what was not seen"
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
