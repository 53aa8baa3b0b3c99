"""Tools' results stand in the order of their calls, or the row says why not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.stages.curate.formats import to_conversation
from tunelift.stages.curate.results import ordered_results


def talk(
    calls: list[tuple[str | None, str]], results: list[tuple[str | None, str | None, str]]
) -> list[dict[str, Any]]:
    """Calls by id and name; results by id, name and text."""
    called = [
        {"type": "function", "function": {"name": name, "arguments": {}}} | ({"id": identity} if identity else {})
        for identity, name in calls
    ]
    answered = [
        {"role": "tool", "content": text}
        | ({"tool_call_id": identity} if identity else {})
        | ({"name": name} if name else {})
        for identity, name, text in results
    ]
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": called}]
    return [*turn, *answered, {"role": "assistant", "content": "So."}]


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


CALLS = [("a", "read"), ("b", "read")]


@given(st.permutations(range(5)))
def test_results_are_put_into_the_order_of_the_calls_by_id(order: list[int]) -> None:
    calls = [(f"c{number}", "read") for number in range(5)]
    messages = talk(calls, [(f"c{number}", None, str(number)) for number in order])
    ordered, fault = ordered_results(messages)
    assert fault is None and texts(ordered) == list("01234")
    assert ordered_results(ordered) == (ordered, None)


@pytest.mark.parametrize(
    ("calls", "results", "reason", "identity"),
    [
        (CALLS, [("a", None, "1"), ("z", None, "2")], "tool_result_unknown", "z"),
        (CALLS, [("a", None, "1"), ("b", None, "2"), ("z", None, "3")], "tool_result_unknown", "z"),
        (CALLS, [("b", None, "2")], "tool_result_missing", "a"),
        (CALLS, [("a", None, "1"), ("a", None, "2")], "tool_result_twice", "a"),
        (CALLS, [("a", None, "1"), ("b", None, "2"), ("b", None, "3")], "tool_result_twice", "b"),
        ([("a", "read"), ("a", "read")], [("a", None, "1"), ("a", None, "2")], "tool_result_twice", "a"),
        (CALLS, [("a", None, "1"), ("b", None, "2"), (None, None, "3")], "tool_result_unknown", ""),
    ],
)
def test_results_that_cannot_be_joined_to_calls_have_a_reason(
    calls: Any, results: Any, reason: str, identity: str
) -> None:
    _, fault = ordered_results(talk(calls, results))
    assert fault is not None and (fault.reason, fault.evidence["id"]) == (reason, identity)


def test_without_ids_names_that_differ_tell_and_otherwise_the_position() -> None:
    by_name = talk([(None, "read"), (None, "write")], [(None, "write", "2"), (None, "read", "1")])
    assert texts(ordered_results(by_name)[0]) == ["1", "2"]
    alike = talk([(None, "read"), (None, "read")], [(None, "read", "1"), (None, "read", "2")])
    assert ordered_results(alike) == (alike, None)
    bare = talk([(None, "read"), (None, "write")], [(None, None, "1"), (None, None, "2")])
    assert ordered_results(bare) == (bare, None)
    mixed = talk(CALLS, [(None, None, "1"), ("b", None, "2")])
    assert texts(ordered_results(mixed)[0]) == ["1", "2"]


def test_each_turn_is_ordered_by_itself_and_calls_at_the_end_need_no_result() -> None:
    first = talk(CALLS, [("b", None, "2"), ("a", None, "1")])
    second = talk([("a", "read"), ("c", "read")], [("c", None, "4"), ("a", None, "3")])
    end = first[:2]
    ordered, fault = ordered_results([*first, *second, *end])
    assert fault is None and texts(ordered) == ["1", "2", "3", "4"]


def test_ids_that_are_numbers_count_too() -> None:
    calls = [{"id": number, "function": {"name": "read", "arguments": {}}} for number in (1, 2)]
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    turns += [{"role": "tool", "tool_call_id": number, "content": str(number)} for number in (2, 1)]
    messages, _ = to_conversation({"messages": [*turns, {"role": "assistant", "content": "So."}]}, "messages", None)
    assert texts(ordered_results(messages)[0]) == ["1", "2"]
