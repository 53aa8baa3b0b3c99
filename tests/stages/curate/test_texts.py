"""Rows as text: cut to a length, and two of them with what differs marked."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from tunelift.stages.curate.texts import LONGEST, MOST_TURNS, cut, shown, side_by_side, spanned, turns


def said(*texts: str) -> dict[str, Any]:
    return {
        "messages": [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=False)]
    }


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["messages", "role", "a"]), inner),
    max_leaves=8,
)


@given(values)
def test_any_value_is_turns_of_text(value: Any) -> None:
    assert all(isinstance(name, str) and isinstance(text, str) for name, text in turns(value))


def test_a_row_of_any_format_reads_alike() -> None:
    expected = [("user", "Hi"), ("assistant", "Hello")]
    assert turns(said("Hi", "Hello")) == expected
    assert turns({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}) == expected
    assert turns({"instruction": "Hi", "input": "", "output": "Hello"}) == expected
    assert turns({"prompt": "Hi", "completion": "Hello"}) == expected


@given(st.lists(st.tuples(st.just("user"), st.text(max_size=2000)), max_size=30))
def test_what_is_shown_is_bounded_and_whole_where_there_is_room(found: list[tuple[str, str]]) -> None:
    told = shown(found)
    assert len(told) == min(len(found), MOST_TURNS) + (len(found) > MOST_TURNS)
    assert sum(len(text) for _, text in told) <= LONGEST + MOST_TURNS * len(" … 2,000 more characters") + 20
    if sum(len(text) for _, text in found) <= LONGEST and len(found) <= MOST_TURNS:
        assert told == found


def test_a_long_message_leaves_the_reply_its_room() -> None:
    assert shown([("user", "x" * 10_000), ("assistant", "Done.")])[1] == ("assistant", "Done.")


def test_cutting_says_how_much_is_left_out() -> None:
    assert cut("abcdef", 4) == "abcd … 2 more characters"
    assert cut("abcd", 4) == "abcd"


words = st.lists(st.sampled_from(["a", "b", "<b>", "&", "\n", "'"]), max_size=30).map(" ".join)


@given(words, words)
def test_unmarked_words_are_those_that_both_rows_share(one: str, other: str) -> None:
    left, right = (str(side) for side in side_by_side(said(one), said(other)))
    shared = [re.sub(r"<mark>.*?</mark>", " ", side, flags=re.DOTALL).split() for side in (left, right)]
    assert shared[0] == shared[1]
    whole = [Markup(side.replace("<mark>", "").replace("</mark>", "")).unescape().split() for side in (left, right)]
    if max(map(len, whole)) <= 30 and "…" not in left + right:
        assert whole == [one.split(), other.split()]


def test_long_runs_that_both_rows_share_are_left_out() -> None:
    text = " ".join(f"w{number}" for number in range(200))
    left, _ = side_by_side(said(text + " 7 pm"), said(text + " 8 pm"))
    assert left.startswith("w0 ") and " … w188" in left and "<mark>7</mark> pm" in left and "w100" not in left


@pytest.mark.parametrize("size", [10**6, 10**4])
def test_huge_rows_are_compared_in_bounded_time_and_length(size: int) -> None:
    left, right = side_by_side(said("x" * size), said("y " * size))
    assert len(left) < 1_000 and len(right) < 1_000


def test_a_span_is_marked_where_it_stands_and_alone_where_it_does_not() -> None:
    row = said("Today <b>. " + "x" * 900 + " find me " + "y" * 900)
    found = spanned(row, "find me")
    assert "<mark>find me</mark>" in found and len(found) < LONGEST + 60 and found.startswith("… x")
    assert spanned(row, "<i>") == "<mark>&lt;i&gt;</mark>"
