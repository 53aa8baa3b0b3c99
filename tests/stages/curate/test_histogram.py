"""Histograms of lengths: round edges, every value counted once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.stages.curate.histogram import MOST_BINS, histogram


@given(st.lists(st.integers(0, 2**53), max_size=60))
def test_every_value_is_counted_once_in_its_bin(values: list[int]) -> None:
    found = histogram(np.array(values, dtype=np.int64))
    edges, counts = found["edges"], found["counts"]
    assert len(counts) <= MOST_BINS and len(edges) == (len(counts) + 1 if values else 0)
    assert all(type(number) is int for number in (*edges, *counts))
    assert edges == sorted(set(edges))
    assert counts == [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
    assert sum(counts) == len(values)


def test_even_values_get_even_round_bins() -> None:
    found = histogram(np.arange(37, 512))
    assert found["edges"] == list(range(20, 540, 20))
    assert max(found["counts"]) == 20


def test_a_long_tail_gets_bins_that_grow() -> None:
    """In even bins of 500, nearly all would be one bar."""
    lengths = np.concatenate([np.arange(40, 240), [14_000]])
    found = histogram(lengths)
    assert max(found["counts"]) < 0.25 * len(lengths)
    assert found["edges"][0] == 40 and found["edges"][-1] == 15_000


@pytest.mark.parametrize(("values", "edges"), [([7, 7, 7], [7, 8]), ([], []), ([0], [0, 1])])
def test_one_value_is_one_bin_and_none_is_none(values: list[int], edges: list[int]) -> None:
    assert histogram(np.array(values, dtype=np.int64))["edges"] == edges


def test_the_order_of_the_values_does_not_matter() -> None:
    values = np.random.default_rng(3).integers(0, 5000, 400)
    assert histogram(values) == histogram(np.sort(values))
