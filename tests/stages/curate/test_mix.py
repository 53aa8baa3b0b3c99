"""Weights and budgets: the proportions hold, nothing is repeated, and the order of rows plays no part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.stages.curate.mix import draw


def drawn(sources: list[int], *, weights=None, rows=None, tokens=None, lengths=None, seed: int = 0):  # type: ignore[no-untyped-def]
    ranks = np.random.default_rng(seed).permutation(len(sources)).astype(np.uint64)
    sizes = np.asarray(lengths if lengths is not None else [10] * len(sources), dtype=np.int64)
    of = np.asarray(sources, dtype=np.int32)
    return draw(of, ranks, sizes, weights=weights, keep_rows=rows, keep_tokens=tokens)


def test_the_scarcest_source_limits_the_mix() -> None:
    kept = drawn([0] * 100 + [1] * 10, weights=[3.0, 1.0])
    assert np.bincount(np.repeat([0, 1], [100, 10])[kept]).tolist() == [30, 10]


def test_a_budget_of_rows_keeps_the_proportions() -> None:
    kept = drawn([0] * 100 + [1] * 100, weights=[4.0, 1.0], rows=50)
    assert [int(kept[:100].sum()), int(kept[100:].sum())] == [40, 10]


def test_a_budget_of_tokens_is_filled_and_not_passed() -> None:
    kept = drawn([0] * 20, lengths=[7] * 20, tokens=50)
    assert kept.sum() == 7  # 49 tokens; an eighth row would make 56.


def test_a_source_without_rows_is_left_out_of_the_mix() -> None:
    assert drawn([0] * 8, weights=[1.0, 5.0]).sum() == 8


def test_rounding_takes_no_row_away() -> None:
    kept = drawn([0] * 10 + [1] * 10, weights=[0.3, 0.7], rows=10)
    assert [int(kept[:10].sum()), int(kept[10:].sum())] == [3, 7]


@pytest.mark.parametrize("limit", [{"rows": 0}, {"tokens": 0}])
def test_nothing_fits_into_nothing(limit: dict[str, int]) -> None:
    assert not drawn([0, 1, 1], weights=[1.0, 1.0], **limit).any()


def test_no_rows_no_choice() -> None:
    assert drawn([], weights=[1.0]).shape == (0,)


@given(
    sources=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    weights=st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
    rows=st.integers(0, 80),
    tokens=st.integers(0, 800),
    order=st.randoms(use_true_random=False),
)
def test_the_choice_is_of_rows_and_not_of_places(sources, weights, rows, tokens, order) -> None:  # type: ignore[no-untyped-def]
    count = len(sources)
    of, ranks = np.asarray(sources, dtype=np.int32), np.arange(count, dtype=np.uint64) * np.uint64(7919) % np.uint64(61)
    ranks = ranks * np.uint64(100) + np.arange(count, dtype=np.uint64)
    lengths = np.asarray([5 + 3 * (number % 4) for number in range(count)], dtype=np.int64)
    limits = {"weights": weights, "keep_rows": rows, "keep_tokens": tokens}
    kept = draw(of, ranks, lengths, **limits)
    assert kept.sum() <= rows
    assert lengths[kept].sum() <= tokens
    shuffled = list(range(count))
    order.shuffle(shuffled)
    again = draw(of[shuffled], ranks[shuffled], lengths[shuffled], **limits)
    assert set(ranks[kept].tolist()) == set(ranks[shuffled][again].tolist())
