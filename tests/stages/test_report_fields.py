"""Which fields of a JSON answer count as unlike the expected one: those that a scorer takes for unlike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.stages.report.fields import MOST_ROWS, field_differences
from tunelift.tasks.scorers.json_values import canonical_json


def paths(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    return [(row["kind"], row["path"]) for row in found["rows"]] if found else []


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ("Lunch with Anna", "lunch  with anna."),
        ("Straße", "STRASSE"),
        ("Café!", "Cafe\u0301"),
        ("a\nb", " a b "),
        (2, 2.0),
        (-0.0, 0),
        ([1, 2.0, "A"], [1.0, 2, "a"]),
        ({}, {}),
    ],
)
def test_what_the_scorer_does_not_see_is_no_difference(expected: Any, got: Any) -> None:
    right, wrong = {"kept": expected, "tool": "book"}, {"kept": got, "tool": "sell"}
    found = field_differences([right], json.dumps(wrong))
    assert paths(found) == [("differs", "tool")]
    assert field_differences([right], json.dumps({"kept": got, "tool": "Book."})) is None


@pytest.mark.parametrize(
    ("expected", "got"), [("5", 5), (True, 1), (None, "null"), (1, 1.5), ("a!b", "a b"), ({}, []), ("", None)]
)
def test_what_the_scorer_sees_is_one(expected: Any, got: Any) -> None:
    found = field_differences([{"kept": expected}], json.dumps({"kept": got}))
    assert found and found["rows"] == [
        {"path": "kept", "kind": "differs", "expected": json.dumps(expected), "got": json.dumps(got)}
    ]


def test_where_the_task_is_strict_case_and_marks_are_differences_and_numbers_are_not() -> None:
    right, wrong = {"path": "README.md", "n": 2}, json.dumps({"path": "readme.md", "n": 2.0})
    assert paths(field_differences([right], wrong, strict=True)) == [("differs", "path")]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([1.0, 0.5, "A", "a", "a.", " a", "b", "ﬁ", "", "!"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "Z"]), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_nothing_differs_exactly_where_the_canonical_forms_are_equal(one: Any, other: Any) -> None:
    expected, got = {"v": one}, {"v": other}
    found = field_differences([expected], json.dumps(got))
    if canonical_json(expected) == canonical_json(got):
        assert found is None
    elif found is None:
        # Only lists of objects in another order, which may be calls.
        assert sorted(canonical_json(got)) == sorted(canonical_json(expected))


def test_the_nearest_accepted_answer_is_the_one_compared_with() -> None:
    accepted = [{"a": 1, "b": 2, "c": 3}, {"a": 9, "b": 2, "c": 4}, "no JSON", '{"a": 9, "b": 3, "c": 4}']
    found = field_differences(accepted, '{"a": 9, "b": 3, "c": 5}')
    assert found == {"rows": [{"path": "c", "kind": "differs", "expected": "4", "got": "5"}], "total": 1, "equal": 2}


def test_calls_are_set_beside_those_that_they_are_like() -> None:
    calls = [{"tool": "a", "x": "Red"}, {"tool": "b", "x": 2}]
    assert field_differences([calls], json.dumps([calls[1], {"tool": "A", "x": "red."}])) is None
    found = field_differences([calls], json.dumps([{"tool": "b", "x": 3}]))
    assert paths(found) == [("missing", "[1].tool"), ("missing", "[1].x"), ("differs", "[2].x")]


@pytest.mark.parametrize(
    "spelling",
    [
        '{"name": "book", "parameters": {"day": "mon", "n": 2}}',
        '<tool_call>{"tool": "book", "arguments": {"day": "mon", "n": 2}}</tool_call>',
        '[{"function": {"name": "book", "arguments": "{\\"day\\": \\"mon\\", \\"n\\": 2}"}}]',
        '[book(day="mon", n=2)]',
    ],
)
def test_the_spelling_of_a_call_is_no_difference_where_calls_are_compared(spelling: str) -> None:
    accepted = [{"tool": "book", "arguments": {"day": "Mon.", "n": 3}}]
    found = field_differences(accepted, spelling, as_calls=True)
    assert found == {
        "rows": [{"path": "arguments.n", "kind": "differs", "expected": "3", "got": "2"}], "total": 1, "equal": 2
    }  # fmt: skip


@pytest.mark.parametrize("output", ["no JSON", "[" * 15_000, '{"a": 1', "null", '"text"', "3", "", '{"a": 1, "a": 2}'])
def test_what_is_no_json_object_or_list_has_no_fields(output: str) -> None:
    assert field_differences([{"a": 2}], output) is None
    assert field_differences(["text", 5, None], '{"a": 1}') is None


def test_long_lists_and_deep_values_are_compared_whole_and_many_rows_counted() -> None:
    found = field_differences([{"l": list(range(50))}], json.dumps({"l": list(range(51))}))
    assert paths(found) == [("differs", "l")]
    found = field_differences([{str(n): n for n in range(99)}], "{}")
    assert found and len(found["rows"]) == MOST_ROWS and found["total"] == 100 and found["equal"] == 0
