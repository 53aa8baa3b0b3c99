"""Rules on text: what counts as right."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.scorers.making import REMIND, anything, item, one, scorer, task
from tunelift.errors import UserError


@pytest.mark.parametrize(
    ("output", "accepted", "expected"),
    [
        ('{"arguments": {"minutes": 30.0, "text": " Call  anna! "}, "tool": "remind"}', REMIND, 1),
        ('  {"tool":"remind","arguments":{"text":"call Anna","minutes":30}}\n', REMIND, 1),
        ('{"tool":"remind","arguments":{"text":"call Anna"}}', REMIND, 0),
        ('{"tool":"remind","arguments":{"text":"call Anna","minutes":"30"}}', REMIND, 0),
        ('{"tool":"remind","tool":"remind","arguments":{"text":"call Anna","minutes":30}}', REMIND, 0),
        ('```json\n{"tool": null}\n```', {"tool": None}, 0),
        ('{"tool": null} ', {"tool": None}, 1),
        ("{}", {"tool": None}, 0),
        ('{"a": true}', {"a": 1}, 0),
        ('{"a": 1}', {"a": True}, 0),
        ('{"a": 0}', {"a": False}, 0),
        ('{"a": null}', {}, 0),
        ('{"a": -0.0}', {"a": 0}, 1),
        ('{"a": 1e2}', {"a": 100}, 1),
        ("[1, 2]", [2, 1], 0),
        ('{"a": "Cafe\u0301"}', {"a": "café"}, 1),
        ("  It is  PARIS. ", "it is Paris", 1),
        ("42", "42", 1),
        ('"Paris"', "Paris", 0),
        ("...", "", 0),
    ],
)
def test_exact_match(output: str, accepted: object, expected: float) -> None:
    assert one("exact_match", output, accepted) == expected


def test_any_accepted_answer_is_right() -> None:
    assert one("exact_match", '{"a": 2}', {"a": 1}, {"a": 2}) == 1
    assert one("exact_match", "two", {"a": 1}, "two") == 1


@pytest.mark.parametrize(
    ("options", "output", "accepted", "expected"),
    [
        ({"pattern": "[0-9]{4}-[0-9]{2}"}, "on 2026-03-11", "", 1),
        ({"pattern": "^[0-9]{4}$"}, "on 2026", "", 0),
        ({"pattern": "paris"}, "Paris", "", 0),
        ({"pattern": "paris", "ignore_case": True}, "Paris", "", 1),
        ({"pattern": "#### (.+)", "group": 1}, "2+2\n#### 4.", "4", 1),
        ({"pattern": "#### (.+)", "group": 1}, "#### 5", "4", 0),
        ({"pattern": "#### (.+)", "group": 1}, "5", "5", 0),
        ({"pattern": "[0-9]+", "group": 0, "last": True}, "first 1, then 42", "42", 1),
        ({"pattern": "[0-9]+", "group": 0}, "first 1, then 42", "42", 0),
        ({"pattern": "(a)|b", "group": 1}, "b", "a", 0),
    ],
)
def test_regex(options: dict[str, object], output: str, accepted: str, expected: float) -> None:
    assert one("regex", output, accepted, **options) == expected


@pytest.mark.parametrize("options", [{"pattern": "("}, {"pattern": "a", "group": 1}, {"pattern": "a{99999999999}"}])
def test_a_pattern_that_cannot_work_is_refused_at_load(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="pattern="):
        scorer("regex", **options)


@pytest.mark.parametrize(
    ("options", "output", "expected"),
    [
        ({"texts": ["kind  regards", "yours"]}, "… Kind\nRegards, A.", 1),
        ({"texts": ["kind regards", "yours"], "every": True}, "Kind regards, A.", 0),
        ({"texts": ["no"]}, "I know", 1),
        ({"texts": ["no"], "whole_words": True}, "I know", 0),
        ({"texts": ["C++"], "whole_words": True}, "I like C++!", 1),
        ({}, "It is Paris, in France", 1),
        ({}, "It is Lyon", 0),
    ],
)
def test_contains(options: dict[str, object], output: str, expected: float) -> None:
    assert one("contains", output, "Paris", "paname", **options) == expected


def test_not_contains_is_the_opposite_of_contains() -> None:
    for output in ("As an AI I cannot", "sorry!", "fine"):
        found = one("contains", output, texts=["as an ai", "sorry"])
        assert one("not_contains", output, texts=["as an ai", "sorry"]) == 1 - found


@pytest.mark.parametrize(
    ("options", "output", "expected"),
    [
        ({"at_most": 5}, "  12345\n", 1),
        ({"at_most": 5}, "123456", 0),
        ({"at_least": 2, "unit": "words"}, "one", 0),
        ({"at_least": 2, "at_most": 2, "unit": "words"}, "one\n two", 1),
    ],
)
def test_length(options: dict[str, object], output: str, expected: float) -> None:
    assert one("length", output, **options) == expected


@pytest.mark.parametrize("options", [{}, {"at_least": 3, "at_most": 2}, {"at_most": -1}])
def test_impossible_bounds_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError):
        scorer("length", **options)


@pytest.mark.parametrize(
    ("options", "output", "accepted", "expected"),
    [
        ({}, "1,234.50", 1234.5, 1),
        ({}, " −3.\n", "-3", 1),
        ({}, "about 3", 3, 0),
        ({}, "1e3", 1000, 1),
        ({"find": "last"}, "10-20 makes 15, so $1,500 in all.", 1500, 1),
        ({"find": "last"}, "between 10-20", 20, 1),
        ({"find": "last"}, "none at all", 0, 0),
        ({"tolerance": 0.01}, "0.3", 0.29, 1),
        ({"tolerance": 0.01}, "0.3001", 0.29, 0),
        ({"relative_tolerance": 0.1}, "110", 100, 1),
        ({"relative_tolerance": 0.1}, "111", 100, 0),
        ({"tolerance": 20, "relative_tolerance": 0.1}, "111", 100, 1),
        ({}, "9" * 1000, 9, 0),
        ({}, "1e99999", 9, 0),
        ({}, "1e-99999", 0, 1),
        ({}, "٣", 3, 0),
    ],
)
def test_number(options: dict[str, object], output: str, accepted: object, expected: float) -> None:
    assert one("number", output, accepted, **options) == expected


@given(st.integers(-(10**12), 10**12) | st.floats(-1e12, 1e12), st.floats(0, 10))
def test_a_number_matches_itself_however_it_is_written(value: float, tolerance: float) -> None:
    for written in (repr(value), f"{value:,}"):
        assert one("number", written, value, tolerance=tolerance) == 1
        assert one("number", f"I think that it is {written}", value, find="last") == 1


@given(anything, anything)
def test_no_text_makes_a_text_rule_raise(output: str, accepted: str) -> None:
    rules = [
        scorer("exact_match"),
        scorer("exact_match", find="anywhere"),
        scorer("regex", pattern="(a|[0-9]+)", group=1, last=True),
        scorer("contains", whole_words=True),
        scorer("not_contains", texts=["no"]),
        scorer("length", at_most=3, unit="words"),
        scorer("number", tolerance=0.5),
        scorer("number", find="last", relative_tolerance=0.5),
    ]
    for rule in rules:
        assert rule.function(output, item(accepted), task()) in {0, 1}, rule.name


@given(st.text(alphabet=string.digits + ".,-+eE−", max_size=30))
def test_almost_numbers_make_no_rule_raise(output: str) -> None:
    assert one("number", output, 1, find="last", tolerance=1) in {0, 1}
    assert one("number", output, output) in {0, 1}
