"""Held-out prompts are found wherever looking at each pair of rows finds them, and nowhere else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stages.curate.similar import reading
from tunelift.config.curation import SplitConfig
from tunelift.stages.curate import heldout, prompts
from tunelift.stages.curate.contamination import WHOLE_INSIDE_WORDS, Questions
from tunelift.stages.curate.leakage import settle
from tunelift.stages.curate.processes import Processes
from tunelift.stages.curate.prompt_pairs import PromptPairs
from tunelift.stages.curate.prompts import Prompts, Said, common_grams
from tunelift.stages.curate.similarity import mixed
from tunelift.stages.curate.split import TEST, TRAIN, VALIDATION

Row = list[tuple[str, str]]
NGRAM, OVERLAP = 4, 0.5
WORD = st.sampled_from([f"w{number}" for number in range(9)] + ["W1,", "w2.", "w3\n"])
USER = st.lists(WORD, min_size=1, max_size=14).map(lambda words: ("user", " ".join(words)))
ROW = st.one_of(
    st.lists(USER, min_size=1, max_size=1),
    st.lists(USER, min_size=2, max_size=3),
    st.tuples(st.lists(WORD, min_size=1, max_size=6).map(lambda words: ("system", " ".join(words))), USER).map(list),
)


class Texts:
    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def prompts(self, rows: np.ndarray) -> list[Row]:
        return [self.rows[row] for row in rows.tolist()]


def looking(rows: list[Row], folder: Path, ngram: int = NGRAM) -> PromptPairs:
    keys = mixed(np.arange(len(rows), dtype=np.uint64))
    texts: Any = Texts(rows)
    with Processes(1) as processes:
        return PromptPairs(Prompts(texts, keys, processes, folder), ngram, OVERLAP)


def joined(row: Row, roles: tuple[str, ...] = ("system", "user")) -> str:
    return "\n".join(text for role, text in row if role in roles)


def words_of(text: str) -> list[int]:
    return prompts.word_hashes([text]).hashes.tolist()


def has(held: Row, row: Row, shared: bool, ngram: int) -> bool:
    """By the rule for evaluation items: all that the user says, or how the conversation begins, if that is not short.

    A short request must be the row's whole request or first message, or from five words on more than half of it.
    """
    opening = next(text for role, text in held if role == "user")
    begins = opening if shared else joined(held[: held.index(("user", opening)) + 1])
    asked, whole = joined(held, ("user",)), [joined(row, ("user",)), next(text for role, text in row if role == "user")]
    if any(
        len(words_of(one)) >= ngram and Questions({"": [one]}, ngram, OVERLAP).matches([joined(row)])
        for one in (asked, begins)
    ):
        return True
    words = words_of(asked)
    return len(words) < ngram and any(
        words == there
        or (
            len(words) >= WHOLE_INSIDE_WORDS
            and len(words) > OVERLAP * len(there)
            and any(words == there[place : place + len(words)] for place in range(len(there)))
        )
        for there in map(words_of, whole)
    )


def found_by_all(rows: list[Row], splits: np.ndarray, ngram: int = NGRAM) -> set[int]:
    return {
        held
        for held in np.flatnonzero(splits != TRAIN).tolist()
        if any(has(rows[held], rows[row], False, ngram) for row in np.flatnonzero(splits != splits[held]).tolist())
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(ROW, min_size=1, max_size=16), st.randoms(use_true_random=False), st.sampled_from([NGRAM, 8]))
def test_the_search_is_exact(tmp_path: Path, rows: list[Row], rng: random.Random, ngram: int) -> None:
    splits = np.array([rng.choice((TRAIN, TRAIN, VALIDATION, TEST)) for _ in rows], np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "COMMON_LEAST_ROWS", 99)
        seeks = looking(rows, tmp_path, ngram)
        left = np.ones(len(rows), bool)
        assert set(seeks.standing(splits, left).tolist()) == found_by_all(rows, splits, ngram)
        dropped = seeks.seen(splits)
        assert not any(splits[row] == TEST for row in dropped)
        left[list(dropped)] = False
        kept = [row for row, stays in zip(rows, left.tolist(), strict=True) if stays]
        assert found_by_all(kept, splits[left], ngram) == set()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(ROW, min_size=4, max_size=24), st.integers(0, 9))
def test_a_settled_split_has_none(tmp_path: Path, rows: list[Row], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "COMMON_LEAST_ROWS", 99)
        seeks = looking(rows, tmp_path)
        config = SplitConfig(validation=0.3, test=0.3)
        none, keys = np.empty((0, 2), np.int64), np.arange(1, len(rows) + 1, dtype=np.uint64)
        sets = reading([set() for _ in rows])
        settled = settle(sets, none, keys, None, config, threshold=0.6, seed=seed, asking=seeks.joining)
        assert found_by_all(rows, settled.splits) == set()


def test_blocks_and_the_parts_of_the_index_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    rows: list[Row] = []
    for number in range(300):
        template = [f"t{place}" for place in range(12)]
        part = [f"w{number // 6}x{place}" for place in range(20)] if number % 2 else template
        own = [f"o{rng.randrange(400)}" for _ in range(rng.randrange(4, 30))]
        rows.append([("user", " ".join([*part, *own]))])
    splits = np.array([rng.choice((TRAIN, TRAIN, TRAIN, VALIDATION, TEST)) for _ in rows], np.uint8)
    monkeypatch.setattr(prompts, "COMMON_LEAST_ROWS", 999)
    left = np.ones(len(rows), bool)
    seeks = looking(rows, tmp_path)
    found = seeks.standing(splits, left).tolist()
    assert set(found) == found_by_all(rows, splits)
    assert 40 < len(found) < np.count_nonzero(splits != TRAIN)
    for module, name, value in (
        (prompts, "BLOCK_ROWS", 7),
        (prompts, "BLOCK_WORDS", 50),
        (prompts, "READ_ROWS", 11),
        (heldout, "BLOCK_PLACES", 9),
        (heldout, "TABLE_BITS", 4),
        (heldout, "FEWER", (1, 2, 3)),
    ):
        monkeypatch.setattr(module, name, value)
        assert looking(rows, tmp_path).standing(splits, left).tolist() == found, name


def test_a_fixed_text_does_not_count_and_a_phrase_does() -> None:
    fixed = "please read the text below and answer"
    rows: list[Said] = [[("user", f"{fixed} what is the w{number} of x{number}")] for number in range(40)]
    common = common_grams(rows)
    for said, left in (
        ("Please read the text below, and ANSWER: w1", 1),
        ("what is the w9", 4),
        ("please read the text", 4),
        (fixed, 0),
        ("read " + fixed + " w1 w2", 3),
    ):
        one = prompts.asked([[("user", said)]], common)
        assert one.sizes.tolist() == [left], said
        assert one.taken.tolist() == [len(prompts.word_hashes([said]).hashes) - left]
    assert len(common_grams(rows[:10])) == 0, "ten rows are a handful"


def test_many_rows_of_one_template_are_looked_at_a_few_times_each(tmp_path: Path) -> None:
    template = " ".join(f"t{place}" for place in range(30))
    rows: list[Row] = [[("user", f"{template} o{number} p{number}")] for number in range(2000)]
    rows += [[("user", " ".join(f"r{number}x{place}" for place in range(30)))] for number in range(24000)]
    seeks, pairs = looking(rows, tmp_path), 0
    splits = np.array([number % 2 * TEST for number in range(len(rows))], np.uint8)
    honest = heldout.Index._covered

    def counted(self: Any, at: np.ndarray, item: np.ndarray, here: np.ndarray) -> np.ndarray:
        nonlocal pairs
        pairs += len(at)
        return honest(self, at, item, here)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heldout.Index, "_covered", counted)
        found = seeks.joining(splits, np.arange(len(rows)), np.ones(len(rows), bool), exact=False)
    assert set(map(int, found.flat)) == set(range(2000))
    assert pairs < 20 * 2000
