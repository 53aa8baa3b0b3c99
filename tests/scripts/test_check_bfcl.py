"""The comparison with bfcl-eval's checker: its answers, and how disagreements are explained."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.mutations import chosen, outputs
from tests.scripts.loading import load_script

check_bfcl = load_script("check_bfcl")

VALUES: dict[str, list[Any]] = {
    "city": ["New York, NY", "NYC"],
    "days": [5],
    "units": ["", "metric"],
    "spots": [[1, 2]],
    "where": [{"zip": ["10001"], "street": ["", "Main St"]}],
}
PARAMETERS = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "units": {"type": "string"},
    "spots": {"type": "array"},
    "where": {"type": "dict"},
}


def judged(calls: Any, *, ours: bool, theirs: bool, check: Any) -> Any:
    return check_bfcl.Judged(
        question="q", mutation="m", calls=calls, values=VALUES, ours=ours, theirs=theirs, error="e", check=check
    )


def test_a_right_answer_takes_possible_values_inside_objects_too() -> None:
    assert chosen(VALUES, 0) == {
        "city": "New York, NY",
        "days": 5,
        "units": "metric",
        "spots": [1, 2],
        "where": {"zip": "10001", "street": "Main St"},
    }
    assert "units" not in chosen(VALUES, 0, optional=False)
    assert chosen(VALUES, -1)["city"] == "NYC"


def test_each_mutation_stands_once_and_changes_the_answer() -> None:
    made = dict(outputs("weather", VALUES, PARAMETERS))
    assert len(made) == len(list(outputs("weather", VALUES, PARAMETERS)))
    right = made.pop("right: first of the possible values")
    assert all(repr(calls) != repr(right) for calls in made.values())
    assert made["a parameter missing"] == [("weather", {k: v for k, v in right[0][1].items() if k != "city"})]
    assert repr(made["float for an integer"][0][1]["days"]) == "5.0"
    assert made["no call"] == []
    assert len(made["the call twice"]) == 2


@pytest.mark.parametrize(
    ("given", "fixed", "why"),
    [
        ({"city": "NYC!"}, {"city": "NYC"}, "closing"),
        ({"days": 5.0}, {"days": 5}, "whole number"),
        ({"where": {"zip": 1.0}}, {"where": {"zip": 1}}, "whole number"),
        ({"units": []}, {"units": ["something else"]}, "empty list"),
    ],
)
def test_a_disagreement_is_explained_by_the_difference_without_which_there_is_none(
    given: dict[str, Any], fixed: dict[str, Any], why: str
) -> None:
    one = judged(
        [("weather", given)], ours=True, theirs=False, check=lambda calls: repr(calls) == repr([("weather", fixed)])
    )
    assert why in check_bfcl.reason(one)


def test_what_no_difference_explains_has_no_reason_and_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    one = judged([("weather", {"days": 5})], ours=False, theirs=True, check=lambda calls: True)
    assert check_bfcl.reason(one) == check_bfcl.UNEXPLAINED
    assert check_bfcl.report([one], everything=False) == 1
    assert "1 answers, 0 judged alike, 1 not" in capsys.readouterr().out


def test_agreement_passes(capsys: pytest.CaptureFixture[str]) -> None:
    one = judged([("weather", {"days": 5})], ours=True, theirs=True, check=lambda calls: True)
    assert check_bfcl.report([one], everything=False) == 0
    assert "1 answers, 1 judged alike, 0 not" in capsys.readouterr().out


def test_calls_are_written_as_models_here_write_them() -> None:
    assert check_bfcl.written([("f", {"a": 1})]) == '{"tool": "f", "arguments": {"a": 1}}'
    assert check_bfcl.written([]) == "[]"
    rule = check_bfcl.our_rule()
    assert rule.kind == "binary"
