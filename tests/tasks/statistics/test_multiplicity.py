from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from tunelift.tasks.statistics import benjamini_hochberg, holm

ps = st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.04]), min_size=1, max_size=20)


# statsmodels collects garbage at each call.
@settings(max_examples=12)
@given(ps)
def test_adjusted_p_values_agree_with_statsmodels(ps):
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1], abs=1e-12)
    assert benjamini_hochberg(ps) == pytest.approx(multipletests(ps, method="fdr_bh")[1], abs=1e-12)


def test_nothing_and_one_test_are_left_as_they_are():
    assert holm([]) == benjamini_hochberg([]) == []
    assert holm([0.03]) == benjamini_hochberg([0.03]) == [0.03]
    assert holm([0.03, 0.04]) == [0.06, 0.06], "the larger p is never the more significant"
