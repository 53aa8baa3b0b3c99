"""Near duplicates: those a person would call the same are found, and only those are dropped."""

from __future__ import annotations

import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.curate.similar import Row, answering, edited, pairs_above, words
from tests.wording import own_words
from tunelift.config.curation import DuplicatesConfig, SourceConfig
from tunelift.stages.curate.detection import detect
from tunelift.stages.curate.formats import to_conversation
from tunelift.stages.curate.near import (
    Pair,
    Pairs,
    candidates,
    choose,
    conflicts,
    joined,
    near_duplicates,
    sketch,
)
from tunelift.stages.curate.read import parsed, read_source
from tunelift.stages.curate.rows import RawRow
from tunelift.stages.curate.similarity import common_shingles, row_sets

TOOL_CALLS = Path(__file__).parents[3] / "data" / "tool_calls"
NOTHING = np.empty(0, np.uint64)


def found(rows: list[Row], **config: Any) -> Pairs:
    settings = DuplicatesConfig(**config)
    common = common_shingles(answering(rows), len(rows), settings.on)
    return near_duplicates(answering(rows), sketch(rows, settings.on, common), settings, common)


def kinds(rows: list[Row], **config: Any) -> dict[tuple[int, int], str]:
    return {(pair.a, pair.b): pair.kind for pair in found(rows, **config)}


def dropped(rows: list[Row], **config: Any) -> set[int]:
    return set(choose(found(rows, **config), len(rows)))


def conversation(seed: int) -> Row:
    said = words(150, seed)
    return " ".join(said[:50]), " ".join(said[50:])


def test_edits_of_2_to_5_percent_of_the_words_are_found() -> None:
    rows = [conversation(seed) for seed in range(500)]
    share = random.Random(1)
    copies = [
        (" ".join(edited(prompt.split(), share.uniform(0.02, 0.05), seed)), " ".join(edited(reply.split(), 0.03, seed)))
        for seed, (prompt, reply) in enumerate(rows)
    ]
    answer = kinds(rows + copies)
    recall = sum(answer.get((number, 500 + number)) == "duplicate" for number in range(500)) / 500
    assert recall >= 0.99
    assert all(b == a + 500 for a, b in answer)


def test_no_variant_in_numbers_alone_is_dropped_unless_asked() -> None:
    rows = [
        (f"{prompt} Room {number} is booked for {number % 7 + 2} people.", reply)
        for prompt, reply in map(conversation, range(10))
        for number in range(10)
    ]
    answer = kinds(rows)
    assert len({b for _, b in answer}) == 90
    assert set(answer.values()) == {"values_differ"}
    assert dropped(rows, keep_values=False) == {row for row in range(100) if row % 10}


