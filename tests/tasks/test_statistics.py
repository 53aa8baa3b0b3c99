from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from tunelift.tasks.statistics import (
    bootstrap_mean,
    compare,
    mcnemar_midp,
    newcombe_paired,
    paired_bootstrap,
    wilson,
)

counts = st.integers(0, 80)
scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)
pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)
verdicts = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@given(n=st.integers(1, 3000), share=st.floats(0, 1))
def test_wilson_agrees_with_statsmodels(n, share):
    successes = round(share * n)
    assert wilson(successes, n) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)


def test_wilson_holds_the_estimate_at_the_ends():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 150)[0] == 0.0 and wilson(150, 150)[1] == 1.0
    with pytest.raises(ValueError, match="4 successes of 3"):
        wilson(4, 3)


@given(b=st.integers(0, 400), c=st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_p_less_the_point_probability(b, c):
    p = mcnemar_midp(b, c)
    assert 0 < p <= 1
    assert p == mcnemar_midp(c, b)
    if b != c:
        exact = 2 * stats.binom.cdf(min(b, c), b + c, 0.5)
        assert p == pytest.approx(exact - stats.binom.pmf(min(b, c), b + c, 0.5), rel=1e-9, abs=1e-300)
        assert p <= mcnemar([[0, b], [c, 0]], exact=True).pvalue + 1e-12


def test_mcnemar_of_published_tables():
    """Fagerland, Lydersen & Laake 2013: airway hyper-responsiveness, 1 against 7; no overflow for many items."""
    assert mcnemar_midp(1, 7) == pytest.approx(0.0390625)
    assert mcnemar_midp(0, 0) == mcnemar_midp(9, 9) == 1.0
    assert 0 < mcnemar_midp(5000, 0) < 1e-300


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # The R package contingencytables, Newcombe_square_and_add_CI_paired_2x2, and Fagerland et al. 2014.
        ((59, 6, 16, 80), (-0.0621, -0.1186, -0.0046)),
        ((1, 1, 7, 12), (-0.2857, -0.5069, -0.0256)),
    ],
)
def test_newcombe_agrees_with_published_intervals(table, expected):
    assert newcombe_paired(*table) == pytest.approx(expected, abs=6e-5)


@given(a=counts, b=counts, c=counts, d=counts)
def test_newcombe_is_antisymmetric_and_bounded(a, b, c, d):
    difference, low, high = newcombe_paired(a, b, c, d)
    assert -1 <= low <= difference <= high <= 1
    assert newcombe_paired(a, c, b, d) == pytest.approx((-difference, -high, -low), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(values=scores, seed=st.integers(0, 9))
def test_bootstrap_interval_holds_the_mean_and_stays_in_bounds(values, seed):
    low, high = bootstrap_mean(values, 200, seed)
    assert -1e-9 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 1 + 1e-9
    assert (low, high) == bootstrap_mean(values, 200, seed), "the seed decides"


def test_equal_scores_get_a_width_from_the_items_that_were_not_asked():
    assert bootstrap_mean([], 100, 0) == (0.0, 1.0)
    assert bootstrap_mean([1.0] * 20, 100, 0) == pytest.approx(wilson(20, 20))
    assert bootstrap_mean([0.0] * 20, 100, 0) == pytest.approx(wilson(0, 20))
    unlike = wilson(0, 20)[1]
    assert bootstrap_mean([0.4] * 20, 100, 0) == pytest.approx((0.4 * (1 - unlike), 0.4 + 0.6 * unlike))
    low, high = bootstrap_mean([0.4], 100, 0)
    assert low < 0.1 and high > 0.8, f"one item says little: {low} to {high}"


def test_the_bootstrap_agrees_with_scipy_on_many_values():
    values = np.random.default_rng(3).beta(2, 1, 400)
    expected = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=4).confidence_interval
    assert bootstrap_mean(list(values), 10_000, 5) == pytest.approx(tuple(expected), abs=2e-3)


@settings(deadline=None, max_examples=60)
@given(pairs=pairs)
def test_paired_bootstrap_is_bounded_and_antisymmetric(pairs):
    first, second = zip(*pairs, strict=True)
    one = compare(first, second, "graded", samples=200, seed=1)
    other = compare(second, first, "graded", samples=200, seed=1)
    assert -1 - 1e-9 <= one.low <= one.difference + 1e-9
    assert one.difference - 1e-9 <= one.high <= 1 + 1e-9
    assert 0 < one.p <= 1
    assert (other.difference, other.low, other.high, other.p) == pytest.approx(
        (-one.difference, -one.high, -one.low, one.p), abs=1e-9
    )


