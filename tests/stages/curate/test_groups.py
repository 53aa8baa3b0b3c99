"""Groups stay whole, their split hangs on their own hash or is dealt out by stratum, and too large ones are refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.conftest import pair, request, write_jsonl
from tests.stages.curate.similar import rows_of
from tunelift.config.curation import SplitConfig
from tunelift.errors import UserError
from tunelift.stages.curate.split import SPLITS, assign, group_key, groups, refuse_large_group, split_of

CONFIG = SplitConfig(validation=0.1, test=0.2)
NO_EDGES = rows_of([]).reshape(0, 2)


def keys_of(texts: list[str]) -> np.ndarray:
    return np.array([group_key(text) for text in texts], np.uint64)


@given(
    st.integers(1, 30).flatmap(
        lambda rows: st.tuples(
            st.lists(st.integers(0, 12), min_size=rows, max_size=rows),
            st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, rows - 1)), max_size=15),
        )
    )
)
def test_groups_are_what_edges_and_equal_keys_connect(drawn: tuple[list[int], list[tuple[int, int]]]) -> None:
    keys, edges = drawn
    found = groups(len(keys), rows_of(edges).reshape(-1, 2), np.array(keys, np.uint64))
    label = list(range(len(keys)))
    equal = [(a, b) for a, key in enumerate(keys) for b in range(a) if key == keys[b]]
    for _ in keys:
        for a, b in edges + equal:
            label[a] = label[b] = min(label[a], label[b])
    assert found.tolist() == label


def test_rows_of_their_own_fall_where_their_text_says() -> None:
    texts = [f"request {number}" for number in range(300)]
    keys = keys_of(texts)
    chosen = assign(groups(300, NO_EDGES, keys), keys, None, CONFIG, 7)
    assert [SPLITS[split] for split in chosen] == [split_of(text, CONFIG, 7) for text in texts]


def test_more_rows_move_no_row_unless_they_join_its_group() -> None:
    texts = [f"request {number}" for number in range(300)]
    edges = rows_of([[0, 1], [1, 2], [10, 20]])
    few, more = keys_of(texts[:200]), keys_of(texts)
    before = assign(groups(200, edges, few), few, None, CONFIG, 7)
    after = assign(groups(300, edges, more), more, None, CONFIG, 7)
    assert (after[:200] == before).all()
    # Rows in another order have the same splits.
    order = np.arange(300)[::-1]
    turned = assign(groups(300, 299 - edges, more[order]), more[order], None, CONFIG, 7)
    assert (turned[order] == after).all()


def test_large_groups_are_as_likely_in_each_split_as_small_ones() -> None:
    keys = keys_of([f"request {number}" for number in range(8000)])
    grouped = np.arange(8000) // 4 * 4
    chosen = assign(grouped, keys, None, CONFIG, 7)[::4]
    # Standard deviations of 2,000 groups: 18 and 13.
    assert np.count_nonzero(chosen == 2) == pytest.approx(400, abs=75)
    assert np.count_nonzero(chosen == 1) == pytest.approx(200, abs=55)


def test_strata_get_like_shares_however_small() -> None:
    keys = keys_of([f"request {number}" for number in range(400)])
    strata = ["rare" if number % 20 == 0 else "common" for number in range(400)]
    chosen = assign(np.arange(400), keys, strata, CONFIG, 7)
    counts = Counter(zip(strata, chosen.tolist(), strict=True))
    assert {split: counts["rare", split] for split in range(3)} == {0: 14, 1: 2, 2: 4}
    assert {split: counts["common", split] for split in range(3)} == {0: 266, 1: 38, 2: 76}
    other = assign(np.arange(400), keys, strata, CONFIG, 8)
    assert (other != chosen).any()


def test_a_groups_stratum_is_its_commonest_value_and_it_stays_whole() -> None:
    keys = keys_of([f"request {number}" for number in range(90)])
    grouped = np.arange(90) // 3 * 3
    strata = [("b", "a", "b")[number % 3] if number < 60 else ("d", "c", "a")[number % 3] for number in range(90)]
    chosen = assign(grouped, keys, strata, CONFIG, 1)
    assert all(len(set(chosen[start : start + 3])) == 1 for start in range(0, 90, 3))
    # Twenty groups count as "b", and ten, where all values are equally common, as "a".
    assert Counter(chosen[:60:3].tolist()) == {0: 14, 1: 2, 2: 4}
    assert Counter(chosen[60::3].tolist()) == {0: 7, 1: 1, 2: 2}


def describe(row: int) -> tuple[str, str]:
    return f"a.jsonl:{row + 1}", "Hello there, " * 20


def test_a_group_of_one_value_is_refused_by_its_name() -> None:
    keys = np.array([5] * 40 + list(range(100, 160)), np.uint64)
    config = SplitConfig(group_by="topic")
    with pytest.raises(UserError) as caught:
        refuse_large_group(groups(100, NO_EDGES, keys), NO_EDGES, keys, config, lambda row: (f"a:{row}", "weather"))
    assert "40 of 100 rows (40%), more than curate.split.max_group_ratio=0.2" in caught.value.message
    assert "'weather' of curate.split.group_by=topic" in caught.value.message
    assert caught.value.where == "a:0"
    assert "curate.split.group_by" in caught.value.remedy
    assert "curate.split.max_group_ratio=0.4" in caught.value.remedy


def test_a_group_that_near_duplicates_join_is_refused_with_two_of_them() -> None:
    keys = np.arange(100, dtype=np.uint64)
    edges = rows_of([[50 + number, 51 + number] for number in range(30)])
    grouped = groups(100, edges, keys)
    with pytest.raises(UserError) as caught:
        refuse_large_group(grouped, edges, keys, SplitConfig(), describe)
    assert "31 of 100 rows (31%)" in caught.value.message
    assert "a.jsonl:51 and a.jsonl:52 are near duplicates" in caught.value.message
    assert "Hello there" in caught.value.message
    assert len(caught.value.message) < 450
    assert "curate.duplicates.threshold" in caught.value.remedy


def test_large_groups_are_allowed_when_asked_and_in_tiny_data() -> None:
    keys = np.array([5] * 40 + list(range(100, 160)), np.uint64)
    refuse_large_group(groups(100, NO_EDGES, keys), NO_EDGES, keys, SplitConfig(max_group_ratio=0.4), describe)
    refuse_large_group(np.zeros(19, np.int64), NO_EDGES, np.zeros(19, np.uint64), SplitConfig(), describe)
    refuse_large_group(np.zeros(0, np.int64), NO_EDGES, np.zeros(0, np.uint64), SplitConfig(), describe)


def test_groups_are_counted_in_each_split(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rows = [pair(request(number // 3), reply=f"Parcel {number} is at gate {number}.") for number in range(90)]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), split={"validation": 0.3, "test": 0.2})
    for split, count in stats["groups"]["in_split"].items():
        lines = (tmp_path / "out" / f"{split}.jsonl").read_text().splitlines()
        assert 0 < count == len({json.loads(line)["cluster"] for line in lines}) < len(lines)
