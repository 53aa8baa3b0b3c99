"""JSON: strict, canonical, and found inside other text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.scorers.making import anything, json_values
from tunelift.tasks.scorers import NotJsonError, canonical_json, canonical_text, parse_json
from tunelift.tasks.scorers.json_values import parse_json_row


def test_text_of_nothing_but_marks_keeps_them() -> None:
    assert canonical_text(" ?! ") == "?!"
    assert canonical_text("Really ?!  ") == "really"


@pytest.mark.parametrize(
    ("left", "right"),
    [("Don’t", "don't"), ("“so”", '"so"'), ("東京。", "東京"), ("ＡＢＣ１！", "abc1"), ("\ufeffa\u200b", "a"),
     ("a\u00a0b", "a b"), ("धन्यवाद।", "धन्यवाद"), ("so…", "so")],
)  # fmt: skip
def test_what_a_reader_takes_for_the_same_is_equal(left: str, right: str) -> None:
    assert canonical_text(left) == canonical_text(right)
    assert canonical_json({"k": [left]}) == canonical_json({"k": [right]})
    assert canonical_text(left, strict=True) != canonical_text(right, strict=True)


@pytest.mark.parametrize(
    ("left", "right"), [("café", "cafe"), ("10–20", "10-20"), ("x²", "x2"), ("ﬁ ne", "fi  n"), ("a,b", "ab")]
)
def test_other_signs_are_others(left: str, right: str) -> None:
    assert canonical_text(left) != canonical_text(right)


@given(st.text())
def test_canonical_text_is_a_fixed_point(text: str) -> None:
    assert canonical_text(canonical_text(text)) == canonical_text(text)


@given(json_values)
def test_canonical_json_reads_back_as_the_same_answer(value: object) -> None:
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('As in [1], the answer is {"a": [1, 2]}.', {"a": [1, 2]}),
        ('{"a": 1} or rather {"a": 1, "b": 2}', {"a": 1, "b": 2}),
        ('{broken {"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        (" 3 ", 3),
    ],
)
def test_json_is_found_anywhere_and_the_longest_counts(text: str, value: object) -> None:
    assert parse_json(text, "anywhere") == value


@pytest.mark.parametrize("text", ["", "no JSON", "{", '{"a": NaN}', "[" * 100_000, '{"a": 1, "a": 2}'])
def test_what_holds_no_json_holds_none_anywhere(text: str) -> None:
    with pytest.raises(NotJsonError):
        parse_json(text, "anywhere")


@given(anything)
def test_no_text_breaks_the_readers(text: str) -> None:
    for read in (parse_json, parse_json_row, lambda text: parse_json(text, "anywhere")):
        try:
            read(text)
        except NotJsonError:
            continue


@given(st.dictionaries(st.text(), json_values))
def test_an_object_is_found_in_a_code_fence(value: dict[str, object]) -> None:
    assert canonical_json(parse_json(f"Here:\n```json\n{json.dumps(value)}\n```", "anywhere")) == canonical_json(value)