def test_the_threshold_is_exact_jaccard() -> None:
    rows = [(" ".join(edited(words(60, seed % 30), 0.02 * (1 + seed // 30), seed)), "Yes.") for seed in range(90)]
    sets = row_sets(rows, "prompt", common_shingles(answering(rows), len(rows), "prompt"))
    for threshold in (0.5, 0.6, 0.8):
        exact = pairs_above([set(sets.of(row).tolist()) for row in range(len(rows))], threshold)
        answer = set(kinds(rows, on="prompt", threshold=threshold))
        assert answer <= exact
        assert len(answer) >= 0.9 * len(exact) > 0


INSTRUCTION = (
    "Read the review of a product below, think about what its author says of it, and answer in one word whether the "
    "author is happy with it or not. The review is this one: "
)


@pytest.mark.parametrize("count", [20, 99, 100])
def test_a_long_instruction_before_short_texts_makes_no_duplicates_of_few_rows_either(count: int) -> None:
    rows = [(INSTRUCTION + own_words(row, 4 + row % 3), ("Happy", "Unhappy")[row % 2]) for row in range(count)]
    assert dropped(rows) == set()


@pytest.mark.parametrize("count", [20, 60, 99])
def test_copies_among_few_rows_are_found_behind_an_instruction_too(count: int) -> None:
    rows = [(INSTRUCTION + own_words(row, 40), "Happy") for row in range(count - 9)]
    rows += [(INSTRUCTION + " ".join(edited(own_words(0, 40).split(), 0.03, seed)), "Happy") for seed in range(9)]
    assert dropped(rows) == set(range(count - 9, count))


def test_short_replies_that_differ_are_two_rows_of_one_group() -> None:
    prompt = " ".join(words(60, 1))
    rows = [(prompt, "positive"), (prompt + " please", "negative"), (prompt + " thanks", "positive")]
    assert kinds(rows) == {(0, 1): "related", (0, 2): "duplicate", (1, 2): "related"}


def test_replies_that_differ_in_a_value_alone_are_told_as_such() -> None:
    prompt = " ".join(words(60, 1))
    rows = [(f"{prompt} {number}", json.dumps({"tool": "set_timer", "minutes": number})) for number in (5, 7)]
    assert kinds(rows) == {(0, 1): "values_differ"}
    assert kinds(rows, keep_values=False) == {(0, 1): "related"}


def test_one_long_reply_to_different_questions_is_no_duplicate() -> None:
    reply = " ".join(words(120, 5))
    rows = [("How do I reset my password?", reply), ("Where can people find their invoices?", reply)]
    assert kinds(rows) == {(0, 1): "related"}
    assert kinds(rows, on="reply") == {(0, 1): "duplicate"}
    assert kinds(rows, on="prompt") == {}


@pytest.mark.parametrize(
    ("prompt", "copy"),
    [
        ("Who are you?", "so who are you?"),
        ("Locate PO-51509", "Hi! Locate PO-51509"),
        ("Remind me.\nLocate the parcel", "Remind me.\nwell Locate the parcel"),
        ("Spell necessary for me", "Spell necessary for me ASAP"),
        ("Say it again", "SAY IT AGAIN!!"),
    ],
)
def test_a_word_more_at_an_edge_of_a_short_text_makes_no_new_row(prompt: str, copy: str) -> None:
    assert kinds([(prompt, "ok"), ("Something else entirely", "ok"), (copy, "ok")]) == {(0, 2): "duplicate"}
    assert kinds([(copy, "ok"), (prompt, "other")]) == {}


@pytest.mark.parametrize(
    ("prompt", "other"),
    [
        ("The film is good", "The film is not good"),
        ("The lamp is on", "The lamp is off"),
        ("Tell me more of it", "Tell me more of it 2"),
        ("Track order 15 now", "Track order 51 now"),
    ],
)
def test_a_word_that_matters_makes_a_new_row(prompt: str, other: str) -> None:
    assert dropped([(prompt, "ok"), (other, "ok")]) == set()


def test_a_row_stays_unless_it_is_like_an_earlier_one_that_stays() -> None:
    listed = [
        Pair(0, 1, 0.9, "duplicate"),
        Pair(1, 2, 0.9, "duplicate"),
        Pair(2, 4, 0.8, "duplicate"),
        Pair(0, 3, 0.9, "values_differ"),
        Pair(0, 4, 0.7, "duplicate"),
        Pair(3, 5, 0.7, "related"),
    ]
    pairs = Pairs.of(listed)
    assert list(pairs) == listed
    assert {row: pair.a for row, pair in choose(pairs, 6).items()} == {1: 0, 4: 0}
    assert choose(Pairs.of(listed[::-1]), 6) == choose(pairs, 6)


def test_pairs_are_held_in_few_bytes_and_come_back_as_they_were() -> None:
    listed = [
        Pair(number, number + 1, 0.75, ("duplicate", "values_differ", "related")[number % 3]) for number in range(5000)
    ]
    pairs = Pairs.of(listed)
    assert sum(column.nbytes for column in vars(pairs).values()) == 25 * len(pairs) == 25 * 5000
    assert list(Pairs.joined([pairs.where(slice(0, 7)), pairs.where(slice(7, None))])) == listed
    assert list(Pairs.joined([])) == []


@settings(max_examples=30)
@given(st.lists(st.integers(1, 29), max_size=4))
def test_neither_chunks_nor_processes_change_the_answer(cuts: list[int]) -> None:
    rows = [(" ".join(edited(words(20, seed % 8), 0.1, seed)), "ok") for seed in range(30)] + [("", "")]
    bounds = [0, *sorted(cuts), len(rows)]
    parts = [sketch(rows[a:b], "both", NOTHING) for a, b in pairwise(bounds)]
    whole = sketch(rows, "both", NOTHING)
    assert all((one == other).all() for one, other in zip(joined(parts), whole, strict=True))
    config = DuplicatesConfig()
    with ThreadPoolExecutor(2) as pool:
        spread = near_duplicates(answering(rows), joined(parts), config, NOTHING, pool.map)
    assert list(spread) == list(near_duplicates(answering(rows), whole, config, NOTHING))
    assert len(spread)


def test_a_bucket_of_thousands_gives_few_candidates_and_one_row() -> None:
    rows = [("The very same short request again", "ok")] * 2000
    known = sketch(rows, "both", NOTHING)
    assert len(candidates(known, 0.6)) < 10 * len(rows)
    assert dropped(rows) == set(range(1, 2000))


def test_rows_without_words_are_left_alone() -> None:
    assert not len(found([("", ""), ("!!!", "…"), ("", "")]))
    assert not len(found([]))


def test_conflicts_are_prompts_with_several_replies() -> None:
    prompts = np.array([5, 7, 5, 9, 7, 5, 0], np.uint64)
    replies = np.array([1, 2, 1, 3, 4, 8, 0], np.uint64)
    assert conflicts(prompts, replies) == [[0, 2, 5], [1, 4]]
    assert conflicts(prompts[:0], replies[:0]) == []


def test_each_planted_near_duplicate_is_found_and_nothing_else_is_dropped() -> None:
    rows, places = shipped()
    truth = json.loads((TOOL_CALLS / "truth.json").read_text())
    planted = {
        kind: {
            tuple(sorted((places[flaw["file"], flaw["line"]], places[flaw["twin"]["file"], flaw["twin"]["line"]])))
            for flaw in truth["flaws"]
            if flaw["kind"] == kind
        }
        for kind in ("near_duplicate", "exact_duplicate")
    }
    answer = kinds(rows)
    assert Counter(answer.get(pair) for pair in planted["near_duplicate"]) == {"duplicate": 40}
    others = {
        pair: (rows[pair[0]], rows[pair[1]])
        for pair, kind in answer.items()
        if kind == "duplicate" and pair not in planted["near_duplicate"] | planted["exact_duplicate"]
    }
    # Two rows that the maker of the data wrote again with "Hello again," before them.
    assert len(others) == 2
    assert all("Hello again" in one[0] + other[0] and one[1] == other[1] for one, other in others.values())


def shipped() -> tuple[list[Row], dict[tuple[str, int], int]]:
    """The shipped raw rows that hold a conversation, and the number of each by file and line."""
    rows: list[Row] = []
    places: dict[tuple[str, int], int] = {}
    for path in sorted((TOOL_CALLS / "raw").iterdir()):
        source = SourceConfig(path=str(path))
        shape, read = detect(source, parsed(read_source(source)))
        for row in read:
            try:
                messages, _ = to_conversation(row.value, shape, None) if isinstance(row, RawRow) else ([], None)
            except Exception:
                continue
            texts = ["\n".join(m["content"] for m in messages if m["role"] == role) for role in ("user", "assistant")]
            if texts[1].strip():
                places[path.name, row.line] = len(rows)
                rows.append((texts[0], texts[1]))
    return rows, places
