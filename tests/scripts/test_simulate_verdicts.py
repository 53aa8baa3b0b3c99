from __future__ import annotations

import numpy as np
import pytest

from tests.scripts.loading import load_script

simulate = load_script("simulate_verdicts")


@pytest.mark.parametrize("metric", simulate.METRICS, ids=lambda metric: metric.name)
def test_the_truth_is_what_many_items_come_to(metric):
    generator = np.random.default_rng(0)
    first, second = simulate.arms(metric, 200_000, None, simulate.SHIFT, generator)
    for scores, shift in ((first, simulate.SHIFT), (second, 0.0)):
        assert scores.mean() == pytest.approx(simulate.true_mean(metric, shift), abs=4 * scores.std() / 447)
    assert np.corrcoef(first, second)[0, 1] > 0.3, "the arms must be correlated"


def test_clusters_are_unequal_and_agree_on_the_difference():
    generator = np.random.default_rng(1)
    clusters = simulate.labels(1000, 20, generator)
    sizes = np.unique(clusters, return_counts=True)[1]
    assert (sizes.sum(), sizes.size) == (1000, 20) and sizes.max() > 2 * sizes.min()
    first, second = simulate.arms(simulate.METRICS[0], 1000, clusters, 0.0, generator)
    differences, group = first - second, np.asarray(clusters, dtype=int)
    between = np.var([differences[group == each].mean() for each in range(20)])
    assert between > 2 * differences.var() / 50


@pytest.mark.parametrize("groups", [None, 10])
@pytest.mark.parametrize("metric", simulate.METRICS, ids=lambda metric: metric.name)
def test_verdicts_keep_their_bounds(metric, groups):
    row = simulate.scenario(metric, 50, groups, 100, seed=0)
    assert row.holds, str(row)
    assert str(row).startswith(f"✓ {metric.name}, n=50, {groups or 'no'} clusters")


def test_pairs_see_what_an_unpaired_test_does_not():
    paired, unpaired = simulate.power(400, seed=0)
    assert paired.holds and paired.rates[0].value > 2 * unpaired.rates[0].value, (paired, unpaired)


def test_a_guard_seldom_passes_by_harm_that_was_not_drawn():
    covers, passes = simulate.concentrated_harm("binary", 10, 200, seed=0)
    assert covers.rates[0].value > 0.8 and passes.rates[0].value < 0.2, (covers, passes)


def test_a_split_of_few_templates_claims_no_more_than_it_may():
    row = simulate.split_task(12, 200, seed=0)
    assert row.holds and row.rates[1].value > 0.15, row


def test_guards_err_seldom_and_can_pass():
    assert all(row.holds for row in simulate.equal_arms(150, seed=0))
    margin_rows = [row for row, _ in zip(simulate.guards(60, seed=0), range(8), strict=False)]
    assert all(row.holds for row in margin_rows), [str(row) for row in margin_rows]


def test_a_detectable_difference_is_found_four_times_in_five(monkeypatch):
    sizes = {"20 clusters of 10": [10] * 20, "one of half the items": [110] + [10] * 9}
    monkeypatch.setattr("simulation.power.SIZES", sizes)
    found, nothing = simulate.detected(200, seed=0)
    assert found.holds, found
    assert nothing.rates == () and "no difference is promised" in nothing.what


def test_a_broken_bound_fails_the_command(monkeypatch, capsys):
    kept = simulate.Row("kept", (simulate.Rate(0.06, most=0.06), simulate.Rate(0.93, least=0.93)), 2000)
    broken = simulate.Row("broken", (simulate.Rate(0.061, most=0.06),), 2000)
    shown = simulate.Row("only shown", (simulate.Rate(0.5),), 2000)
    monkeypatch.setattr("sys.argv", ["simulate_verdicts.py"])
    for made, code in (([kept, shown], 0), ([kept, broken], 1)):
        monkeypatch.setattr(simulate, "rows", lambda repetitions, seed, made=made: iter(made))
        assert simulate.main() == code
    printed = capsys.readouterr().out
    assert "✓ kept" in printed and "✗ broken" in printed and "  only shown" in printed
    assert simulate.Row("few repetitions", broken.rates, 100).holds
