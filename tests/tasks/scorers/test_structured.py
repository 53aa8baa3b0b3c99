"""Rules on JSON: format and content apart."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.scorers.making import REMIND, item, json_values, one, scorer, task
from tunelift.errors import UserError
from tunelift.tasks.scorers import build_scorers


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
        ({"tool": "remind", "parameters": {"text": "x", "date": "2026-03-11"}}, 1),
        ({"tool": "remind", "parameters": {"text": "x", "date": "2026-02-30"}}, 0),
        ({"tool": "remind", "parameters": {"text": "x"}, "why": "so"}, 0),
        ({"tool": "remind", "parameters": {"text": "x"}, "arguments": {"text": "x"}}, 0),
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


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"name": "remind", "arguments": {"text": "x"}}', 1),
        ('{"name": "remind", "parameters": {"minutes": 3}}', 0),
        ('<tool_call>{"name": "ping", "arguments": {}}</tool_call>', 1),
        ('[{"name": "ping", "arguments": {}}, {"tool": "remind", "arguments": {"text": "x"}}]', 1),
        ('[{"name": "ping", "arguments": {}}, {"tool": "nope", "arguments": {}}]', 0),
        ('[remind(text="x", minutes=3)]', 1),
        ('[remind(text="x", minutes=0)]', 0),
        ("Well, ping()", 0),
    ],
)
def test_schema_valid_reads_calls_as_tool_call_does(output: str, expected: float) -> None:
    assert one("schema_valid", output) == expected


@pytest.mark.parametrize(
    "tools", [({"name": "f", "parameters": {"type": "dict"}},), ("a",), ({"name": "f", "parameters": None},)]
)
def test_no_schema_makes_a_rule_raise(tools: tuple[object, ...]) -> None:
    rule = scorer("schema_valid")
    for output in ('{"tool": "f", "arguments": {"a": 1}}', "f(a=1)", ""):
        assert rule.function(output, item(tools=tools), task()) in {0, 1}


def test_field_f1_counts_paths_with_their_values() -> None:
    assert one("field_f1", '{"tool": "remind", "arguments": {"text": "call Anna", "minutes": 30}}', REMIND) == 1
    # Two of three fields: precision 1, recall 2/3.
    assert one("field_f1", '{"tool": "remind", "arguments": {"text": "CALL ANNA."}}', REMIND) == pytest.approx(0.8)
    assert one("field_f1", '{"tool": "ping", "arguments": {}}', REMIND) == 0
    assert one("field_f1", "{}", {}) == 1
    assert one("field_f1", "no JSON", {}) == 0
    assert one("field_f1", '{"a": 1}', {"b": 1}, {"a": 1, "c": 2}) == pytest.approx(2 / 3)
    assert one("field_f1", "yes.", "Yes") == 1


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


@given(json_values, json_values)
def test_exact_match_implies_full_field_f1_and_valid_json(left: object, right: object) -> None:
    output = json.dumps(left)
    if not isinstance(right, str) and one("exact_match", output, right):
        assert one("field_f1", output, right) == 1
        assert one("valid_json", output, right) == 1


def test_precision_and_recall_are_of_the_answer_that_fits_best() -> None:
    output = '{"a": 1, "b": 2, "c": 3}'
    assert one("field_precision", output, {"a": 1, "b": 2}) == pytest.approx(2 / 3)
    assert one("field_recall", output, {"a": 1, "b": 2}) == 1
    # Recall of the first alone would be 1, but the second fits better.
    assert one("field_recall", output, {"a": 1}, {"a": 1, "b": 2, "c": 0, "d": 0}) == 0.5
    assert one("field_precision", "{}", {"a": 1}) == 0
    assert (one("field_precision", "{}", {}), one("field_recall", "{}", {})) == (1, 1)


@pytest.mark.parametrize(
    ("accepted", "output", "expected"),
    [
        ({"persons": [], "orgs": ["X"], "places": []}, '{"orgs": ["X"]}', 0.5),
        ({"persons": [], "orgs": []}, "{}", 0),
        ({"persons": [], "orgs": []}, "[]", 0),
        ({"tool": "x", "arguments": {}}, '{"tool": "x"}', 2 / 3),
        ({"a": 1}, '{"a": 1, "b": [], "c": {}}', 0.5),
        ({"a": []}, '{"a": {}}', 0),
        ({"a": {"b": []}}, '{"a": {"b": [[]]}}', 0),
        ({"a": "[]"}, '{"a": []}', 0),
        ([], "[]", 1),
        ([], "{}", 0),
        ([[], []], "[[]]", 2 / 3),
    ],
)
def test_an_empty_list_or_object_is_a_field(accepted: object, output: str, expected: float) -> None:
    assert one("field_f1", output, accepted) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("accepted", "output", "expected"),
    [
        (list(range(8)), [9, *range(8)], 16 / 17),
        (list(range(8)), list(range(1, 8)), 14 / 15),
        (
            [{"n": name, "v": [name]} for name in "abcdefgh"],
            [{"n": "x"}, *({"n": n, "v": [n]} for n in "abcdefgh")],
            32 / 33,
        ),
        ([{"n": "a", "v": 1}, {"n": "b", "v": 2}], [{"n": "b", "v": 3}], 2 / 6),
        ([1, 2, 3], [3, 2, 1], 1 / 3),
        ([[1, 2], [3]], [[1], [2, 3]], 2 / 3),
        ({"rows": [1, 2]}, {"rows": [0, 1, 2]}, 0.8),
    ],
)
def test_an_element_too_many_shifts_no_other(accepted: object, output: object, expected: float) -> None:
    assert one("field_f1", json.dumps(output), accepted) == pytest.approx(expected)


def test_long_lists_are_compared_in_bounded_time() -> None:
    long = [{"n": str(number), "v": [number, [number]]} for number in range(3000)]
    start = time.process_time()
    assert one("field_f1", json.dumps(long[1:]), long) < 0.01, "place by place"
    assert one("field_f1", json.dumps([*long[:-1], 5]), long) > 0.99
    short = [[number] for number in range(490)]
    assert one("field_f1", json.dumps(short[::-1]), short) == pytest.approx(1 / 490)
    assert time.process_time() - start < 10


def test_content_is_told_apart_from_format() -> None:
    fenced = '```json\n{"a": 1}\n```'
    assert one("field_f1", fenced, {"a": 1}) == 0
    assert one("field_f1", fenced, {"a": 1}, find="anywhere") == 1
    assert one("exact_match", fenced, {"a": 1}, find="anywhere") == 1
    assert one("valid_json", fenced) == 0


@given(json_values, json_values)
def test_f1_is_symmetric_and_between_precision_and_recall(left: object, right: object) -> None:
    if isinstance(left, str) or isinstance(right, str):
        return
    there, back = json.dumps(left), json.dumps(right)
    assert one("field_f1", there, right) == pytest.approx(one("field_f1", back, left))
    assert one("field_precision", there, right) == pytest.approx(one("field_recall", back, left))
    low, high = sorted([one("field_precision", there, right), one("field_recall", there, right)])
    assert low - 1e-9 <= one("field_f1", there, right) <= high + 1e-9


def schema(folder: Path, content: object) -> Path:
    (folder / "answer.json").write_text(json.dumps(content))
    return folder


def test_a_schema_of_ones_own_judges_any_json(tmp_path: Path) -> None:
    folder = schema(tmp_path, {"$defs": {"n": {"type": "number", "multipleOf": 0.5}}, "items": {"$ref": "#/$defs/n"}})
    rule = scorer("schema_valid", folder=folder, schema="answer.json")
    judged = [rule.function(output, item(), task()) for output in ("[1, 2.5]", "[0.7]", "no", f"[{'9' * 400}]")]
    assert judged == [1, 0, 0, 0]
    assert rule.identity["options"]["schema"]["items"] == {"$ref": "#/$defs/n"}, "the content, not the path"
    assert rule.identity != scorer("schema_valid", folder=schema(tmp_path, {}), schema="answer.json").identity


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"type": "objekt"}, "no JSON schema"),
        ({"properties": {"a": {"pattern": "("}}}, "no JSON schema"),
        ({"$ref": "https://example.com/schema.json"}, "which is not in it"),
        ({"$ref": "#/$defs/nowhere"}, "which is not in it"),
    ],
)
def test_a_schema_that_could_fail_later_is_refused_at_once(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        scorer("schema_valid", folder=schema(tmp_path, content), schema="answer.json")
    assert caught.value.where == str(tmp_path / "answer.json")


def test_a_missing_or_broken_schema_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        scorer("schema_valid", folder=tmp_path, schema="nowhere.json")
    (tmp_path / "answer.json").write_text("{")
    with pytest.raises(UserError, match="no JSON"):
        scorer("schema_valid", folder=tmp_path, schema="answer.json")


def test_an_items_own_tools_are_its_schemas() -> None:
    tools = ({"name": "x", "parameters": {"type": "object", "required": ["a"]}},)
    [rule] = build_scorers(["schema_valid"], has_tools=True)
    assert rule.function('{"tool": "x", "arguments": {"a": 1}}', item(tools=tools), task()) == 1
    assert rule.function('{"tool": "x", "arguments": {}}', item(tools=tools), task()) == 0
    assert rule.function('{"tool": "ping", "arguments": {}}', item(tools=tools), task()) == 0
