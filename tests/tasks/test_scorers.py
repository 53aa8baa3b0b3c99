"""Scorers: what counts as right, and that nothing a model writes can make them raise."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.tasks import scorers
from tunelift.tasks.scorers import SCORERS, canonical_json, canonical_text, score
from tunelift.tasks.task import Item, Task

TOOLS = (
    {
        "name": "remind",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "date": {"type": "string", "format": "date"},
                "minutes": {"type": "integer", "minimum": 1},
            },
            "required": ["text"],
            "additionalProperties": False,
        },
    },
    {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}},
)
REMIND = {"tool": "remind", "arguments": {"text": "call Anna", "minutes": 30}}


def item(*accepted: object) -> Item:
    return Item(id="1", prompt=(), instructed=(), accepted=accepted, question="")


def task() -> Task:
    return Task("t", 1, "target", "", "", (), tuple(SCORERS), "exact_match", 8, TOOLS)


def one(name: str, output: str, *accepted: object) -> float:
    return SCORERS[name].function(output, item(*accepted), task())


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
    ("output", "expected"),
    [
        ("{}", 1),
        (" [1, null]\n", 1),
        ("3", 1),
        ("", 0),
        ("{} {}", 0),
        ('Sure! {"a": 1}', 0),
        ("```json\n{}\n```", 0),
        ("{'a': 1}", 0),
        ('{"a": NaN}', 0),
        ("[-Infinity]", 0),
        ("1e999", 0),
        ('{"a": 1, "a": 1}', 0),
        ('{"a": {"b": 1, "b": 2}}', 0),
        ("\u00a0{}", 0),
        ("[" * 64 + "]" * 64, 1),
        ("[" * 70 + "]" * 70, 0),
        ("[" * 100_000 + "]" * 100_000, 0),
        ("9" * 5000, 0),
    ],
)
def test_valid_json_forgives_nothing(output: str, expected: float) -> None:
    assert one("valid_json", output) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (REMIND, 1),
        ({"tool": "remind", "arguments": {"text": "x", "date": "2026-03-11"}}, 1),
        ({"tool": "remind", "arguments": {"text": "x", "date": "2026-02-30"}}, 0),
        ({"tool": "remind", "arguments": {"text": "x", "date": "20260311"}}, 0),
        ({"tool": "remind", "arguments": {"text": "x", "date": "tomorrow"}}, 0),
        ({"tool": "remind", "arguments": {"text": "x", "minutes": True}}, 0),
        ({"tool": "remind", "arguments": {"text": "x", "minutes": 0}}, 0),
        ({"tool": "remind", "arguments": {"text": "x", "extra": 1}}, 0),
        ({"tool": "remind", "arguments": {}}, 0),
        ({"tool": "remind"}, 0),
        ({**REMIND, "why": "so"}, 0),
        ({"tool": "ping", "arguments": {}}, 1),
        ({"tool": "nope", "arguments": {}}, 0),
        ({"tool": ["remind"], "arguments": {}}, 0),
        ({"tool": None}, 1),
        ({"tool": None, "arguments": {"text": "x"}}, 0),
        ({}, 0),
        ([], 0),
    ],
)
def test_schema_valid(call: object, expected: float) -> None:
    assert one("schema_valid", json.dumps(call)) == expected


def test_right_tool_looks_at_the_name_alone() -> None:
    assert one("right_tool", '{"tool": "remind", "arguments": 3}', REMIND) == 1
    assert one("right_tool", '{"tool": "ping"}', REMIND) == 0
    assert one("right_tool", '{"tool": null}', {"tool": None}) == 1
    assert one("right_tool", "{}", {"tool": None}) == 0, "a missing key is not null"
    assert one("right_tool", "remind", REMIND) == 0


def test_field_f1_counts_paths_with_their_values() -> None:
    assert one("field_f1", '{"tool": "remind", "arguments": {"text": "call Anna", "minutes": 30}}', REMIND) == 1
    # Two of three fields: precision 1, recall 2/3.
    assert one("field_f1", '{"tool": "remind", "arguments": {"text": "CALL ANNA."}}', REMIND) == pytest.approx(0.8)
    assert one("field_f1", '{"tool": "ping", "arguments": {}}', REMIND) == 0
    assert one("field_f1", "{}", {}) == 1
    assert one("field_f1", "no JSON", {}) == 0
    assert one("field_f1", '{"a": 1}', {"b": 1}, {"a": 1, "c": 2}) == pytest.approx(2 / 3)
    assert one("field_f1", "yes.", "Yes") == 1


def test_text_of_nothing_but_marks_keeps_them() -> None:
    assert canonical_text(" ?! ") == "?!"
    assert canonical_text("Really ?!  ") == "really"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values.filter(lambda value: not isinstance(value, str)))
def test_an_answer_matches_itself(value: object) -> None:
    output = json.dumps(value)
    assert one("exact_match", output, value) == 1
    assert one("field_f1", output, value) == 1
    assert one("valid_json", output, value) == 1


@given(st.dictionaries(st.text(), json_values, min_size=2), st.randoms())
def test_key_order_does_not_matter(value: dict[str, object], rng: random.Random) -> None:
    entries = list(value.items())
    rng.shuffle(entries)
    assert one("exact_match", json.dumps(dict(entries)), value) == 1


@given(st.text() | json_values.map(json.dumps), json_values)
def test_no_output_makes_a_scorer_raise_or_leave_its_range(output: str, accepted: object) -> None:
    for name, value in score(output, item(accepted, {"tool": None}), task()).items():
        assert 0 <= value <= 1, name
        assert SCORERS[name].kind == "graded" or value in {0, 1}, name


@given(st.text(alphabet='{}[]":,tool null truefs019.eE-\\u\n', max_size=40))
def test_almost_json_makes_no_scorer_raise(output: str) -> None:
    score(output, item(REMIND), task())


@given(json_values, json_values)
def test_exact_match_implies_full_field_f1_and_valid_json(left: object, right: object) -> None:
    output = json.dumps(left)
    if not isinstance(right, str) and one("exact_match", output, right):
        assert one("field_f1", output, right) == 1
        assert one("valid_json", output, right) == 1


@given(st.text())
def test_canonical_text_is_a_fixed_point(text: str) -> None:
    assert canonical_text(canonical_text(text)) == canonical_text(text)


@given(json_values)
def test_canonical_json_reads_back_as_the_same_answer(value: object) -> None:
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def test_every_scorer_says_what_it_means() -> None:
    for name, scorer in SCORERS.items():
        assert scorer.function.__doc__, name
        assert scorer.function is getattr(scorers, name)
