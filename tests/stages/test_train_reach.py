"""Parts of a regular expression, each tried alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.stages.train.reach import alternatives, in_words

PARTED = {"c": "(?:a|)(?P<n>c)", "d": "(?:a|)(?P<n>d)"}


@pytest.mark.parametrize(
    ("pattern", "alone"),
    [
        (r".*\.(q_proj|v_porj)", {"q_proj": r".*\.(q_proj)", "v_porj": r".*\.(v_porj)"}),
        (r"a|b", {"a": "a", "b": "b"}),
        (r"x(a(b|c)|d)", {"b": "x(a(b))", "c": "x(a(c))", "a(b|c)": "x(a(b|c))", "d": "x(d)"}),
        (
            r"(?:a|)(?P<n>c|d)",
            {"a": "(?:a)(?P<n>c|d)", "": "(?:)(?P<n>c|d)", **PARTED},
        ),
        (r"(|a)", {"": "()", "a": "(a)"}),
        (r"[|(]\|[]|]\(", {}),
    ],
)
def test_each_alternative_stands_alone_in_its_group(pattern: str, alone: dict[str, str]) -> None:
    assert dict(alternatives(pattern)) == alone


NAMES = st.sampled_from(["a", "bc", "d1", r"e\.f", "[gh]"])
PATTERNS = st.recursive(
    NAMES, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"), max_leaves=8
)


@given(st.lists(PATTERNS, min_size=1, max_size=3).map("".join))
def test_what_an_alternative_alone_matches_the_whole_pattern_matches(pattern: str) -> None:
    whole = re.compile(pattern)
    for text in ("a", "bc", "d1", "e.f", "g", "abc", "aa", "d1g"):
        for _, alone in alternatives(pattern):
            assert not re.fullmatch(alone, text) or whole.fullmatch(text)


@given(st.text(alphabet="ab(|)[]\\\\?:.*", max_size=12))
def test_any_regular_expression_is_taken_apart(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, FutureWarning):  # It warns of sets that may mean something else one day.
        return
    assert all(isinstance(alone, str) for _, alone in alternatives(pattern))


def test_counts_are_told_for_each_kind_of_layer() -> None:
    assert in_words({"q_proj": (10, 30), "v_proj": (30, 30)}) == "q_proj 10 of 30, v_proj 30 of 30 layers"
