"""Formats: each shape becomes the same messages, and a wrong row is told by its JSON path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunelift.config.curation import CleanConfig, SourceConfig
from tunelift.errors import UserError
from tunelift.stages.curate.clean import mend
from tunelift.stages.curate.detection import detect, shape_of
from tunelift.stages.curate.formats import to_conversation
from tunelift.stages.curate.rows import Line, Quarantined, RawRow, ShapeError

ASKED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
WITH_SYSTEM = [{"role": "system", "content": "Be brief."}, *ASKED]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
IN_FULL = {"type": "function", "function": {"name": "weather", "description": "", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("shape", "row", "messages"),
    [
        ("alpaca", {"instruction": "Hi", "input": "", "output": "Hello"}, ASKED),
        ("alpaca", {"instruction": "Hi", "output": "Hello", "system": "Be brief."}, WITH_SYSTEM),
        (
            "alpaca",
            {"instruction": "Sum up", "input": "A text", "output": "Sum", "history": [["Hi", "Hello"]]},
            [*ASKED, {"role": "user", "content": "Sum up\n\nA text"}, {"role": "assistant", "content": "Sum"}],
        ),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, ASKED),
        (
            "sharegpt",
            {
                "conversations": [{"from": "User", "value": "Hi"}, {"from": "model", "value": "Hello"}],
                "system": "Be brief.",
            },
            WITH_SYSTEM,
        ),
        ("messages", {"messages": WITH_SYSTEM}, WITH_SYSTEM),
        ("messages", {"messages": json.dumps(ASKED)}, ASKED),
        (
            "messages",
            {
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                    ASKED[1],
                ]
            },
            WITH_SYSTEM,
        ),
        ("prompt_completion", {"prompt": "Hi\n", "completion": " Hello"}, ASKED),
        ("prompt_completion", {"prompt": "Hi", "completion": 1}, [ASKED[0], {"role": "assistant", "content": "1"}]),
        ("prompt_completion", {"prompt": "Hi", "completion": 0.5}, [ASKED[0], {"role": "assistant", "content": "0.5"}]),
        (
            "prompt_completion",
            {"prompt": "[1] Hi", "completion": '["a", {"b": 1}]'},
            [{"role": "user", "content": "[1] Hi"}, {"role": "assistant", "content": '["a", {"b": 1}]'}],
        ),
        ("prompt_completion", {"prompt": json.dumps(ASKED[:1]), "completion": "Hello"}, ASKED),
        ("prompt_completion", {"prompt": WITH_SYSTEM[:2], "completion": ASKED[1:]}, WITH_SYSTEM),
    ],
)
def test_each_format_becomes_messages_and_is_detected(shape: Any, row: dict, messages: list[dict]) -> None:
    assert to_conversation(row, shape, None) == (messages, None)
    assert shape_of(row) == shape


@pytest.mark.parametrize(
    ("completion", "reply"),
    [
        ("    total = 0\n    for row in rows:\n        total += row\n", None),
        ("\n    return x\n\nprint()", "    return x\n\nprint()"),
        ("    return x", None),
        ("\treturn x\n}", None),
        (" A hammer.\n", "A hammer.\n"),
        ("\n\nA hammer.", "A hammer."),
        (" Yes:\n  - one", "Yes:\n  - one"),
        ("", None),
        (" \n", ""),
    ],
)
def test_only_what_glues_a_completion_to_its_prompt_is_taken_off(completion: str, reply: str | None) -> None:
    row = {"prompt": "  def count(rows):\n", "completion": completion}
    messages, _ = to_conversation(row, "prompt_completion", None)
    assert [message["content"] for message in messages] == [
        "  def count(rows):",
        completion if reply is None else reply,
    ]


@pytest.mark.parametrize("shape", ["alpaca", "sharegpt", "messages", "prompt_completion"])
@pytest.mark.parametrize("whitespace", [True, False])
def test_an_indented_reply_of_several_lines_is_the_same_in_every_format(shape: Any, whitespace: bool) -> None:
    block = "        self.items = []\n\n    def add(self, item):\n        self.items.append(item)"
    rows = {
        "alpaca": {"instruction": "Go on.", "output": block},
        "sharegpt": {"conversations": [{"from": "human", "value": "Go on."}, {"from": "gpt", "value": block}]},
        "messages": {"messages": [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": block}]},
        "prompt_completion": {"prompt": "Go on.", "completion": block},
    }
    messages, edits = mend(to_conversation(rows[shape], shape, None)[0], CleanConfig(whitespace=whitespace))
    assert (messages[-1]["content"], edits) == (block, ())


def test_tools_and_calls_are_kept_with_arguments_as_an_object() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    row = {
        "messages": [
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"},
            {"role": "assistant", "content": "It rains."},
        ],
        "tools": [TOOL],
    }
    messages, tools = to_conversation(row, "messages", None)
    assert tools == [IN_FULL]
    assert messages[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
        ],
    }
    assert messages[2] == {"role": "tool", "content": "rain", "tool_call_id": "c1", "name": "weather"}


def test_bare_tools_are_kept_as_an_endpoint_gives_them_to_the_template() -> None:
    bare = {**TOOL["function"], "returns": "a text"}
    assert to_conversation({"messages": ASKED, "tools": [bare]}, "messages", None)[1] == [IN_FULL]


def test_sharegpt_function_calls_become_tool_calls() -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "Weather?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
            {"from": "observation", "value": "rain"},
            {"from": "gpt", "value": "It rains."},
        ],
        "tools": json.dumps([TOOL]),
    }
    messages, tools = to_conversation(row, "sharegpt", None)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["tool_calls"] == [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    ]
    assert tools == [IN_FULL]


def test_the_sources_system_message_is_for_rows_without_one() -> None:
    assert to_conversation({"messages": ASKED}, "messages", "Be brief.")[0] == WITH_SYSTEM
    blank = [{"role": "system", "content": " "}, *ASKED]
    assert to_conversation({"messages": blank}, "messages", "Be brief.")[0] == WITH_SYSTEM
    assert to_conversation({"messages": WITH_SYSTEM}, "messages", "Another.")[0] == WITH_SYSTEM


@pytest.mark.parametrize(
    ("shape", "row", "path", "reason", "detail"),
    [
        (
            "messages",
            {"messages": [*ASKED, {"role": "asst", "content": "x"}]},
            "$.messages[2].role",
            "unknown_role",
            "unknown role 'asst'",
        ),
        (
            "messages",
            {"messages": [{"role": 3, "content": "x"}]},
            "$.messages[0].role",
            "unknown_role",
            "unknown role 3",
        ),
        (
            "messages",
            {"messages": [{"role": "user"}]},
            "$.messages[0].content",
            "missing_field",
            "the field 'content' is missing",
        ),
        (
            "messages",
            {"messages": ["Hi"]},
            "$.messages[0]",
            "wrong_type",
            "is text, must be an object with role and content",
        ),
        ("messages", {"messages": "Hi"}, "$.messages", "wrong_type", "is text, must be a list"),
        ("messages", {"chat": []}, "$.messages", "missing_field", "the field 'messages' is missing"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "$.messages[0].content[0]",
            "wrong_type",
            "only parts of the type 'text' can be used",
        ),
        (
            "messages",
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "x"}}]}]},
            "$.messages[0].tool_calls[0].function.arguments",
            "wrong_type",
            "is text, must be a JSON object",
        ),
        (
            "messages",
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "a", "arguments": '{"n": 1180591620717411303424}'}}],
                    }
                ]
            },
            "$.messages[0].tool_calls[0].function.arguments",
            "wrong_type",
            "Integer exceeds 64-bit range",
        ),
        ("messages", {"messages": ASKED, "tools": ["a"]}, "$.tools[0]", "wrong_type", "is text, must be an object"),
        (
            "messages",
            {"messages": ASKED, "tools": [{"icon": b"a"}]},
            "$.tools",
            "wrong_type",
            "Type is not JSON serializable: bytes",
        ),
        (
            "sharegpt",
            {"conversations": [{"value": "x"}]},
            "$.conversations[0].from",
            "missing_field",
            "the field 'from' is missing",
        ),
        ("alpaca", {"instruction": "x"}, "$.output", "missing_field", "the field 'output' is missing"),
        ("alpaca", {"instruction": "x", "output": {"a": 1}}, "$.output", "wrong_type", "is an object, must be text"),
        ("alpaca", {"instruction": "x", "output": 42}, "$.output", "wrong_type", "is a number, must be text"),
        (
            "alpaca",
            {"instruction": "x", "output": "y", "history": [["a"]]},
            "$.history[0]",
            "wrong_type",
            "a turn of the history must be a list of two texts",
        ),
        ("prompt_completion", {"prompt": 3, "completion": "x"}, "$.prompt", "wrong_type", "is a number, must be text"),
    ],
)
def test_a_row_of_the_wrong_shape_is_told_by_its_path(
    shape: Any, row: dict, path: str, reason: str, detail: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        to_conversation(row, shape, None)
    assert (caught.value.path, caught.value.reason, caught.value.detail) == (path, reason, detail)


def test_detection_goes_by_the_majority_and_loses_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Quarantined("a.jsonl", 1, "$", "invalid_json", "", "{")
    rows = [
        broken,
        RawRow("a.jsonl", 2, {"odd": 1}),
        *(RawRow("a.jsonl", line, {"instruction": "x", "output": "y"}) for line in range(3, 90)),
    ]
    shape, again = detect(SourceConfig(path="a.jsonl"), iter(rows))
    assert shape == "alpaca"
    assert list(again) == rows
    assert "a.jsonl: alpaca (49 of the first 50 rows)" in capsys.readouterr().err


def test_a_named_format_is_not_guessed() -> None:
    rows = iter([RawRow("a.jsonl", 1, {"instruction": "x", "output": "y"})])
    assert detect(SourceConfig(path="a.jsonl", format="messages"), rows)[0] == "messages"


def test_unknown_fields_are_listed_with_the_formats_accepted() -> None:
    rows = iter([RawRow("a.csv", 2, {"Where is it?": "x", "There.": "y"})])
    with pytest.raises(
        UserError, match=r"fields are 'Where is it\?', 'There.'. If these are values, the file lacks its header"
    ) as caught:
        detect(SourceConfig(path="a.csv"), rows)
    for name in ("alpaca", "sharegpt", "messages", "prompt_completion"):
        assert name in caught.value.remedy


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_what_an_assistant_thought_is_kept_under_the_name_that_templates_read(field: str) -> None:
    said = {"role": "assistant", "content": "Four.", field: "Two and two."}
    messages, _ = to_conversation({"messages": [{"role": "user", "content": "?", field: "x"}, said]}, "messages", None)
    assert messages == [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "Four.", "reasoning_content": "Two and two."},
    ]


@pytest.mark.parametrize("user", ["human", "User", "prompter"])
@pytest.mark.parametrize("assistant", ["gpt", "chatgpt", "bard", "bing", "Assistant", "model", "bot", "claude", "GPT4"])
def test_each_spelling_of_a_role_is_understood(user: str, assistant: str) -> None:
    turns = [{"from": "system", "value": "Be brief."}, {"from": user, "value": "Hi"}]
    row = {"conversations": [*turns, {"from": assistant, "value": "Hello"}]}
    assert to_conversation(row, "sharegpt", None) == (WITH_SYSTEM, None)


@pytest.mark.parametrize("call", ["function_call", "function-call", "tool_call", "Tool Call"])
@pytest.mark.parametrize("answer", ["observation", "tool", "function_response", "tool-response", "function", "ipython"])
def test_each_spelling_of_a_call_and_its_answer_is_understood(call: str, answer: str) -> None:
    said = [("human", "Rain?"), (call, '{"name": "weather", "arguments": {}}'), (answer, "yes"), ("gpt", "Yes.")]
    row = {"conversations": [{"from": role, "value": text} for role, text in said]}
    messages, _ = to_conversation(row, "sharegpt", None)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["tool_calls"][0]["function"]["name"] == "weather"


def test_messages_take_the_rows_system_message_where_the_turns_bring_none() -> None:
    row = {"messages": ASKED, "system": "Be brief."}
    assert to_conversation(row, "messages", "Otherwise.") == (WITH_SYSTEM, None)
    empty = {"messages": [{"role": "system", "content": " "}, *ASKED], "system": "Be brief."}
    assert to_conversation(empty, "messages", None) == (WITH_SYSTEM, None)
    assert to_conversation({"messages": WITH_SYSTEM, "system": "Be long."}, "messages", None) == (WITH_SYSTEM, None)


def test_functions_of_the_older_form_are_tools() -> None:
    function = {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}
    tool = {"type": "function", "function": function}
    assert to_conversation({"messages": ASKED, "functions": [function]}, "messages", None) == (ASKED, [tool])
    assert to_conversation({"messages": ASKED, "functions": json.dumps([tool])}, "messages", None) == (ASKED, [tool])
    assert to_conversation({"messages": ASKED, "functions": [], "tools": [tool]}, "messages", None) == (ASKED, [tool])
    with pytest.raises(ShapeError) as caught:
        to_conversation({"messages": ASKED, "functions": ["weather"]}, "messages", None)
    assert caught.value.path == "$.functions[0]"


@pytest.mark.parametrize(("value", "learnt"), [(True, "true"), (3, "3"), (0.5, "0.5"), ("yes", "yes")])
def test_a_field_that_is_named_for_alpacas_output_may_hold_labels(value: Any, learnt: str) -> None:
    row = {"instruction": "Right?", "input": "Two is odd.", "label": value}
    messages, _ = to_conversation(row, "alpaca", None, {"output": "label"})
    assert [message["content"] for message in messages] == ["Right?\n\nTwo is odd.", learnt]


def found(source: SourceConfig, rows: list[dict]) -> str | None:
    return detect(source, iter([RawRow("a.jsonl", line, row) for line, row in enumerate(rows, start=1)]))[0]


@pytest.mark.parametrize(
    ("fields", "row", "shape"),
    [
        ({"prompt": "question", "completion": "answer"}, {"question": "Hi", "answer": "Hello"}, "prompt_completion"),
        (
            {"prompt": "completion", "completion": "prompt"},
            {"completion": "Hi", "prompt": "Hello"},
            "prompt_completion",
        ),
        ({"completion": "label"}, {"prompt": "Hi", "label": "Hello", "completion": "no"}, "prompt_completion"),
        ({"instruction": "q", "output": "a"}, {"q": "Hi", "a": "Hello", "messages": ASKED}, "alpaca"),
        ({"messages": "dialog"}, {"dialog": ASKED, "conversations": [{"from": "x"}]}, "messages"),
    ],
)
def test_fields_bring_the_rows_own_names_under_a_format(fields: dict, row: dict, shape: Any) -> None:
    before = json.dumps(row)
    assert found(SourceConfig(path="a.jsonl", fields=fields), [row]) == shape
    assert to_conversation(row, shape, None, fields) == (ASKED, None)
    assert json.dumps(row) == before, "the raw row stays as it was read"


def test_a_fault_under_a_renamed_field_is_told_by_the_rows_own_name() -> None:
    fields = {"messages": "dialog", "prompt": "question", "completion": "answer"}
    for shape, row, path, detail in (
        ("messages", {"dialog": [{"role": "x"}]}, "$.dialog[0].role", "unknown role 'x'"),
        ("prompt_completion", {"question": "x"}, "$.answer", "the field 'answer' is missing"),
        ("prompt_completion", {"question": {}, "answer": ""}, "$.question", "is an object, must be text"),
    ):
        with pytest.raises(ShapeError) as caught:
            to_conversation(row, shape, None, fields)  # type: ignore[arg-type]
        assert (caught.value.path, caught.value.detail) == (path, detail)


@pytest.mark.parametrize(
    ("named", "fields", "message", "remedy"),
    [
        ("auto", {"prompt": "quest"}, "'quest' is the rows' prompt, but no row has it", "Did you mean 'question'?"),
        ("alpaca", {"prompt": "question"}, "prompt, which is no field of alpaca", "instruction, output"),
        ("auto", {"question": "prompt"}, "question, which is no field of any format", "{prompt: question}"),
        (
            "auto",
            {"prompt": "question", "output": "answer"},
            "belong to different formats",
            "prompt_completion: prompt",
        ),
        ("auto", {"prompt": "question"}, "of no known format", "fields: {prompt: question, completion: answer}"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(named: Any, fields: dict, message: str, remedy: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        found(SourceConfig(path="a.jsonl", format=named, fields=fields), [{"question": "Hi", "answer": "Hello"}])
    assert remedy in caught.value.remedy


def test_a_field_that_few_rows_have_is_found_beyond_the_first_ones() -> None:
    rows = [{"prompt": "Hi", "completion": "Hello"} for _ in range(500)]
    source = SourceConfig(path="a.jsonl", fields={"system": "role"})
    assert found(source, [*rows, {"prompt": "Hi", "completion": "Hello", "role": "Be brief."}]) == "prompt_completion"
    with pytest.raises(UserError, match="no row has it"):
        found(source, rows)


def test_detection_parses_lines_and_hands_back_the_others_as_they_are() -> None:
    lines = [Line("a.jsonl", number, b'{"prompt": "Hi", "completion": "Hello"}') for number in range(1, 81)]
    shape, again = detect(SourceConfig(path="a.jsonl"), iter([Line("a.jsonl", 99, b"{"), *lines]))
    rows = list(again)
    assert shape == "prompt_completion"
    assert [type(row) for row in rows] == [Quarantined] + [RawRow] * 50 + [Line] * 30


def test_text_parts_are_joined_as_the_engine_joins_them() -> None:
    parts = [{"type": "text", "text": text} for text in ("First.", "", "  Second.")]
    row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": parts[:1]}]}
    messages, _ = to_conversation(row, "messages", None)
    assert [message["content"] for message in messages] == ["First.\n  Second.", "First."]


@pytest.mark.parametrize("shape", ["messages", "sharegpt"])
def test_an_empty_system_message_stays_unless_the_row_or_the_config_has_another(shape: Any) -> None:
    field, role, text = ("messages", "role", "content") if shape == "messages" else ("conversations", "from", "value")
    row: dict[str, Any] = {
        field: [{role: one, text: said} for one, said in (("system", ""), ("user", "a"), ("assistant", "b"))]
    }
    assert to_conversation(row, shape, None)[0][0] == {"role": "system", "content": ""}
    assert to_conversation(row, shape, "Be brief.")[0][0]["content"] == "Be brief."
    own, _ = to_conversation(row | {"system": "My own."}, shape, "Be brief.")
    assert [message["content"] for message in own] == ["My own.", "a", "b"]
    without = {field: row[field][1:], "system": ""}
    assert to_conversation(without, shape, None)[0][0]["role"] == "user", "an empty column is no message"


@pytest.mark.parametrize("arguments", [False, 0, [], "false", "[]", "0", 3.5, "text"])
def test_arguments_that_are_no_object_are_a_fault(arguments: Any) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    with pytest.raises(ShapeError) as caught:
        to_conversation({"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}, "messages", None)
    assert caught.value.reason == "wrong_type" and caught.value.path.endswith("function.arguments")


@pytest.mark.parametrize("arguments", [None, "", "  ", {}, "{}", ...])
def test_no_arguments_are_an_empty_object(arguments: Any) -> None:
    function = {"name": "f"} if arguments is ... else {"name": "f", "arguments": arguments}
    row = {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": function}]}]}
    (message,), _ = to_conversation(row, "messages", None)
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": {}}
    assert list(message["tool_calls"][0]["function"]) == ["arguments", "name"], "as vLLM gives it to the template"
