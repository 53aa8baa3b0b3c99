"""Conversations in which user and assistant do not take turns: what can be put in order, and what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import kept_rows, pairs, write_jsonl
from tunelift.config.curation import CleanConfig
from tunelift.stages.curate.clean import mend
from tunelift.stages.curate.order import in_order
from tunelift.stages.curate.reasons import remedy


def turns(script: str) -> list[dict[str, Any]]:
    """`u:Hi|a:Hello`, with s, u, a and t for the roles."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[turn[0]], "content": turn[2:]} for turn in script.split("|")]


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ("u:Hi|u:Are you there?|a:Yes.", "u:Hi\n\nAre you there?|a:Yes."),
        ("u:Hi|a:Yes.|a:I am.|a:Really.", "u:Hi|a:Yes.\n\nI am.\n\nReally."),
        ("s:Be kind.|s:Be brief.|u:Hi|a:Yes.", "s:Be kind.\n\nBe brief.|u:Hi|a:Yes."),
        ("a:Welcome!|u:Hi|a:Yes.", "u:Hi|a:Yes."),
        ("s:Be kind.|a:Welcome!|a:I am Bob.|u:Hi|a:Yes.", "s:Be kind.|u:Hi|a:Yes."),
        ("u:Hi|a:Yes.|u:Thanks!", "u:Hi|a:Yes."),
        ("u:Hi|a:Yes.|u:Thanks!|u:Bye!", "u:Hi|a:Yes."),
        ("u:Hi|u: |a:Yes.", "u:Hi|a:Yes."),
        # What is in order, or cannot be put in order.
        ("s:Be kind.|u:Hi|a:Yes.", "s:Be kind.|u:Hi|a:Yes."),
        ("u:Hi", "u:Hi"),
        ("a:Welcome!|u:Hi", "u:Hi"),
        ("a:Welcome!", "a:Welcome!"),
        ("u:Hi|t:1|t:2|a:Yes.", "u:Hi|t:1|t:2|a:Yes."),
    ],
)
def test_turns_of_one_speaker_are_joined_and_the_ends_are_cut(given: str, ordered: str) -> None:
    assert in_order(turns(given)) == turns(ordered)
    assert in_order(turns(ordered)) == turns(ordered)


CALL = {"tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {}}}]}


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ({}, CALL, {"content": "x\n\ny", **CALL}),
        ({"reasoning_content": "Hm."}, {}, {"content": "x\n\ny", "reasoning_content": "Hm."}),
        (CALL, {}, None),
        ({}, {"reasoning_content": "Hm."}, None),
        ({"name": "Ann"}, {"name": "Bob"}, None),
        ({"supervised": False}, {}, None),
    ],
)
def test_turns_that_differ_in_more_than_their_text_are_not_joined(before: Any, after: Any, joined: Any) -> None:
    two = [{"role": "assistant", "content": "x", **before}, {"role": "assistant", "content": "y", **after}]
    user = {"role": "user", "content": "Hi"}
    assert in_order([user, *two]) == ([user, {"role": "assistant", **joined}] if joined else [user, *two])


def test_it_is_an_edit_that_is_off_by_default() -> None:
    messages = turns("u:Hi|a:Yes. |u:Thanks!")
    assert mend(messages, CleanConfig())[1] == ("whitespace",)
    assert mend(messages, CleanConfig(turn_order="mend")) == (turns("u:Hi|a:Yes."), ("turn_order", "whitespace"))


def test_the_reasons_remedy_saves_the_rows(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    greeted = {"messages": turns("a:Welcome!|u:What is made in a dairy?|a:Milk and cheese.")}
    thanked = {"messages": turns("u:Where does a stork nest?|a:On roofs.|u:Thanks!")}
    path = write_jsonl(tmp_path / "a.jsonl", [*pairs(30), greeted, thanked])
    dropped = run(path)["rows"]["dropped"]
    assert dropped == {"ends_without_reply": 1, "roles_out_of_order": 1}
    assert all("curate.clean.turn_order to mend" in remedy(reason) for reason in dropped)
    stats = run(path, clean={"turn_order": "mend"}, out=tmp_path / "mended")
    assert (stats["rows"]["kept"], stats["edited"]) == (32, {"turn_order": 2})
    row = kept_rows(tmp_path / "mended")[f"{path}:31"]
    assert (row["messages"], row["edits"]) == (greeted["messages"][1:], ["turn_order"])
