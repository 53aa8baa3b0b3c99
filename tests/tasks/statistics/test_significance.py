from __future__ import annotations

import math
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from tunelift.tasks.statistics import mcnemar_midp, sign_flip


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


@given(b=st.integers(0, 1500), c=st.integers(0, 1500))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_the_sum_of_all_binomials_to_the_last_digits(b, c):
    n, fewer = b + c, min(b, c)
    terms = [1]
    for k in range(1, fewer + 1):
        terms.append(terms[-1] * (n - k + 1) // k)
    exact = (2 * sum(terms) - terms[-1]) / (1 << n) if b != c else 1.0
    assert mcnemar_midp(b, c) == pytest.approx(max(exact, math.ulp(0.0)), rel=1e-12, abs=0)


@pytest.mark.parametrize(("b", "c"), [(6_000, 5_999), (6_200, 5_800), (8_000, 4_000), (12_000, 0), (20_000, 19_500)])
def test_mcnemar_of_very_many_differing_items_is_quick_and_never_zero(b, c):
    started = time.perf_counter()
    p = mcnemar_midp(b, c)
    # Milliseconds; summing every binomial anew took from 14 seconds upwards.
    assert time.perf_counter() - started < 1
    assert 0 < p < 1
    if p > 1e-300:
        assert p == pytest.approx(2 * stats.binom.cdf(c, b + c, 0.5) - stats.binom.pmf(c, b + c, 0.5), rel=1e-8)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([-2.0, -1.0, -0.1, 0.0, 0.1, 0.2, 0.3, 1.0]), min_size=1, max_size=10))
def test_sign_flip_is_the_share_of_all_flips_that_are_as_extreme(differences):
    observed = abs(sum(differences)) - 1e-9
    flips = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    assert sign_flip(differences, 10, 0) == pytest.approx(np.mean([abs(flip) >= observed for flip in flips]))


def test_sign_flip_agrees_with_scipy_exactly_and_at_random():
    generator = np.random.default_rng(5)
    for n, samples, tolerance in ((12, 10, 1e-12), (60, 20_000, 0.01)):
        differences = generator.normal(0.25, 1, n)
        options = {"permutation_type": "samples", "n_resamples": 20_000, "rng": 6}
        expected = stats.permutation_test((differences,), np.mean, **options).pvalue
        assert sign_flip(differences, samples, 7) == pytest.approx(expected, abs=tolerance), n


@given(b=st.integers(0, 8), c=st.integers(0, 7))
def test_with_mid_p_and_single_items_it_is_mcnemar(b, c):
    assert sign_flip([1.0] * b + [-1.0] * c, 10, 0, mid_p=True) == pytest.approx(mcnemar_midp(b, c))


def test_sign_flip_at_its_ends():
    assert sign_flip([], 10, 0) == sign_flip([0.0] * 9, 10, 0) == 1.0
    assert sign_flip([0.7], 10, 0) == 1.0, "one item proves nothing"
    assert sign_flip([0.7] * 4, 10, 0) == 2 / 2**4
    assert sign_flip([0.5] * 100, 999, 0) == 1 / 1000, "never 0"
    assert sign_flip([0.1, 0.2, -0.3] * 7, 99, 0) == 1.0, "rounding is no difference"
    values = np.random.default_rng(0).normal(0.1, 1, 50)
    assert sign_flip(values, 500, 1) == sign_flip(-values, 500, 1) != sign_flip(values, 500, 2)


@pytest.mark.parametrize("n", [10, 60])
def test_a_true_null_is_seldom_called_a_difference(n):
    generator = np.random.default_rng(13)
    found = np.mean([sign_flip(generator.laplace(0, 1, n), 199, seed) <= 0.05 for seed in range(1500)])
    assert 0.03 <= found <= 0.067, found
