"""The proof finds every pair that comparing all rows finds, and no other."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.similar import pairs_above, reading, rows_of
from tunelift.config.curation import SplitConfig
from tunelift.stages.curate import leakage
from tunelift.stages.curate.leakage import prove, settle
from tunelift.stages.curate.split import TEST, TRAIN

# Few values, so that rows overlap; spread over 64 bits, as hashes are.
SETS = st.lists(
    st.sets(st.integers(0, 25).map(lambda value: value * 0x9E3779B97F4A7C15 % 2**64), max_size=14), max_size=40
)


def crossing(pairs: set[tuple[int, int]], splits: np.ndarray) -> set[tuple[int, int]]:
    return {(a, b) for a, b in pairs if splits[a] != splits[b]}


@given(SETS, st.sampled_from([0.3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 1.0]), st.randoms(use_true_random=False))
def test_the_join_is_exact(sets: list[set[int]], threshold: float, rng: random.Random) -> None:
    splits = np.array([rng.choice((0, 0, 0, 1, 2)) for _ in sets], np.uint8)
    found = prove(reading(sets), splits, threshold)
    assert [pair[:2] for pair in found.pairs] == sorted(crossing(pairs_above(sets, threshold), splits))
    assert found.compared >= len(found.pairs)


@given(SETS, st.randoms(use_true_random=False))
def test_only_some_rows_are_looked_at_when_asked(sets: list[set[int]], rng: random.Random) -> None:
    splits = np.array([rng.randrange(3) for _ in sets], np.uint8)
    only = np.array([rng.random() < 0.3 for _ in sets], bool)
    found = {pair[:2] for pair in prove(reading(sets), splits, 0.5, only).pairs}
    assert found == {(a, b) for a, b in crossing(pairs_above(sets, 0.5), splits) if only[a] or only[b]}


def test_blocks_and_full_counters_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    base = [{rng.randrange(2**64) for _ in range(30)} for _ in range(40)]
    sets = [{*rng.sample(sorted(rng.choice(base)), rng.randrange(20, 30)), rng.randrange(2**64)} for _ in range(400)]
    splits = np.array([rng.choice((0, 0, 1, 2)) for _ in sets], np.uint8)
    whole = prove(reading(sets), splits, 0.6)
    assert [pair[:2] for pair in whole.pairs] == sorted(crossing(pairs_above(sets, 0.6), splits))
    assert len(whole.pairs) > 100
    for name, value in {"BLOCK_ROWS": 7, "BLOCK_HITS": 5, "MOST_COUNTER_BITS": 4, "COUNTED": 2}.items():
        monkeypatch.setattr(leakage, name, value)
        assert prove(reading(sets), splits, 0.6).pairs == whole.pairs, name


def test_far_fewer_pairs_are_compared_than_there_are() -> None:
    rng = random.Random(1)
    words = [rng.randrange(2**64) for _ in range(3000)]
    sets = [{words[int(rng.paretovariate(0.3)) % 3000] for _ in range(60)} for _ in range(600)]
    splits = np.array([number % 5 == 0 for number in range(600)], np.uint8)
    assert prove(reading(sets), splits, 0.6).compared < 120 * 480 / 20


def test_rows_without_shingles_are_alike_to_none() -> None:
    assert prove(reading([set(), set(), {1}]), np.array([0, 1, 1], np.uint8), 0.6).pairs == []


def test_what_was_missed_is_joined_until_the_proof_finds_nothing() -> None:
    rng = random.Random(2)
    sets = []
    for _ in range(150):
        chain = {rng.randrange(2**64) for _ in range(20)}
        for _ in range(3):
            sets.append(chain)
            chain = {*rng.sample(sorted(chain), 17), *(rng.randrange(2**64) for _ in range(3))}
    keys = np.array([rng.randrange(2**64) for _ in sets], np.uint64)
    none = rows_of([]).reshape(0, 2)
    settled = settle(reading(sets), none, keys, None, SplitConfig(validation=0.2, test=0.2), threshold=0.6, seed=1)
    assert prove(reading(sets), settled.splits, 0.6).pairs == []
    assert settled.moved > 50
    assert set(settled.splits.tolist()) == {0, 1, 2}
    # Rows of one chain share a group, and nothing else does.
    assert len(np.unique(settled.grouped)) >= 150
    assert (settled.splits[0::3] == settled.splits[1::3]).all()


def test_nothing_moves_where_the_pairs_were_known() -> None:
    sets = [{1, 2, 3, 4}, {1, 2, 3, 4, 5}, {7, 8, 9}] * 30
    sets = [{value + 100 * (number // 3) for value in row} for number, row in enumerate(sets)]
    keys = np.arange(1, 91, dtype=np.uint64)
    edges = rows_of([[3 * number, 3 * number + 1] for number in range(30)])
    config = SplitConfig(validation=0.2, test=0.2)
    settled = settle(reading(sets), edges, keys, None, config, threshold=0.6, seed=3)
    assert settled.moved == 0
    assert len(settled.edges) == 30
    assert {TRAIN, TEST} <= set(settled.splits.tolist())
