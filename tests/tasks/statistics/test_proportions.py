from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from statsmodels.stats.proportion import proportion_confint

from tunelift.tasks.statistics import tango, wilson
from tunelift.tasks.statistics.proportions import Z, score

counts = st.integers(0, 80)


@given(n=st.integers(1, 3000), share=st.floats(0, 1))
def test_wilson_agrees_with_statsmodels(n, share):
    successes = round(share * n)
    assert wilson(successes, n) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)


def test_wilson_holds_the_estimate_at_the_ends():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 150)[0] == 0.0 and wilson(150, 150)[1] == 1.0
    with pytest.raises(ValueError, match="4 successes of 3"):
        wilson(4, 3)


@given(first=counts, second=counts, alike=counts, share=st.floats(0.05, 1))
def test_tangos_interval_is_antisymmetric_and_bounded(first, second, alike, share):
    b, c, n = (share * count for count in (first, second, first + second + alike))
    low, high = tango(b, c, n)
    assert -1 <= low <= (b - c) / max(n, 1e-9) + 1e-9 and (b - c) / max(n, 1e-9) - 1e-9 <= high <= 1
    assert tango(c, b, n) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(("first", "second", "n", "tested"), [(6, 16, 161, -0.1), (12, 2, 50, 0.1), (0, 3, 80, -0.1)])
def test_the_score_is_that_of_the_likeliest_shares_under_the_tested_difference(first, second, n, tested):
    """By numerical maximisation of the multinomial likelihood with p12 - p21 held at the tested difference."""

    def minus_log_likelihood(p21):
        p12 = p21 + tested
        return -(first * np.log(p12) + second * np.log(p21) + (n - first - second) * np.log1p(-p12 - p21))

    edges = max(0.0, -tested) + 1e-9, (1 - tested) / 2 - 1e-9
    share = optimize.minimize_scalar(minus_log_likelihood, bounds=edges, method="bounded", options={"xatol": 1e-10}).x
    variance = n * (2 * share + tested * (1 - tested))
    assert score(first, second, n, tested) == pytest.approx(
        (first - second - n * tested) / math.sqrt(variance), rel=1e-4
    )


@given(first=counts, second=counts, alike=counts)
def test_the_score_at_each_end_is_the_quantile(first, second, alike):
    n = first + second + alike
    low, high = tango(first, second, n)
    for end, expected in ((low, Z), (high, -Z)):
        if abs(end) < 1 - 1e-9:
            assert score(first, second, n, end) == pytest.approx(expected, abs=1e-4)


def test_tangos_interval_keeps_a_width_where_no_item_differs():
    assert tango(0, 0, 100) == pytest.approx((-(Z**2) / (100 + Z**2), Z**2 / (100 + Z**2)))
    assert tango(0, 0, 0) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="3 and 2 of 4 items"):
        tango(3, 2, 4)


@pytest.mark.parametrize(("p_first", "p_second"), [(0.2, 0.1), (0.6, 0.01), (0.05, 0.02), (0.0, 0.05), (0.02, 0.02)])
def test_tangos_interval_covers_what_it_claims(p_first, p_second):
    """2,000 simulated evaluations of 100 items; the standard error of the coverage is 0.5 points."""
    cells = [p_first, p_second, 1 - p_first - p_second]
    tables = np.random.default_rng(11).multinomial(100, cells, 2000).tolist()
    intervals = [tango(first, second, 100) for first, second, _ in tables]
    coverage = np.mean([low <= p_first - p_second <= high for low, high in intervals])
    assert 0.935 <= coverage <= 0.995, coverage