def test_paired_bootstrap_of_degenerate_differences():
    assert paired_bootstrap([], 100, 0) == (-1.0, 1.0, 1.0)
    assert paired_bootstrap([0.0] * 50, 100, 0)[2] == 1.0
    assert paired_bootstrap([0.7], 1000, 0)[2] == 1.0, "one item proves nothing"
    assert paired_bootstrap([0.7] * 4, 1000, 0)[2] == 2 / 2**4, "what flipping four signs can give"
    low, high, p = paired_bootstrap([-0.5] * 5 + [0.0] * 15, 1000, 0)
    assert (high, p) == (0.0, 2 / 2**5), "five differences of one sign do not exclude zero"
    low, high, p = paired_bootstrap([0.5] * 100, 1000, 0)
    assert 0.4 < low < 0.5 < high < 0.6 and p == 2 / 1001


@given(verdicts)
def test_binary_comparison_counts_the_four_cells(outcomes):
    first, second = [float(x) for x, _ in outcomes], [float(y) for _, y in outcomes]
    found = compare(first, second, "binary", samples=100, seed=0)
    b, c = sum(x and not y for x, y in outcomes), sum(y and not x for x, y in outcomes)
    assert (found.n, found.discordant, found.p) == (len(outcomes), b + c, mcnemar_midp(b, c))
    assert found.difference == pytest.approx((b - c) / max(len(outcomes), 1))
    mirrored = compare(second, first, "binary", samples=100, seed=0)
    assert (mirrored.difference, mirrored.low, mirrored.high) == pytest.approx(
        (-found.difference, -found.high, -found.low)
    )


def test_scores_that_are_no_scores_are_refused():
    with pytest.raises(ValueError, match="differ in number: 2 and 1"):
        compare([1, 0], [1], "binary", samples=100, seed=0)
    with pytest.raises(ValueError, match=r"0 or 1, got \[0.5\]"):
        compare([1, 0.5], [1, 0], "binary", samples=100, seed=0)
    for wrong in ([0.5, 1.5], [0.5, float("nan")]):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            bootstrap_mean(wrong, 100, 0)


@pytest.mark.parametrize(("p_both", "p_first", "p_second"), [(0.5, 0.2, 0.1), (0.02, 0.6, 0.01), (0.9, 0.05, 0.02)])
def test_newcombe_covers_what_it_claims(p_both, p_first, p_second):
    """2,000 simulated evaluations of 100 items; the standard error of the coverage is 0.5 points."""
    cells = np.array([p_both, p_first, p_second, 1 - p_both - p_first - p_second])
    tables = np.random.default_rng(11).multinomial(100, cells, 2000)
    intervals = [newcombe_paired(*(int(count) for count in table)) for table in tables]
    coverage = np.mean([low <= p_first - p_second <= high for _, low, high in intervals])
    assert 0.93 <= coverage <= 0.985, coverage


@pytest.mark.parametrize("n", [30, 150])
def test_graded_intervals_cover_what_they_claim(n):
    """400 simulated field-F1 scores, most of them 1: skewed, as a tuned arm's are."""
    generator = np.random.default_rng(12)
    covered, truth = 0, 0.85 + 0.15 * 0.5
    for seed in range(400):
        values = np.where(generator.random(n) < 0.85, 1.0, generator.random(n))
        low, high = bootstrap_mean(values, 500, seed)
        covered += low <= truth <= high
    assert covered / 400 >= 0.89, covered / 400


def test_a_true_null_is_seldom_called_a_difference():
    generator = np.random.default_rng(13)
    tables = generator.multinomial(150, [0.5, 0.1, 0.1, 0.3], 2000)
    binary = np.mean([mcnemar_midp(int(b), int(c)) < 0.05 for _, b, c, _ in tables])
    graded = np.mean(
        [paired_bootstrap(generator.normal(0, 0.1, 60).clip(-1, 1), 400, seed)[2] < 0.05 for seed in range(400)]
    )
    assert binary <= 0.06 and graded <= 0.075, (binary, graded)
