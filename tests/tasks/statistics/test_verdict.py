from __future__ import annotations

from dataclasses import replace

import pytest

from tunelift.tasks.statistics import PairedDifference, Spread, non_inferiority, verdict


def pair(low: float, high: float, p: float = 0.01, **changes: object) -> PairedDifference:
    found = PairedDifference((low + high) / 2, low, high, p, 200, 40, "", None, 0.02, Spread("binary", 0.2))
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("low", "high", "p", "adjusted", "expected"),
    [
        (0.01, 0.1, 0.01, 0.03, "improved"),
        (0.01, 0.1, 0.01, None, "improved"),
        (-0.1, -0.01, 0.01, 0.03, "regressed"),
        (0.01, 0.1, 0.03, 0.06, "not shown"),
        (-0.001, 0.1, 0.04, 0.04, "not shown"),
        (0.0, 0.1, 0.04, 0.04, "not shown"),
    ],
)
def test_a_difference_is_shown_where_p_and_the_interval_agree(low, high, p, adjusted, expected):
    assert verdict(pair(low, high, p), p_adjusted=adjusted, effect=0.05, mde=0.05) == expected


def test_lower_scores_may_be_the_better_ones():
    better = pair(-0.1, -0.01)
    assert verdict(better, effect=0.05, mde=0.05, lower_is_better=True) == "improved"
    assert verdict(pair(0.01, 0.1), effect=0.05, mde=0.05, lower_is_better=True) == "regressed"
    assert non_inferiority(better, 0.02) == "inconclusive"
    assert non_inferiority(better, 0.02, lower_is_better=True) == "non-inferior"


@pytest.mark.parametrize("mde", [0.051, None])
def test_what_could_not_have_been_found_is_underpowered_and_not_refuted(mde):
    assert verdict(pair(-0.1, 0.1, 0.5), effect=0.05, mde=mde) == "underpowered"
    assert verdict(pair(0.01, 0.1), effect=0.05, mde=mde) == "improved", "but what was found was found"


def test_fewer_than_eight_clusters_show_nothing():
    assert verdict(pair(0.1, 0.2, clusters=7), effect=0.05, mde=0.01) == "underpowered"
    assert verdict(pair(0.1, 0.2, clusters=8), effect=0.05, mde=0.01) == "improved"
    assert non_inferiority(pair(0.1, 0.2, clusters=7), 0.05) == "inconclusive"
    assert verdict(pair(0.0, 0.0, n=0), effect=0.05, mde=0.01) == "underpowered"
    assert non_inferiority(pair(0.0, 0.0, n=0), 0.05) == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.019, 0.01, "non-inferior"),
        (0.01, 0.02, "non-inferior"),
        (-0.019, -0.001, "non-inferior"),
        (-0.02, 0.01, "inconclusive"),
        (-0.03, 0.05, "inconclusive"),
        (-0.05, -0.02, "inconclusive"),
        (-0.05, -0.021, "inferior"),
    ],
)
def test_not_worse_means_that_the_whole_interval_lies_above_minus_the_margin(low, high, expected):
    assert non_inferiority(pair(low, high), 0.02) == expected
