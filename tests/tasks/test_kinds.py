"""Tasks that generate nothing, and tasks on a data set of the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.test_task import make, refused
from tunelift.tasks.task import load_task

CHOICE = {"kind": "choice", "tools": None, "max_tokens": None, "cluster": None, "scorers": None, "primary": None}
QUESTIONS = [
    {"id": "a", "request": "Capital of Italy?", "choices": ["Rome", "Milan"], "right": 0},
    {"id": "b", "request": "Capital of France?", "choices": ["Lyon", "Nice", "Paris"], "right": "Paris"},
]


def questions(folder: Path, rows: list[dict[str, Any]] = QUESTIONS, **changes: Any) -> Path:
    settings = {**CHOICE, "prompt": {"user": "{request}\nAnswer:"}, **changes}
    return make(folder, [json.dumps(row) for row in rows], **settings)


def test_a_choice_task_has_continuations_and_its_own_metrics(tmp_path: Path) -> None:
    task = load_task(questions(tmp_path, rendering="plain"))
    first, second = task.items
    assert (task.kind, task.rendering, task.metrics) == ("choice", "plain", ("accuracy", "accuracy_norm"))
    assert (first.choices, first.right, first.accepted) == ((" Rome", " Milan"), 0, (" Rome",))
    assert (second.right, second.accepted) == (2, (" Paris",))
    assert first.prompt == ({"role": "user", "content": "Capital of Italy?\nAnswer:"},)
    assert first.question == "Capital of Italy?"
    assert task.digests != load_task(questions(tmp_path, rendering="chat")).digests


def test_a_blank_stands_before_a_choice_only_in_plain_text(tmp_path: Path) -> None:
    behind_header = load_task(questions(tmp_path / "a"))
    assert behind_header.items[0].choices == ("Rome", "Milan")
    prompt = {"user": "{request}\nAnswer: "}
    assert load_task(questions(tmp_path / "b", rendering="plain", prompt=prompt)).items[0].choices == ("Rome", "Milan")
    given = {"user": "{request}\nAnswer:", "choice": " {choice}"}
    assert load_task(questions(tmp_path / "c", prompt=given)).items[0].choices == (" Rome", " Milan"), (
        "as it is written"
    )


def test_choices_can_be_listed_and_answered_by_letter(tmp_path: Path) -> None:
    prompt = {"user": "{request}\n{choices}\nAnswer:", "choice": " {letter}"}
    item = load_task(questions(tmp_path, prompt=prompt)).items[1]
    assert item.prompt[0]["content"] == "Capital of France?\nA. Lyon\nB. Nice\nC. Paris\nAnswer:"
    assert item.choices == (" A", " B", " C")


def test_listed_choices_are_not_looked_for_in_training_rows(tmp_path: Path) -> None:
    about = "Which of these two towns is the capital of Italy?"
    rows = [{**row, "about": row.pop("request")} for row in map(dict, QUESTIONS)]
    rows[0]["about"] = about
    prompt = {"user": "{about}\n{choices}\nAnswer:", "choice": " {letter}"}
    first, short = load_task(questions(tmp_path, rows, prompt=prompt)).items[:2]
    assert first.question == f"{about}\nA. Rome\nB. Milan", "as it is asked"
    assert first.held_out == about
    assert short.held_out == short.question, "a few words may be an exam's usual phrase"
    for there in ("イタリアの首都はどちらの町ですか。", "เมืองหลวงของอิตาลีคือเมืองใด", "意大利的首都是哪个城市"):
        rows[0]["about"] = there
        first = load_task(questions(tmp_path, rows, prompt=prompt)).items[0]
        assert first.held_out == there, "words are not counted by blanks where a script has none"
    rows[0]["about"] = about
    alone = load_task(questions(tmp_path, rows, prompt={**prompt, "user": "{choices}\nWhich?"})).items[0]
    assert alone.held_out == "A. Rome\nB. Milan"


@pytest.mark.parametrize(
    ("right", "number"), [(1, 1), ("1", 1), ("B", 1), ("Milan", 1), (2, None), (True, None), (None, None), ("Z", None)]
)
def test_the_right_choice_may_be_given_in_the_usual_ways(tmp_path: Path, right: Any, number: int | None) -> None:
    folder = questions(tmp_path, [{**QUESTIONS[0], "right": right}])
    if number is None:
        assert f"right={right!r} is none of the 2 choices" in refused(folder).message
    else:
        assert load_task(folder).items[0].right == number


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": ["1", "2"], "right": "1"}, "right='1' may mean more than one"),
        ({"choices": ["Rome"]}, "`choices` of at least two"),
        ({"choices": ["Rome", " "]}, "`choices` of at least two"),
        ({"choices": ["Rome", "Rome"]}, "same continuation"),
    ],
)
def test_choices_that_cannot_be_told_apart_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in refused(questions(tmp_path, [{**QUESTIONS[0], **changes}])).message


def test_a_perplexity_task_is_its_texts(tmp_path: Path) -> None:
    settings = {**CHOICE, "kind": "perplexity", "prompt": None, "role": "guard", "margin": 0.05}
    folder = make(tmp_path, [json.dumps({"id": "a", "text": "Some text."})], **settings)
    task = load_task(folder)
    item = task.items[0]
    assert (item.text, item.question, item.held_out) == ("Some text.",) * 3
    assert (item.prompt, item.accepted) == ((), ())
    assert task.metrics == ("bits_per_byte",)
    assert (task.scorer("bits_per_byte").lower_is_better, task.scorer("bits_per_byte").bounded) == (True, False)
    assert "no `text`" in refused(make(tmp_path, ['{"id": "a"}'], **settings)).message
    assert "`prompt` means nothing" in refused(make(tmp_path, **{**settings, "prompt": {"user": "x"}})).message


HUB = {"id": "owner/name", "revision": "0" * 40, "split": "validation"}


def from_hub(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """A task on a data set of the hub; what `datasets` would load stands here."""
    import datasets

    def load(name: str, config: str | None, *, split: str, revision: str) -> Any:
        assert (name, config, split, revision) == ("owner/name", None, "validation", "0" * 40)
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return make(folder, items=None, items_sha256=None, hub=HUB, cluster=None, **changes)


def test_a_hub_data_set_becomes_items_by_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"ask": "2+2", "answers": {"text": ["4", "four"]}, "call": [{"a": 1}, {"b": 2}]},
        {"ask": "1+1", "answers": {"text": ["2"]}, "call": [{"a": 1}, {"b": 2}]},
    ]
    fields = {"request": "ask", "accepted": "answers.text"}
    settings = {"fields": fields, "tools": None, "scorers": ["exact_match"], "prompt": {"user": "{request}"}}
    task = load_task(from_hub(tmp_path, monkeypatch, rows, **settings))
    assert [(item.id, item.question, item.accepted) for item in task.items] == [
        ("row-1", "2+2", ("4", "four")),
        ("row-2", "1+1", ("2",)),
    ]
    calls = load_task(from_hub(tmp_path, monkeypatch, rows, **{**settings, "fields": {**fields, "accepted": "call"}}))
    assert calls.items[0].accepted == ({"a": 1}, {"b": 2}), "without the nulls that Arrow fills in"
    single = load_task(from_hub(tmp_path, monkeypatch, rows, **{**settings, "fields": {**fields, "accepted": "ask"}}))
    assert single.items[0].accepted == ("2+2",)
    error = refused(from_hub(tmp_path, monkeypatch, rows, **{**settings, "fields": {"accepted": "answer"}}))
    assert "no column 'answer'" in error.message
    assert error.where == "hub:owner/name:1"


def test_a_hub_that_cannot_be_had_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    folder = from_hub(tmp_path, monkeypatch, [])
    for failure, message in [
        (ConnectionError("Couldn't reach it"), "The hub cannot be reached"),
        (ValueError("Unknown split 'validation'."), "cannot be loaded: Unknown split"),
    ]:

        def load(*_: Any, failure: Exception = failure, **__: Any) -> Any:
            raise failure

        monkeypatch.setattr(datasets, "load_dataset", load)
        error = refused(folder)
        assert message in error.message
        assert error.where == "hub:owner/name"
