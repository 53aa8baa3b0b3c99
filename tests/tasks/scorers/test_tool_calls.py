"""Tool calls: the ways models write them, and when they are the same."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tasks.scorers.making import REMIND, anything, item, json_values, one, scorer, task
from tunelift.errors import UserError
from tunelift.tasks.scorers.tool_calls import Call, parse_calls

A, B = Call("f", {"a": 1}), Call("g.h", {"b": ["x", None, True]})
B_JSON = '{"name": "g.h", "arguments": {"b": ["x", null, true]}}'
OPENAI = {
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "2", "type": "function", "function": json.loads(B_JSON)},
    ]
}


def test_right_tool_looks_at_the_name_alone() -> None:
    assert one("right_tool", '{"tool": "remind", "arguments": 3}', REMIND) == 1
    assert one("right_tool", '{"tool": "ping"}', REMIND) == 0
    assert one("right_tool", '{"tool": null}', {"tool": None}) == 1
    assert one("right_tool", "{}", {"tool": None}) == 0, "a missing key is not null"
    assert one("right_tool", "remind", REMIND) == 0


@pytest.mark.parametrize(
    ("output", "calls"),
    [
        ('{"tool": "f", "arguments": {"a": 1}}', [A]),
        ('{"name": "f", "parameters": {"a": 1}}', [A]),
        ('<|python_tag|>{"name": "f", "parameters": {"a": 1}}', [A]),
        ('[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]', [A]),
        ('{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}', [A]),
        (json.dumps(OPENAI), [A, B]),
        (json.dumps(OPENAI["tool_calls"]), [A, B]),
        (f'[{{"name": "f", "arguments": {{"a": 1}}}}, {B_JSON}]', [A, B]),
        (f'{{"name": "f", "parameters": {{"a": 1}}}}; {B_JSON}', [A, B]),
        (f'{{"name": "f", "parameters": {{"a": 1}}}}\n{B_JSON}', [A, B]),
        (
            f'<tool_call>\n{{"name": "f", "arguments": {{"a": 1}}}}\n</tool_call>\n<tool_call>{B_JSON}</tool_call>',
            [A, B],
        ),
        ("[f(a=1), g.h(b=['x', None, True])]", [A, B]),
        ("f(a=1)", [A]),
        ("g.h(b=('x', null, true))", [B]),
        ("f(a=-1.5, b={'c': [2]})", [Call("f", {"a": -1.5, "b": {"c": [2]}})]),
        ('{"tool": "f"}', [Call("f", {})]),
        ('{"type": "function", "function": {"name": "f"}}', [Call("f", {})]),
        ('{"tool": null}', []),
        ("[]", []),
        ('{"tool_calls": []}', []),
    ],
)
def test_the_usual_spellings_are_read(output: str, calls: list[Call]) -> None:
    assert parse_calls(output) == calls


@pytest.mark.parametrize(
    "output",
    [
        "Sure, I can do that.",
        "42",
        "{}",
        '{"name": "f"}',
        '{"name": "Alice", "email": "alice@x.org"}',
        '{"tool": "hammer", "price": 5}',
        '{"name": "f", "tool": "g"}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "{"}',
        '{"name": ["f"]}',
        'I call {"name": "f", "arguments": {}}',
        "f(1)",
        "f(a=1, a=2)",
        "f(**{'a': 1})",
        "f(a=b)",
        "f(a=__import__('os').system('true'))",
        "f(a=2**99999)",
        "f(a=1e999)",
        "(lambda: 1)(a=1)",
        "f(a=0x" + "f" * 5000 + ")",
        "f(a=" + "-" * 19000 + "1)",
        "f(a=" + "[" * 250 + "]" * 250 + ")",
        "f(a='\\d')x",
        "\0",
        "<tool_call>{</tool_call>",
    ],
)
def test_what_is_no_call_is_none(output: str) -> None:
    assert parse_calls(output) is None


@pytest.mark.parametrize(
    "output",
    [
        'I call {"name": "f", "arguments": {"a": 1}}',
        '```json\n{"name": "f", "arguments": {"a": 1}}\n```',
        'I call it: <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        "The call is [f(a=1)].",
    ],
)
def test_calls_inside_text_count_only_where_that_is_asked_for(output: str) -> None:
    accepted = {"tool": "f", "arguments": {"a": 1}}
    assert one("tool_call", output, accepted) == 0
    assert one("tool_call", output, accepted, find="anywhere") == 1


F, PAY = {"tool": "f", "arguments": {"a": 1}}, {"name": "pay", "arguments": {"sum": 5}}


@pytest.mark.parametrize(
    "output",
    [
        f"```json\n{json.dumps(F)}\n```\nThen:\n```json\n{json.dumps(PAY)}\n```",
        f"{json.dumps(F)} and {json.dumps(PAY)}",
        "First [f(a=1)], then [pay(sum=5)].",
        f"<tool_call>{json.dumps(F)}</tool_call> and [pay(sum=5)]",
        f"I call {json.dumps([F, PAY])}.",
        "[f(a=1), pay(sum=5)] as you said",
        f"Done: <tool_call>{json.dumps(F)}\n{json.dumps(PAY)}</tool_call>",
        "{" * 100 + json.dumps(F) + "}" * 100 + "[1, 2]" * 100 + json.dumps(PAY),
    ],
)
def test_all_calls_of_a_text_are_the_answer_together(output: str) -> None:
    assert one("tool_call", output, [F, PAY], find="anywhere") == 1
    assert one("tool_call", output, F, find="anywhere") == 0, "a call too many"
    assert one("tool_call", output, PAY, find="anywhere") == 0
    assert one("tool_call", output, [], find="anywhere") == 0
    assert one("tool_call", output, []) == 0, "nor is it silence where calls are not searched for"


PING = {"tool": "ping", "arguments": {}}
KNOWN = {"name": "remind", "arguments": {"text": "x"}}


@pytest.mark.parametrize(
    "output",
    [
        f'```json\n{json.dumps(PING)}\n```\nand\n```python\nremind(text="x")\n```',
        "[ping()]\nThen:\nremind(text='x')",
        "ping()\nremind(text='x')",
        'So:\n```tool_code\nprint(ping())\nprint(remind(text="x"))\n```',
        'So:\n```py\nping(), remind(text="x")\n```',
        'So:\n```\nremind(\n    text="x",\n)\nping()\n```',
        f"{json.dumps(PING)}, and I call `remind(text='x')`, as repay(sum=5) or obj.remind(text='y') would.",
    ],
)
def test_calls_in_python_without_brackets_count_where_the_tool_is_known(output: str) -> None:
    assert one("tool_call", output, [PING, KNOWN], find="anywhere") == 1
    assert one("tool_call", output, PING, find="anywhere") == 0, "a call too many"
    assert one("tool_call", output, []) == one("tool_call", output, [], find="anywhere") == 0


def test_calls_on_several_lines_are_read_without_a_search() -> None:
    assert parse_calls("f(a=1)\ng.h(b=['x', None, True])") == parse_calls("f(a=1); g.h(b=('x', null, true))") == [A, B]
    assert parse_calls("f(a=1)\nx = 2") is None


@pytest.mark.parametrize(
    "rest",
    [
        "remind('x')", "and remind(5)", "and remind(te", "Then: [remind(text=x, minutes=5)]", "Or [ping(), remind(",
        "functions.remind(text='x')", "{'tool': 'remind', 'arguments': {'text': 'x'}}", '{tool: "remind"}',
    ],
)  # fmt: skip
def test_a_further_call_in_other_spellings_spoils_the_answer(rest: str) -> None:
    assert one("tool_call", f"{json.dumps(PING)}\n{rest}", PING, find="anywhere") == 0
    assert one("tool_call", f"Well: {rest}", []) == one("tool_call", f"Well: {rest}", [], find="anywhere") == 0
    unread = f"Then: [remind(text='x'), {rest}(x)]"
    assert one("tool_call", unread, KNOWN, find="anywhere") == 0, "a part of a list is not its calls"


NULL = '{"tool": null}'


@pytest.mark.parametrize(
    "output",
    [
        f"{NULL}\n{json.dumps(PING)}",
        f"{json.dumps(PING)}; {NULL}",
        f"So {json.dumps(PING)}, or {NULL}",
        f"[ping()] or {NULL}",
        f"[f(a=1)] or {NULL}",
        f"<tool_call>{json.dumps(PING)}</tool_call><tool_call>{NULL}</tool_call>",
        f"```json\n[]\n```\n{json.dumps(PING)}",
    ],
)
def test_no_call_beside_a_call_contradicts_it(output: str) -> None:
    for accepted in (PING, F, {"tool": None}, [], output):
        for find in ("only", "anywhere"):
            assert one("tool_call", output, accepted, find=find) == 0, (accepted, find)
    assert one("schema_valid", output, find="anywhere") == 0


def test_an_empty_list_in_prose_says_nothing_of_calls() -> None:
    for output, null in [("The list is [].", 0), ("[]", 1), ("So:\n```json\n[]\n```", 1)]:
        assert one("tool_call", output, {"tool": None}, find="anywhere") == null, output
        assert one("tool_call", output, [], find="anywhere") == 1, output


@pytest.mark.parametrize(
    "example",
    ['With {"a": 1, "name": "Anna"}:', 'As in {"sum": [1, {"x": {}}]}:', "By [1] and [see](x):", "{a} {b}:", "[]"],
)
def test_json_that_is_no_call_stands_beside_one(example: str) -> None:
    assert one("tool_call", f"{example} {json.dumps(F)}, {{so}}", F, find="anywhere") == 1


@pytest.mark.parametrize(
    "rest",
    ['<tool_call>{"name": "pay", "argu', '{"tool": "pay", "arguments": {"sum"', "<function=pay>{}", '{"name": "ping"'],
)
def test_a_further_call_that_cannot_be_read_spoils_the_answer(rest: str) -> None:
    assert one("tool_call", f"{json.dumps(F)}\n{rest}", F, find="anywhere") == 0


def test_a_name_without_arguments_calls_a_known_tool_only() -> None:
    assert parse_calls('{"name": "ping"}', known={"ping"}) == [Call("ping", {})]
    assert one("tool_call", '{"name": "ping"}', {"tool": "ping", "arguments": {}}) == 1, "ping is the task's"
    assert one("tool_call", '{"name": "f"}', {"tool": "f", "arguments": {}}) == 0
    assert one("tool_call", '{"name": "f"}', {"name": "f"}) == 1, "the accepted answer calls it so"
    alice = {"name": "Alice", "email": "alice@x.org"}
    assert one("tool_call", json.dumps({**alice, "email": "WRONG"}), alice) == 0
    assert one("tool_call", json.dumps(alice), []) == 1, "a record is no call"


@pytest.mark.parametrize("extra", [{"cancel": True}, {"input": {}}, {"parameters": {"a": 2}}])
def test_keys_beside_a_call_make_it_another_answer(extra: dict[str, object]) -> None:
    assert one("tool_call", json.dumps(F | extra), F) == 0
    assert one("tool_call", json.dumps([F | extra]), F) == 0
    assert one("tool_call", json.dumps({"function": {"name": "f", "arguments": {"a": 1}}, **extra}), F) == 0
    assert one("tool_call", json.dumps({"tool_calls": [F], **extra}), F) == 0
    assert one("tool_call", json.dumps(F | extra), F | extra) == 1
    assert one("schema_valid", json.dumps({"name": "ping", "arguments": {}, "cancel": True})) == 0


def test_what_interfaces_write_around_a_call_says_nothing() -> None:
    wrapped = {"id": "call_1", "type": "function", "index": 0, "function": {"name": "f", "arguments": '{"a": 1}'}}
    assert one("tool_call", json.dumps(wrapped), F) == 1
    assert one("tool_call", json.dumps({"role": "assistant", "content": None, "tool_calls": [wrapped]}), F) == 1
    assert one("tool_call", json.dumps({"id": "x", "type": "function", **F}), F) == 1


def test_right_tool_and_schema_valid_read_calls_as_tool_call_does() -> None:
    for output in (
        '{"name": "ping", "arguments": {}}',
        "ping()",
        '<tool_call>{"name": "ping", "arguments": {}}</tool_call>',
    ):
        assert one("right_tool", output, {"tool": "ping", "arguments": {}}) == 1
        assert one("schema_valid", output) == 1
    two = '[{"name": "ping", "arguments": {}}, {"name": "ping", "arguments": {}}]'
    assert one("right_tool", two, {"tool": "ping", "arguments": {}}) == 0
    fences = "```json\n{}\n``` ```json\n{}\n```"
    both = fences.replace("{}", '{"name": "ping", "arguments": {}}')
    assert one("schema_valid", both, find="anywhere") == 1
    wrong = both.replace('{"name": "ping", "arguments": {}}', '{"tool": "nope", "arguments": {}}', 1)
    assert one("schema_valid", wrong, find="anywhere") == 0


def test_an_accepted_text_is_searched_for_calls_as_outputs_are() -> None:
    reply = f"Let me see.\n```json\n{json.dumps(F)}\n```"
    assert (
        one("tool_call", json.dumps(F), reply, find="anywhere") == one("tool_call", reply, reply, find="anywhere") == 1
    )
    assert one("tool_call", "Let me see.", reply, find="anywhere") == 0


def test_strict_makes_case_in_arguments_count() -> None:
    wanted = {"tool": "open", "arguments": {"path": "README.md", "keys": ["AbC"]}}
    other = {"tool": "open", "arguments": {"path": "readme.md", "keys": ["aBc"]}}
    assert one("tool_call", json.dumps(other), wanted) == 1
    assert one("tool_call", json.dumps(other), wanted, strict=True) == 0
    assert one("tool_call", json.dumps(wanted), wanted, strict=True) == 1
    possible = {"open": {"path": ["README.md", "Readme"]}}
    assert one("tool_call", 'open(path="Readme")', possible, values="possible", strict=True) == 1
    assert one("tool_call", 'open(path="readme")', possible, values="possible", strict=True) == 0
    with pytest.raises(UserError, match="contradict"):
        scorer("tool_call", strict=True, text="loose")


@pytest.mark.parametrize(
    "part",
    [
        "<tool_call>",
        "</tool_call><tool_call>",
        "[a(",
        '{"a":',
        "[",
        "f(a=",
        "; {",
        "[] ",
        '{"tool": "f"} ',
        "{x",
        '["',
        "[f(a=1)] ",
        "ping(",
        "ping() ",
        "ping(x)\n",
        "[ping(x), ",
        "a.",
    ],
)
def test_hostile_repetition_costs_no_quadratic_time(part: str) -> None:
    start = time.process_time()
    assert one("tool_call", part * (300_000 // len(part)), REMIND, find="anywhere") == 0
    assert time.process_time() - start < 20, "quadratic time would take minutes"


def test_several_calls_match_in_any_order_and_none_counts_twice() -> None:
    accepted = [{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": 2}}]
    assert one("tool_call", "[f(a=2), f(a=1)]", accepted) == 1
    assert one("tool_call", "[f(a=1), f(a=1)]", accepted) == 0
    assert one("tool_call", "[f(a=1)]", accepted) == 0
    assert one("tool_call", "[f(a=1), f(a=2), f(a=2)]", accepted) == 0
    assert one("tool_call", "[f(a=3), f(b=1)]", accepted, check="names") == 1
    assert one("tool_call", "[f(a=3), g(b=1)]", accepted, check="names") == 0


def test_a_call_that_fits_two_leaves_the_right_one_to_the_other() -> None:
    accepted = [{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]
    assert one("tool_call", "[f(a=1), f(a=2)]", accepted, values="possible") == 1
    assert one("tool_call", "[f(a=2), f(a=2)]", accepted, values="possible") == 0


def test_arguments_are_compared_canonically() -> None:
    accepted = {"tool": "f", "arguments": {"city": "Milan", "n": 5}}
    assert one("tool_call", 'f(n=5.0, city=" milan. ")', accepted) == 1
    assert one("tool_call", 'f(n="5", city="Milan")', accepted) == 0
    assert one("tool_call", 'f(city="Milan")', accepted) == 0
    assert one("tool_call", 'f(n=5, city="Milan", x=1)', accepted) == 0
    loose = {"tool": "f", "arguments": {"day": "2026-03-11"}}
    assert one("tool_call", 'f(day="2026/03/11")', loose) == 0
    assert one("tool_call", 'f(day="2026/03/11")', loose, text="loose") == 1


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('f(city="NYC")', 1),
        ('f(city="New York", unit="km")', 1),
        ('f(city="Rome")', 0),
        ('f(city="NYC", unit="mi")', 0),
        ('f(city="NYC", more=1)', 0),
        ('f(unit="km")', 0),
        ('f(city="NYC", where={"lat": 1})', 1),
        ('f(city="NYC", where={"lat": 1, "lon": 2})', 1),
        ('f(city="NYC", where={"lon": 2})', 0),
        ('f(city="NYC", stops=[{"at": "a"}, {"at": "c"}])', 1),
        ('f(city="NYC", stops=[{"at": "a"}])', 0),
        ('f(city="NYC", ids=[1, 2])', 1),
        ('f(city="NYC", ids=[2, 1])', 0),
        ('g(city="NYC")', 0),
    ],
)
def test_possible_values_work_as_in_bfcl(output: str, expected: float) -> None:
    possible = {
        "city": ["New York", "NYC"],
        "unit": ["km", ""],
        "where": [{"lat": [1], "lon": [2, ""]}, ""],
        "stops": [[{"at": ["a", "b"]}, {"at": ["c"]}], ""],
        "ids": [[1, 2], [3], ""],
    }
    for accepted in ({"f": possible}, [{"f": possible}], {"name": "f", "arguments": possible}):
        assert one("tool_call", output, accepted, values="possible") == expected
    rule = scorer("tool_call", values="possible")
    assert rule.function(rule.written({"f": possible}), item({"f": possible}), task()) == 1


def test_no_call_is_asked_for_in_two_ways() -> None:
    for output, null, nothing in [
        ('{"tool": null}', 1, 1),
        ("[]", 1, 1),
        ("I cannot do that.", 0, 1),
        ("f(a=1)", 0, 0),
        ("I call [f(a=1)] now", 0, 0),
    ]:
        assert one("tool_call", output, {"tool": None}) == null, output
        assert one("tool_call", output, []) == nothing, output


@pytest.mark.parametrize(
    "output",
    [
        "<tool_call>{bad json",
        "Let me see. <|tool_call|>[{",
        '<|python_tag|>{"name": "ping", "par',
        '[send_mail(to="x", text="Dea',
        '[send_mail("x")]',
        'ping("x")',
        'ping(text="a (b) c',
        '{"tool": "pi',
        '[{"name": "ping", "argum',
        '{"name": "other", "arguments": "{\\"text\\": \\"Dea"}',
        'So: {"name": "other", "parameters": {"a": ',
    ],
)
def test_a_call_that_cannot_be_read_is_still_no_silence(output: str) -> None:
    assert one("tool_call", output, []) == 0
    assert one("tool_call", output, "I cannot do that.") == 0


@pytest.mark.parametrize(
    "output",
    [
        "",
        "I cannot do that.",
        "ping(x) is a function that I have.",
        "You could use remind, ping (or both).",
        "[see here](https://example.com) for what ping() does",
        "[1] and [2] say so {citation}",
        '{"answer": "no", "reason": "none fits',
        'The record is {"name": "Anna", "age": 3, ...}.',
        "f(x) = x + 1",
        'You could use print("x"), or call open(path="a").',
        "Call remind(…) or remind(text=text, minutes=minutes); which of them?",
        "I have:\n- remind(text)\n- ping()\nWhich do you want?",
        "def remind(text='x'): ...",
        "As [ping(host)](https://example.com) says.",
    ],
)
def test_prose_that_speaks_of_functions_makes_no_call(output: str) -> None:
    assert one("tool_call", output, []) == 1
    assert one("tool_call", output, "I cannot do that.") == 1, "an accepted text without a call asks for none"
    assert one("tool_call", output, {"tool": None}) == 0


arguments = st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), json_values, max_size=4)
calls = st.lists(st.tuples(st.sampled_from(["f", "g", "a.b"]), arguments), min_size=1, max_size=4)


@settings(max_examples=40)
@given(calls, st.randoms())
def test_any_spelling_and_order_of_the_right_calls_is_right(made: list[tuple[str, dict[str, object]]], rng) -> None:
    accepted = [{"tool": name, "arguments": given} for name, given in made]
    rng.shuffle(made)
    spelled = [{"name": name, "parameters": given} for name, given in made]
    tags = "".join(f"<tool_call>{json.dumps(call)}</tool_call>" for call in spelled)
    wrapped = [{"function": {"name": name, "arguments": json.dumps(given)}} for name, given in made]
    for output in (json.dumps(spelled), tags, ";".join(map(json.dumps, spelled)), json.dumps({"tool_calls": wrapped})):
        if "</tool_call>" not in json.dumps(spelled):
            assert one("tool_call", output, accepted) == 1, output


@given(arguments.filter(lambda given: not any(isinstance(value, float) for value in given.values())))
def test_pythonic_calls_are_read_as_the_values_that_they_are(given: dict[str, object]) -> None:
    names = {name: value for name, value in given.items() if name not in {"as", "if", "in", "is", "or", "and", "not"}}
    output = f"[f({', '.join(f'{name}_={value!r}' for name, value in names.items())})]"
    wanted = {"tool": "f", "arguments": {f"{name}_": value for name, value in names.items()}}
    assert one("tool_call", output, wanted) == 1, output


@given(anything | st.text(alphabet="f(a=1)[]{},'\":; name<tool_call>/", max_size=60), json_values)
def test_no_output_makes_a_tool_call_rule_raise(output: str, accepted: object) -> None:
    for options in ({}, {"find": "anywhere", "text": "loose"}, {"values": "possible"}, {"check": "names"}):
        rule = scorer("tool_call", **options)
        assert rule.function(output, item(accepted, REMIND, []), task()) in {0, 1}
        rule.written(accepted)
    assert one("right_tool", output, accepted) in {0, 1}
