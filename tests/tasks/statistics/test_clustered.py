from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunelift.tasks.statistics.clustered import cluster_index, effective_items, jackknife, t_quantile

sizes = st.lists(st.integers(1, 9), min_size=2, max_size=12).filter(lambda found: sum(found) > len(found))


def clustered(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), sizes)
    return generator.normal(0.1, 1, index.size) + generator.normal(0, 1, len(sizes))[index], index


def test_items_without_a_cluster_stand_alone():
    assert cluster_index(None, 3) is None
    assert cluster_index([None, None, "a"], 3) is None
    assert cluster_index([], 0) is None
    assert cluster_index(["a", None, "a", None, "b"], 5).tolist() == [0, 1, 0, 2, 3]
    with pytest.raises(ValueError, match="differ in number: 1 and 2"):
        cluster_index(["a"], 2)


@settings(max_examples=40)
@given(sizes=sizes)
def test_the_standard_error_is_that_of_leaving_out_one_cluster_at_a_time(sizes):
    values, index = clustered(sizes)
    left = np.array([values[index != group].mean() for group in range(len(sizes))])
    expected = math.sqrt((len(sizes) - 1) / len(sizes) * ((left - values.mean()) ** 2).sum())
    assert jackknife(values, index).se == pytest.approx(expected)


@pytest.mark.parametrize(("groups", "size"), [(8, 5), (40, 3)])
def test_clusters_of_equal_size_give_the_t_test_of_their_means(groups, size):
    values, index = clustered([size] * groups)
    means = values.reshape(groups, size).mean(axis=1)
    found = jackknife(values, index)
    assert (found.mean, found.se) == pytest.approx((means.mean(), stats.sem(means)))
    assert found.df == pytest.approx(groups - 1)


def test_many_clusters_give_millers_standard_error_as_statsmodels_computes_it():
    values, index = clustered([1 + i % 4 for i in range(600)])
    fit = sm.OLS(values, np.ones(values.size)).fit(
        cov_type="cluster", cov_kwds={"groups": index, "use_correction": False}
    )
    residuals = values - values.mean()
    miller = math.sqrt(sum(residuals[index == group].sum() ** 2 for group in range(600))) / values.size
    assert fit.bse[0] == pytest.approx(miller)
    assert jackknife(values, index).se == pytest.approx(miller, rel=0.005)


@settings(max_examples=40)
@given(sizes=sizes)
def test_the_degrees_of_freedom_are_satterthwaites(sizes):
    """From the matrix of the quadratic form, spelled out: V = (s' B s), df = tr(B S)^2 / tr(B S B S)."""
    values, index = clustered(sizes)
    w = np.array(sizes) / sum(sizes)
    leave_out = (np.eye(len(w)) - np.outer(w, np.ones(len(w)))) / (1 - w)[:, None]
    form = leave_out.T @ leave_out @ np.diag(np.array(sizes, float))
    expected = np.trace(form) ** 2 / np.trace(form @ form)
    df = jackknife(values, index).df
    assert df == pytest.approx(expected)
    assert 1 - 1e-9 <= df <= len(sizes) - 1 + 1e-9


def test_what_does_not_vary_between_clusters_has_no_standard_error():
    assert jackknife(np.full(12, 0.1), np.repeat(np.arange(4), 3)).se == 0
    alone = jackknife(np.array([0.1, 0.9]), np.array([0, 0]))
    assert (alone.se, alone.df) == (0.0, 1.0)


def test_effective_items_lie_between_clusters_and_items():
    index = np.repeat(np.arange(5), 4)
    assert effective_items(index, 0.0) == 20
    assert effective_items(index, 1.0) == 5
    assert effective_items(index) == pytest.approx(20 / 1.3)


def test_quantiles_agree_with_scipy():
    assert t_quantile(0.975, 3.7) == pytest.approx(stats.t.ppf(0.975, 3.7))
    assert t_quantile(0.975, math.inf) == pytest.approx(stats.norm.ppf(0.975))
