"""Conversations with tools as OpenAI's API wants them: every result belongs to a call, nothing else changes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tunelift.runtime.openai_form import openai_messages, openai_tools


def assistant(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def call(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": {"b": 1.0, "a": [None]}}, **more}


def test_schemas_have_what_an_engine_would_fill_in_and_nothing_that_it_leaves_out() -> None:
    whole = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    expected = [{"type": "function", "function": whole}]
    assert openai_tools([whole]) == openai_tools(expected) == expected
    reordered = {"function": {"returns": "x", **dict(reversed(whole.items()))}, "type": "function", "icon": "y"}
    assert json.dumps(openai_tools([reordered])) == json.dumps(expected), "fields and their order"
    bare = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}
    assert openai_tools([{"name": "f", "description": None}]) == [{"type": "function", "function": bare}]
    assert openai_tools([{"name": "f", "strict": True}])[0]["function"]["strict"] is True
    assert openai_tools([{"type": "web_search"}, "x"]) == [{"type": "web_search"}, "x"], "what is none stays"


def test_results_get_the_ids_of_the_calls_that_they_follow() -> None:
    tool = {"role": "tool", "content": "1"}
    messages = [
        assistant(call(), call(id="mine")),
        tool,
        tool,
        assistant(call()),
        {**tool, "tool_call_id": "own"},
        tool,
    ]
    sent = openai_messages(messages)
    assert [one["id"] for one in sent[0]["tool_calls"]] == ["call00001", "mine"]
    assert [one["tool_call_id"] for one in sent if one["role"] == "tool"] == ["call00001", "mine", "own", "call00003"]
    assert sent[0]["tool_calls"][0]["function"]["arguments"] == '{"b": 1.0, "a": [null]}'
    assert openai_messages(sent) == sent, "what is so already stays"
    assert "id" not in messages[0]["tool_calls"][0], "the row itself does not change"


plain = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()},
    optional={"reasoning_content": st.text()},
)
turns = st.lists(plain | st.just({"role": "tool", "content": "x"}) | st.builds(assistant, st.builds(call)), max_size=8)


@given(turns)
def test_only_calls_and_results_change(messages: list[dict[str, Any]]) -> None:
    sent = openai_messages(messages)
    assert len(sent) == len(messages)
    for before, after in zip(messages, sent, strict=True):
        assert {key: after[key] for key in before if key != "tool_calls"} == {
            key: before[key] for key in before if key != "tool_calls"
        }
        for was, is_ in zip(before.get("tool_calls", ()), after.get("tool_calls", ()), strict=True):
            assert json.loads(is_["function"]["arguments"]) == was["function"]["arguments"]
        assert ("tool_call_id" in after) == (before["role"] == "tool")
