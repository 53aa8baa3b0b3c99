"""Calls that a row's tools do not allow are told apart, and are no right answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stages.evaluate.making import row
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.errors import UserError
from tunelift.tasks.offered import wrong_calls
from tunelift.tasks.task import task_from_split


def tool(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "read", "description": "", "parameters": parameters}}


READ = tool(
    type="object",
    properties={"item": {"type": "string"}, "how": {"enum": ["fast", "slow"]}},
    required=["item"],
    additionalProperties=False,
)


def reply(name: str, arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


@pytest.mark.parametrize(
    ("name", "arguments", "flag", "says"),
    [
        ("delete", {"item": "a"}, "call_not_offered", "delete, offered: read"),
        ("Read", {"item": "a"}, "call_not_offered", "Read, offered: read"),
        ("read", {"item": 12}, "call_breaks_schema", 'read: item breaks type "string"'),
        ("read", {"thing": "a"}, "call_breaks_schema", "read: "),
        ("read", {}, "call_breaks_schema", "read: 'item' is a required property"),
        ("read", {"item": "a", "how": "loud"}, "call_breaks_schema", "read: how breaks enum"),
        ("read", {"item": "a", "more": 1}, "call_breaks_schema", "read: arguments breaks additionalProperties"),
    ],
)
def test_a_wrong_call_has_its_flag_and_what_is_wrong(name: str, arguments: Any, flag: str, says: str) -> None:
    ((found, detail),) = wrong_calls(reply(name, arguments), [READ])
    assert found == flag and detail.startswith(says)
    assert "12" not in detail and "loud" not in detail, "values may be personal"


def test_right_calls_unknown_tools_and_schemas_that_are_none_are_not_judged() -> None:
    assert list(wrong_calls(reply("read", {"item": "a", "how": "slow"}), [READ])) == []
    assert list(wrong_calls(reply("read", {"item": 1}), None)) == []
    assert list(wrong_calls({"role": "assistant", "content": "No."}, [READ])) == []
    for broken in (
        tool(type="dict"),
        tool(),
        tool(**{"$ref": "https://example.com/x"}),
        tool(type="object", required=3),
    ):
        assert list(wrong_calls(reply("read", {"item": 1}), [broken])) == []
    bare = READ["function"]
    assert [flag for flag, _ in wrong_calls(reply("read", {}), [bare])] == ["call_breaks_schema"]


def rows_of(*calls: tuple[str, Any]) -> list[dict[str, Any]]:
    made = []
    for number, (name, arguments) in enumerate(calls):
        one = row(f"r{number}", "", tool_calls=reply(name, arguments)["tool_calls"])
        made.append(one | {"tools": [READ]})
    return made


def test_a_wrong_call_is_no_right_answer_of_a_task_from_a_split(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(("read", {"item": "a"}), ("delete", {"item": "a"}), ("read", {"item": 3}), ("read", {"item": "b"}))
    task = task_from_split(rows, SplitTaskConfig(from_split="test"))
    assert [item.id for item in task.items] == ["r0", "r3"]
    assert "left out are 2 rows" in task.description
    assert "left out are 2 rows" in "".join(capsys.readouterr())
    few = task_from_split(rows, SplitTaskConfig(from_split="test", max_items=2))
    assert len(few.items) == 2, "what is left out takes no place of the items"


def test_a_split_of_wrong_calls_alone_is_refused() -> None:
    with pytest.raises(UserError, match="no row whose reply could be right: 2 of 2"):
        task_from_split(rows_of(("delete", {}), ("read", {})), SplitTaskConfig(from_split="test"))
