"""Tasks: folders are read strictly, and a data set's split becomes a task."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.scorers.making import json_values
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.errors import UserError
from tunelift.tasks.ahead import task_ahead
from tunelift.tasks.scorers import score
from tunelift.tasks.task import load_task, task_from_split

ROWS = [
    {
        "id": "a",
        "today": "Monday",
        "request": "wake {me} up",
        "accepted": [{"tool": None}],
        "tags": ["short"],
        "kind": 1,
    },
    {
        "id": "b",
        "today": "Friday",
        "request": "naïve café",
        "accepted": [{"tool": "t", "arguments": {}}, "no"],
        "kind": 2,
    },
]
TOOLS = [{"name": "t", "description": "d", "parameters": {"type": "object"}}]


def make(folder: Path, lines: list[str] | None = None, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = "".join(
        line + "\n" for line in (lines if lines is not None else [json.dumps(row) for row in ROWS])
    ).encode()
    (folder / "items.jsonl").write_bytes(content)
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    task = {
        "name": "golden",
        "version": 3,
        "role": "target",
        "description": "What it is.",
        "licence": "CC0-1.0",
        "items": "items.jsonl",
        "items_sha256": hashlib.sha256(content).hexdigest(),
        "tools": "tools.json",
        "prompt": {
            "system": "Be short. {braces}",
            "user": "Today is {today}.\n{request}",
            "instructed": 'Tools:\n{tools}\nAnswer {"tool": null}.',
        },
        "scorers": ["exact_match", "schema_valid"],
        "primary": "exact_match",
        "cluster": "kind",
        "max_tokens": 96,
    }
    for key, value in changes.items():
        if value is None:
            del task[key]
        else:
            task[key] = value
    (folder / "task.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    return folder


def refused(folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        load_task(folder)
    return caught.value


def test_a_folder_becomes_prompts_for_both_kinds_of_arm(tmp_path: Path) -> None:
    task = load_task(make(tmp_path))
    first, second = task.items
    assert first.prompt == (
        {"role": "system", "content": "Be short. {braces}"},
        {"role": "user", "content": "Today is Monday.\nwake {me} up"},
    )
    assert first.instructed[0]["content"] == (
        'Tools:\n[{"name":"t","description":"d","parameters":{"type":"object"}}]\nAnswer {"tool": null}.'
    )
    assert first.instructed[1] == first.prompt[1]
    assert (first.question, second.question) == ("wake {me} up", "naïve café")
    assert (first.cluster, second.cluster) == ("1", "2")
    assert second.accepted == ({"tool": "t", "arguments": {}}, "no")
    assert (first.tags, second.tags) == (("short",), ())
    assert (task.name, task.version, task.primary, task.max_tokens) == ("golden", 3, "exact_match", 96)


def test_without_an_instructed_prompt_all_arms_see_the_same(tmp_path: Path) -> None:
    task = load_task(make(tmp_path, prompt={"system": "s", "user": "{today}: {request}"}))
    assert task.items[0].instructed == task.items[0].prompt


def test_a_field_value_with_braces_is_not_filled_again(tmp_path: Path) -> None:
    row = json.dumps({"id": "a", "request": "{today} {tools}", "today": "Monday", "accepted": ["x"], "kind": 1})
    assert load_task(make(tmp_path, [row])).items[0].prompt[1]["content"] == "Today is Monday.\n{today} {tools}"


def test_a_changed_items_file_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with (folder / "items.jsonl").open("a") as file:
        file.write(json.dumps({**ROWS[0], "id": "c"}) + "\n")
    error = refused(folder)
    assert "changed" in error.message
    assert hashlib.sha256((folder / "items.jsonl").read_bytes()).hexdigest() in error.message
    assert "version" in error.remedy


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        ([json.dumps(ROWS[0]), '{"id": "b", "acc'], 2, "no JSON"),
        (["", json.dumps(ROWS[0]), "[1]"], 3, "no JSON object"),
        ([json.dumps({**ROWS[0], "id": 7})], 1, "`id`"),
        ([json.dumps({**ROWS[0], "accepted": []})], 1, "`accepted`"),
        ([json.dumps({**ROWS[0], "tags": "short"})], 1, "tags='short'"),
        ([json.dumps(ROWS[0]), json.dumps(ROWS[0])], 2, "items.jsonl:1 already"),
        (
            [json.dumps(ROWS[0]), json.dumps({"id": "b", "request": "x", "accepted": [1], "kind": 1})],
            2,
            "no field `today`",
        ),
        ([json.dumps({"id": "b", "request": "x", "today": "y", "accepted": [1]})], 1, "no field `kind`"),
    ],
)
def test_a_bad_item_is_named_by_file_and_line(tmp_path: Path, lines: list[str], line: int, message: str) -> None:
    error = refused(make(tmp_path, lines))
    assert error.where == f"{tmp_path / 'items.jsonl'}:{line}"
    assert message in error.message
    assert error.remedy


def test_a_misspelt_accepted_gets_a_hint(tmp_path: Path) -> None:
    assert "Is `acepted` meant" in refused(make(tmp_path, [json.dumps({"id": "a", "acepted": [1]})])).remedy


@pytest.mark.parametrize(
    ("changes", "line", "message", "remedy"),
    [
        ({"max_token": 3}, 25, "There is no key `max_token`", "Did you mean `max_tokens`?"),
        ({"version": 0}, 2, "version=0", "Correct"),
        ({"version": None}, 1, "The key `version` is missing", "Add it"),
        ({"scorers": ["exact_match", {"scorer": "regex", "patern": "x"}]}, 22, "no key `patern`", "`pattern`"),
        ({"hub": {"id": "a/b", "revision": "main"}}, 27, "hub.revision='main'", "full commit"),
        ({"role": "judge"}, 3, "role='judge'", "Correct"),
        ({"prompt": {"usr": "x"}}, 10, "There is no key `prompt.usr`", "Did you mean `user`?"),
        ({"items_sha256": "abc"}, 7, "items_sha256='abc'", "Correct"),
    ],
)
def test_a_bad_key_is_named_with_its_line(
    tmp_path: Path, changes: dict[str, Any], line: int, message: str, remedy: str
) -> None:
    error = refused(make(tmp_path, **changes))
    assert message in error.message
    assert remedy in error.remedy
    assert error.where == f"{tmp_path / 'task.yaml'}:{line}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scorers": ["exact_match", "exact_mach"]}, "no scorer `exact_mach`"),
        ({"primary": "valid_json"}, "primary=valid_json is not among"),
        ({"tools": None}, "`schema_valid` needs"),
        ({"scorers": ["exact_match", "exact_match"]}, "twice"),
        ({"scorers": []}, "no scorers"),
        ({"scorers": ["accuracy"], "primary": "accuracy"}, "no scorer `accuracy`"),
        ({"role": "guard"}, "A guard needs a margin"),
        ({"margin": 0.1}, "`margin` belongs to guards"),
        ({"rendering": "plain"}, "`rendering` means nothing for a task of the kind generate"),
        ({"items_sha256": None}, "`items_sha256` is missing"),
        ({"hub": {"id": "a/b", "revision": "0" * 40}}, "either `items` or `hub`"),
    ],
)
def test_what_makes_no_sense_together_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert re.search(message, refused(make(tmp_path, **changes)).message)


def test_missing_and_unreadable_files_are_user_errors(tmp_path: Path) -> None:
    assert "missing" in refused(tmp_path / "nowhere").message
    folder = make(tmp_path / "a")
    (folder / "items.jsonl").unlink()
    assert refused(folder).where == str(folder / "items.jsonl")
    folder = make(tmp_path / "b")
    (folder / "items.jsonl").write_bytes(b'{"id": "a"}\n{"id": "caf\xe9"}\n')
    assert refused(folder).where == f"{folder / 'items.jsonl'}:2"
    folder = make(tmp_path / "c")
    (folder / "task.yaml").write_text("name: x\n  version: [1\n")
    assert "Not valid YAML" in refused(folder).message
    folder = make(tmp_path / "d", [])
    assert "no item" in refused(folder).message
    folder = make(tmp_path / "e")
    (folder / "tools.json").write_text('[{"name": "t", "parameters": {"type": "objekt"}}]')
    assert "no JSON schema" in refused(folder).message


def test_a_number_for_a_text_is_shown_as_it_was_written(tmp_path: Path) -> None:
    folder = make(tmp_path)
    path = folder / "task.yaml"
    path.write_text(re.sub(r"(?m)^name: .*$", "name: 695e0514", path.read_text()))
    error = refused(folder)
    assert error.message.startswith("name=695e0514: ") and error.remedy == "Put it in quotes."


def test_what_is_known_of_a_splits_task_ahead_holds_when_its_rows_are_there() -> None:
    rows = [row("a", "yes"), row("b", '{"x": 1}')]
    for scorers in ("auto", ("contains", "exact_match")):
        config = SplitTaskConfig(from_split="test", scorers=scorers, name="mine")
        ahead, made = task_ahead(config), task_from_split(rows, config)
        assert (ahead.name, ahead.role, ahead.kind) == (made.name, made.role, made.kind)
        assert set(made.metrics) <= set(ahead.metrics)
    with pytest.raises(UserError, match="primary=f1 is not among the scorers"):
        task_ahead(SplitTaskConfig(from_split="test", scorers=("contains",), primary="f1"))


def test_digests_follow_what_is_compared(tmp_path: Path) -> None:
    task = load_task(make(tmp_path / "a"))
    other_prompt = load_task(make(tmp_path / "b", prompt={"system": "Other", "user": "Today is {today}.\n{request}"}))
    assert other_prompt.digests == task.digests, "the prompt belongs to the arm"
    assert other_prompt.digest != task.digest
    fewer_tokens = load_task(make(tmp_path / "c", max_tokens=95))
    assert {key for key in task.digests if fewer_tokens.digests[key] != task.digests[key]} == {"decoding"}
    other_scorers = load_task(make(tmp_path / "d", scorers=["exact_match"]))
    assert {key for key in task.digests if other_scorers.digests[key] != task.digests[key]} == {"scorers"}
    assert {key for key in task.digests if task.first(1).digests[key] != task.digests[key]} == {"items"}
    assert task.first(None) is task


def row(identity: str, reply: str, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": f"ask {identity}"},
        {"role": "assistant", "content": reply},
    ]
    return {"id": identity, "messages": messages, "source": f"x.jsonl:{identity}", "group": "g" + identity, **more}


def test_some_rows_of_a_split_are_drawn_from_all_of_it() -> None:
    rows = [row(f"{source}{number:03}", "yes") for source in "abc" for number in range(50)]

    def drawn(count: int | None, seed: int) -> list[str]:
        config = SplitTaskConfig(from_split="test", max_items=count)
        return [item.id for item in task_from_split(rows, config, seed=seed).items]

    for seed in range(5):
        assert min(Counter(name[0] for name in drawn(45, seed)).values()) >= 5
    assert drawn(45, 1) == sorted(drawn(45, 1)), "in the order of the file"
    assert set(drawn(44, 1)) < set(drawn(45, 1))
    assert drawn(45, 1) != drawn(45, 2)
    assert drawn(None, 1) == drawn(150, 2) == [one["id"] for one in rows]
    task = task_from_split(rows, SplitTaskConfig(from_split="test"))
    assert [item.id for item in task.first(45, 1).items] == drawn(45, 1)
    assert min(Counter(item.id[0] for item in task.first(45).items).values()) >= 5
    assert task.first(45).first(45) == task.first(45)


def test_the_group_that_decided_the_split_is_the_cluster() -> None:
    rows = [row("1", "yes", cluster="c"), row("2", "no", cluster="c"), row("3", "no", cluster="d"), row("4", "no")]
    task = task_from_split(rows, SplitTaskConfig(from_split="test"))
    assert [item.cluster for item in task.items] == ["c", "c", "d", "g4"]


def test_a_split_of_tool_calls_gets_json_scorers() -> None:
    rows = [row("1", '{"tool": null}'), row("2", '{"tool": "t", "arguments": {}}'), row("3", '{"tool": "u"}')]
    config = SplitTaskConfig(from_split="test", instruction="long", max_items=2, max_tokens=9)
    task = task_from_split(rows, config, seed=2)
    assert (task.name, task.metrics, task.primary) == (
        "test",
        ("exact_match", "valid_json", "field_f1", "right_tool"),
        "exact_match",
    )
    assert [item.accepted for item in task.items] == [({"tool": None},), ({"tool": "t", "arguments": {}},)]
    first = task.items[0]
    assert first.prompt == tuple(rows[0]["messages"][:2])
    assert first.instructed == ({"role": "system", "content": "long"}, {"role": "user", "content": "ask 1"})
    assert (first.question, first.cluster, task.max_tokens) == ("ask 1", "g1", 9)


@pytest.mark.parametrize(
    ("replies", "scorers"),
    [
        (['{"a": 1}', '{"b": 2}'], ("exact_match", "valid_json", "field_f1")),
        (['["x0", "y"]', '{"tool": "t"}'], ("exact_match", "valid_json", "field_f1")),
        (["Paris", '{"b": 2}'], ("exact_match",)),
        (["1", '"two"'], ("exact_match",)),
    ],
)
def test_a_split_gets_the_scorers_that_its_replies_allow(replies: list[str], scorers: tuple[str, ...]) -> None:
    task = task_from_split(
        [row(str(n), reply) for n, reply in enumerate(replies)], SplitTaskConfig(from_split="validation")
    )
    assert task.metrics == scorers


JSON_SCORERS = ("exact_match", "field_f1", "valid_json")


@pytest.mark.parametrize(
    "strangers",
    [["Sorry, I cannot do that."], ["[]"], ["3"], []],
    ids=["beside text", "beside []", "beside 3", "alone"],
)
@pytest.mark.parametrize(
    ("reply", "same"),
    [('{"a": 1, "b": [2, 3]}', '{"b":[2,3],"a":1.0}'), ('["x0","y"]', '["x0", "y"]')],
    ids=["object", "list"],
)
def test_json_replies_are_judged_as_json_whatever_stands_beside_them(
    reply: str, same: str, strangers: list[str]
) -> None:
    rows = [row(str(number), one) for number, one in enumerate([reply, *strangers])]
    task = task_from_split(rows, SplitTaskConfig(from_split="test", scorers=JSON_SCORERS))
    assert score(same, task.items[0], task) == dict.fromkeys(JSON_SCORERS, 1.0)
    assert score(same.replace("2", "9").replace("y", "z"), task.items[0], task)["exact_match"] == 0
    automatic = task_from_split(rows, SplitTaskConfig(from_split="test"))
    assert score(same, automatic.items[0], automatic)["exact_match"] == 1
    for stranger, item in zip(strangers, task.items[1:], strict=True):
        assert score(stranger, item, task)["exact_match"] == score(stranger, item, task)["field_f1"] == 1
        assert score(same, item, task)["exact_match"] == 0


@given(st.lists(json_values, min_size=1, max_size=4))
def test_each_row_of_a_split_has_its_own_right_answer(values: list[Any]) -> None:
    replies = [json.dumps(value) for value in values] + ["No JSON."]
    rows = [row(str(number), reply) for number, reply in enumerate(replies)]
    task = task_from_split(rows, SplitTaskConfig(from_split="test"))
    right = [value if isinstance(value, (dict, list)) else json.dumps(value) for value in values]
    assert [item.accepted for item in task.items] == [(one,) for one in (*right, "No JSON.")]


def test_where_calls_are_judged_json_that_is_no_call_wants_none() -> None:
    replies = ['{"answer": 4}', "[1, 2]", '{"tool": "t", "arguments": {"a": 1}}', '[{"name": "t", "arguments": {}}]']
    rows = [row(str(number), reply) for number, reply in enumerate(replies)]
    task = task_from_split(rows, SplitTaskConfig(from_split="test", scorers=("tool_call", "exact_match")))
    assert [score(reply, item, task) for reply, item in zip(replies, task.items, strict=True)] == [
        {"tool_call": 1.0, "exact_match": 1.0}
    ] * 4
    assert [score(replies[2], item, task)["tool_call"] for item in task.items] == [0, 0, 1, 0]


def test_a_split_can_be_judged_as_another_task_is(tmp_path: Path) -> None:
    other = load_task(make(tmp_path))
    rows = [row("1", '{"a": 1}'), row("2", "Paris")]
    task = task_from_split(rows, SplitTaskConfig(from_split="validation"), like=other)
    assert (task.scorers, task.primary, task.tools) == (other.scorers, other.primary, other.tools)
    assert task.digests["scorers"] == other.digests["scorers"]
    assert [item.accepted for item in task.items] == [({"a": 1},), ("Paris",)]


def test_an_instruction_is_shared_only_if_every_item_has_it(tmp_path: Path) -> None:
    same, differing, none = ("Say it.", "Today is {today}.", None)
    found = {
        system: load_task(
            make(
                tmp_path / str(number),
                tools=None,
                scorers=["exact_match"],
                prompt={"system": system, "user": "{request}"},
            )
        ).shared_instruction
        for number, system in enumerate((same, differing, none))
    }
    assert found == {same: same, differing: None, none: None}


def test_a_split_without_instruction_shows_all_arms_the_same_and_keeps_template_tools() -> None:
    task = task_from_split([row("1", "yes", tools=[{"name": "t"}])], SplitTaskConfig(from_split="test", name="mine"))
    assert task.items[0].instructed == task.items[0].prompt
    assert task.items[0].tools == ({"name": "t"},)
    assert task.name == "mine"


def test_splits_that_make_no_task_are_refused() -> None:
    with pytest.raises(UserError, match="split is empty"):
        task_from_split([], SplitTaskConfig(from_split="test"))
    with pytest.raises(UserError, match="has no supervised reply"):
        task_from_split(
            [{**row("1", "x"), "messages": [{"role": "user", "content": "x"}]}], SplitTaskConfig(from_split="test")
        )
    with pytest.raises(UserError, match="needs the tools"):
        task_from_split([row("1", "{}")], SplitTaskConfig(from_split="test", scorers=("schema_valid",)))


GOLDEN = Path(__file__).parents[2] / "evals" / "tool_calls_golden"


def test_every_accepted_golden_answer_scores_full_marks() -> None:
    from tunelift.tasks.scorers import canonical_json, score

    task = load_task(GOLDEN)
    assert len(task.items) >= 150
    for item in task.items:
        for accepted in item.accepted:
            scores = score(json.dumps(accepted), item, task)
            assert all(value == 1 for value in scores.values()), (item.id, canonical_json(accepted), scores)


def test_a_split_whose_replies_call_tools_is_judged_by_the_calls() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    calling = {
        **row("1", ""),
        "messages": [*row("1", "")["messages"][:-1], {"role": "assistant", "content": "", "tool_calls": [call]}],
    }
    task = task_from_split([calling, row("2", "It rains.")], SplitTaskConfig(from_split="test"))
    assert [scorer.name for scorer in task.scorers] == ["tool_call"]
    right, wrong = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>', "It rains."
    scores = [[task.scorers[0].function(output, item, task) for output in (right, wrong)] for item in task.items]
    assert scores == [[1.0, 0.0], [0.0, 1.0]]


def test_where_some_replies_call_tools_the_others_are_judged_by_their_text() -> None:
    rows = [calling("1", "weather"), calling("2", "weather", "time"), row("3", "It rains.")]
    scorers = ("tool_call", "exact_match", "chrf", "field_f1")
    task = task_from_split(rows, SplitTaskConfig(from_split="test", scorers=scorers))
    perfect = [
        '{"name": "weather", "arguments": {}}',
        '[{"name": "weather", "arguments": {}}, {"name": "time", "arguments": {}}]',
        "It rains.",
    ]
    for item, output in zip(task.items, perfect, strict=True):
        assert score(output, item, task) == dict.fromkeys(scorers, 1.0), output
        assert score("It snows for once.", item, task)["exact_match"] == 0


def calling(identity: str, *names: str) -> dict[str, Any]:
    calls = [{"type": "function", "function": {"name": name, "arguments": {}}} for name in names]
    said = row(identity, "")
    return said | {"messages": [*said["messages"][:-1], {"role": "assistant", "content": "", "tool_calls": calls}]}


@pytest.mark.parametrize(
    "tools", [["a"], [{"name": "t", "parameters": {"type": "dict"}}], [{"name": "t", "parameters": 3}]]
)
def test_tools_that_judge_are_checked_where_they_stand(tools: list[Any], tmp_path: Path) -> None:
    lines = [json.dumps(ROWS[1]), json.dumps({**ROWS[0], "tools": tools})]
    with pytest.raises(UserError) as caught:
        load_task(make(tmp_path, lines, tools=None, prompt={"user": "{request}"}))
    assert caught.value.where == f"{tmp_path / 'items.jsonl'}:2"
    of_split = {**row("1", "x"), "tools": tools, "source": "a.jsonl:7"}
    with pytest.raises(UserError) as caught:
        task_from_split([of_split], SplitTaskConfig(from_split="test", scorers=("schema_valid",)))
    assert caught.value.where == "a.jsonl:7"
    task_from_split([of_split], SplitTaskConfig(from_split="test", scorers=("tool_call",)))


def test_a_null_is_no_answer_and_no_cluster(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "answer": "x", "group": group} for group in (None, "", "g", "g")]
    lines = [json.dumps({**one, "id": str(number)}) for number, one in enumerate(rows)]
    task = load_task(make(tmp_path, lines, cluster="group", fields={"accepted": "answer"}))
    assert [item.cluster for item in task.items] == [None, None, "g", "g"]
    lines = [json.dumps({**rows[0], "id": "a"}), json.dumps({**rows[0], "id": "b", "answer": None})]
    with pytest.raises(UserError, match="no answer: it is null") as caught:
        load_task(make(tmp_path, lines, cluster="group", fields={"accepted": "answer"}))
    assert caught.value.where.endswith("items.jsonl:2")


@pytest.mark.parametrize(
    ("number", "refused_"),
    [("-9223372036854775808", False), ("18446744073709551615", False), ("1.00000000000000000001", False),
     ("18446744073709551616", True), ("-9223372036854775809", True), ("9" * 300, True)],
)  # fmt: skip
def test_an_integer_that_would_lose_digits_is_refused(number: str, refused_: bool, tmp_path: Path) -> None:
    text = json.dumps({**ROWS[1], "request": f'a "{number}", which is no number'})
    folder = make(tmp_path, [text.replace('"accepted": [', f'"accepted": [{number}, ')])
    if not refused_:
        assert load_task(folder).items[0].accepted[0] == json.loads(number)
        return
    with pytest.raises(UserError, match=f"The integer {number[:20]}.* is beyond 64 bits") as caught:
        load_task(folder)
    assert caught.value.where == f"{tmp_path / 'items.jsonl'}:1"


@pytest.mark.parametrize(("field", "depth"), [("request", 300), ("accepted", 300), ("tools", 1000)])
def test_an_item_nested_too_deep_to_be_answered_is_refused(field: str, depth: int, tmp_path: Path) -> None:
    text = json.dumps({**ROWS[1], field: "DEEP"}).replace('"DEEP"', "[" * depth + "]" * depth)
    with pytest.raises(UserError, match="nested deeper than 64") as caught:
        load_task(make(tmp_path, [text]))
    assert caught.value.where == f"{tmp_path / 'items.jsonl'}:1"


def test_primary_is_the_first_scorer_unless_it_is_named(tmp_path: Path) -> None:
    assert load_task(make(tmp_path, primary=None)).primary == "exact_match"
    rows = [row("1", "12"), row("2", "13")]
    config = SplitTaskConfig(from_split="test", scorers=({"scorer": "number", "tolerance": 1}, "exact_match"))
    assert task_from_split(rows, config).primary == "exact_match"
    task = task_from_split(rows, config.model_copy(update={"primary": "number", "effect": 0.1}))
    assert (task.primary, task.effect, task.scorer("number").kind) == ("number", 0.1, "binary")
    with pytest.raises(UserError, match="primary=f1 is not among"):
        task_from_split(rows, config.model_copy(update={"primary": "f1"}))


def test_options_and_margin_are_part_of_what_is_compared_or_made(tmp_path: Path) -> None:
    numbers = [{"scorer": "number", "tolerance": tolerance} for tolerance in (0.1, 0.2)]
    counted = [json.dumps({**row, "accepted": [number]}) for number, row in enumerate(ROWS)]
    one, two = (
        load_task(make(tmp_path / str(n), counted, scorers=[rule], primary=None, tools=None))
        for n, rule in enumerate(numbers)
    )
    assert one.digests["scorers"] != two.digests["scorers"]
    narrow, wide = (
        load_task(make(tmp_path / f"m{margin}", role="guard", margin=margin, description="x")) for margin in (0.1, 0.2)
    )
    assert narrow.digests == wide.digests
    assert narrow.digest != wide.digest


def test_slices_become_tags(tmp_path: Path) -> None:
    task = load_task(make(tmp_path, slices=["today", "kind"]))
    assert [item.tags for item in task.items] == [("short", "today: Monday", "kind: 1"), ("today: Friday", "kind: 2")]
    assert "no field `nowhere`" in refused(make(tmp_path, slices=["nowhere"])).message


def test_an_items_own_tools_reach_the_chat_template_unless_the_prompt_writes_them(tmp_path: Path) -> None:
    tools = [{"name": "x", "parameters": {"type": "object"}}]
    lines = [json.dumps({**ROWS[0], "tools": tools})]
    written = load_task(make(tmp_path / "a", lines, tools=None, scorers=["exact_match"]))
    assert written.items[0].tools is None
    assert '"name":"x"' in written.items[0].instructed[0]["content"]
    rendered = load_task(make(tmp_path / "b", lines, tools=None, prompt={"user": "{request}"}))
    assert rendered.items[0].tools == ({"type": "function", "function": {"name": "x", "description": "", **tools[0]}},)


def test_all_bad_items_are_counted(tmp_path: Path) -> None:
    error = refused(make(tmp_path, ['{"id": "a"}', json.dumps(ROWS[0]), "[1]", "{"]))
    assert error.where.endswith(":1")
    assert "2 more items have something wrong" in error.message


@pytest.mark.parametrize("folder", sorted(GOLDEN.parent.glob("*/task.yaml")), ids=lambda path: path.parent.name)
def test_shipped_tasks_load(folder: Path) -> None:
    load_task(folder.parent)


@pytest.mark.parametrize(
    ("scorer", "replies", "says", "remedy"),
    [
        ("rougeL", ["The bridge is open.", "Мост закрыт до утра."], "scores 0 by rougeL", "chrf"),
        ("rouge1", ["The bridge is open.", "Мост 17 закрыт до утра."], "sees 11%", "chrf"),
        ("bleu", ["猫坐在垫子上很久"], "by bleu", "tokenize: char"),
        ("bleu", ["แมวนั่งบนเสื่อ"], "by bleu", "chrf"),
        ("rouge2", ["It is late.", "Late."], "scores 0 by rouge2", "chrf"),
        ("number", ["12", "The answer is $12."], "scores 0 by number", "find: last"),
        ("number", ["So 3 * 4 = 12.\n#### 12"], "scores 0 by number", "find: last"),
        ({"scorer": "number", "find": "last"}, ["It is 7", "It is between 5-7."], "scores 0 by number", "another"),
        ({"scorer": "regex", "pattern": "#### (.+)", "group": 1}, ["#### 7"], "scores 0 by regex", "options"),
        ({"scorer": "regex", "pattern": "ANSWER"}, ["The answer: 7"], "scores 0 by regex", "options"),
        ("own_zero:f", ["late", "early"], "scores 0 by f", "another"),
    ],
)
def test_a_metric_that_gives_a_splits_own_replies_no_full_marks_is_refused(
    scorer: Any, replies: list[str], says: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_zero.py").write_text("def f(output, item, task):\n    return 0\n")
    rows = [row(str(number), reply) for number, reply in enumerate(replies)]
    with pytest.raises(UserError) as caught:
        task_from_split(rows, SplitTaskConfig(from_split="test", scorers=(scorer,)))
    assert says in caught.value.message and "primary metric" in caught.value.message
    assert remedy in caught.value.remedy
    assert caught.value.where == f"x.jsonl:{0 if scorer == 'own_zero:f' else len(replies) - 1}"


@pytest.mark.parametrize(
    ("scorer", "replies"),
    [
        ("chrf", ["Мост закрыт до утра.", "猫坐在垫子上很久", "👍", "a"]),
        ({"scorer": "bleu", "tokenize": "char"}, ["猫坐在垫子上很久", "late"]),
        ("bleu", ["Мост закрыт", "Late."]),
        ("rougeL", ["Es ist schön, für dich.", "late"]),
        ({"scorer": "number", "find": "last"}, ["The answer is $12.", "#### 7", "1,5 Liter"]),
        ({"scorer": "length", "at_most": 3}, ["late", "yes"]),
        ({"scorer": "tool_call", "find": "anywhere"}, ['So: ```{"name": "f", "arguments": {}}```', "No."]),
        ("own_half:f", ["late", "early"]),
    ],
)
def test_a_metric_that_suits_the_replies_is_taken(
    scorer: Any, replies: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_half.py").write_text("def f(output, item, task):\n    return len(output) / 10\n")
    rows = [row(str(number), reply) for number, reply in enumerate(replies)]
    assert len(task_from_split(rows, SplitTaskConfig(from_split="test", scorers=(scorer,))).items) == len(replies)


def test_a_slow_scorer_is_tried_on_a_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = (
        "calls = []\ndef f(output, item, task):\n    calls.append(output)\n    return 0.0 if len(calls) < 3 else 0.5\n"
    )
    (tmp_path / "own_slow.py").write_text(code)
    task_from_split([row(str(n), "x") for n in range(50)], SplitTaskConfig(from_split="test", scorers=("own_slow:f",)))
    import own_slow  # type: ignore[import-not-found]

    assert len(own_slow.calls) <= 8


def test_a_folder_is_refused_where_no_accepted_answer_of_an_item_can_win(tmp_path: Path) -> None:
    items = [{**ROWS[0], "accepted": ["four", "4"]}, {**ROWS[1], "accepted": ["The answer is 12."]}]
    changes = {"tools": None, "primary": None}
    error = refused(make(tmp_path, [json.dumps(one) for one in items], scorers=["number"], **changes))
    assert "'The answer is 12.' scores 0 by number" in error.message
    assert error.where == f"{tmp_path / 'items.jsonl'}:2"
    last = [{"scorer": "number", "find": "last"}]
    assert load_task(make(tmp_path, [json.dumps(one) for one in items], scorers=last, **changes)).primary == "number"
    load_task(
        make(tmp_path, [json.dumps(one) for one in items], scorers=[{"scorer": "length", "at_most": 2}], **changes)
    )


def test_a_split_judged_as_a_task_is_refused_where_that_does_not_suit_it(tmp_path: Path) -> None:
    numbers = make(tmp_path, [json.dumps({**ROWS[0], "accepted": [4]})], tools=None, scorers=["number"], primary=None)
    with pytest.raises(UserError, match="scores 0 by number"):
        task_from_split([row("1", "Paris")], SplitTaskConfig(from_split="validation"), like=load_task(numbers))


def test_a_reply_with_a_name_is_a_call_only_of_a_tool_of_its_row() -> None:
    alice = '{"name": "Alice", "email": "alice@x.org"}'
    rows = [row("1", alice), calling("2", "ping"), row("3", '{"name": "ping"}', tools=[{"name": "ping"}])]
    task = task_from_split(rows, SplitTaskConfig(from_split="test", scorers=("tool_call", "exact_match")))
    assert [item.accepted[0] for item in task.items] == [alice, {"name": "ping", "arguments": {}}, {"name": "ping"}]
    assert score(alice.replace("alice@", "WRONG@"), task.items[0], task)["exact_match"] == 0


def test_a_reply_that_is_not_supervised_is_no_right_answer() -> None:
    one = row("1", "right")
    *_, asked, reply = one["messages"]
    wrong = {"role": "assistant", "content": "wrong", "weight": 0}
    for messages in ([asked, wrong, asked, reply], [asked, wrong, asked, reply, asked, wrong]):
        task = task_from_split([{**one, "messages": messages}], SplitTaskConfig(from_split="test"))
        (item,) = task.items
        assert item.accepted == ("right",)
        assert item.prompt == (asked, {"role": "assistant", "content": "wrong"}, asked), "the engine gets no weight"
    with pytest.raises(UserError, match="no supervised reply"):
        task_from_split([{**one, "messages": [asked, wrong]}], SplitTaskConfig(from_split="test"))
