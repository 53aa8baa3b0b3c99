"""`tunelift lint`: what is wrong with a task, what weakens it, and what it could show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.test_kinds import questions
from tests.tasks.test_task import GOLDEN, make
from tunelift.tasks.lint import SHOWN, Finding, lint

PLAIN = {"tools": None, "cluster": None, "scorers": ["exact_match"], "prompt": {"user": "{request}"}}


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"i{n}", "request": f"What is {n}?", "accepted": [str(n)], **more} for n in range(count)]


def found(folder: Path, items: list[dict[str, Any]] | None = None, **changes: Any) -> list[Finding]:
    lines = [json.dumps(one) for one in items] if items is not None else None
    return lint(make(folder, lines, **{**PLAIN, **changes}))


def one(findings: list[Finding], text: str) -> Finding:
    matching = [finding for finding in findings if text in finding.message]
    assert len(matching) == 1, [finding.message for finding in findings]
    return matching[0]


def test_a_sound_task_has_no_errors_or_warnings(tmp_path: Path) -> None:
    findings = found(tmp_path, rows(700))
    assert {finding.level for finding in findings} == {"note"}, findings
    assert "4.7 points" in one(findings, "items show").message


def test_the_shipped_tasks_have_no_errors() -> None:
    for path in sorted(GOLDEN.parent.glob("*/task.yaml")):
        assert not [finding for finding in lint(path.parent) if finding.level == "error"], path


def test_a_task_that_does_not_load_is_an_error_with_its_line(tmp_path: Path) -> None:
    [finding] = found(tmp_path, max_token=3)
    assert (finding.level, finding.where) == ("error", f"{tmp_path / 'task.yaml'}:14")
    assert "Did you mean `max_tokens`?" in finding.message
    [finding] = found(tmp_path, role="guard")
    assert "margin" in finding.message


def test_every_bad_item_is_listed_up_to_a_limit(tmp_path: Path) -> None:
    findings = found(tmp_path, [*rows(3), {"id": "x"}, {"id": "i0", "request": "?", "accepted": [1]}])
    errors = [finding for finding in findings if finding.level == "error"]
    assert [finding.where for finding in errors] == [f"{tmp_path / 'items.jsonl'}:{n}" for n in (4, 5)]
    many = found(tmp_path, [{"id": str(n)} for n in range(SHOWN + 5)])
    assert len(many) == SHOWN + 1
    assert many[-1].message.startswith("5 more")


def test_a_changed_items_file_is_an_error_and_the_rest_is_told_still(tmp_path: Path) -> None:
    folder = make(tmp_path, [json.dumps(one) for one in rows(3)], **{**PLAIN, "items_sha256": "0" * 64})
    findings = lint(folder)
    assert one(findings, "The items file changed").level == "error"
    assert one(findings, "3 items of the kind generate")


def test_an_accepted_answer_that_cannot_win_is_an_error(tmp_path: Path) -> None:
    items = [*rows(3), {"id": "x", "request": "?", "accepted": ["4", "four"]}]
    findings = found(tmp_path, items, scorers=["number", "exact_match"], primary="number")
    finding = one(findings, "instead of 1")
    assert (finding.level, finding.where) == ("error", f"{tmp_path / 'items.jsonl'}:4")
    assert "'four' of item 'x' scores 0 by number" in finding.message


def test_an_accepted_answer_that_a_secondary_metric_refuses_is_a_warning(tmp_path: Path) -> None:
    items = rows(2)
    finding = one(found(tmp_path, items, scorers=["exact_match", {"scorer": "length", "at_least": 9}]), "full marks")
    assert finding.level == "warning"
    assert finding.message.startswith("2 accepted answers, the first of item 'i0'")
    calls = [{"id": "a", "request": "?", "accepted": [{"tool": "nope", "arguments": {}}]}]
    assert one(found(tmp_path, calls, tools="tools.json", scorers=["exact_match", "schema_valid"]), "full marks")


def test_possible_values_are_written_as_a_call_before_they_are_scored(tmp_path: Path) -> None:
    items = [{"id": "a", "request": "?", "accepted": [{"f": {"city": ["New York", "NYC"], "unit": ["km", ""]}}]}]
    findings = found(tmp_path, items, scorers=[{"scorer": "tool_call", "values": "possible"}], primary="tool_call")
    assert not [finding for finding in findings if finding.level == "error"]


def test_a_scorer_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lint_fails.py").write_text("def f(output, item, task):\n    return output.nothing\n")
    findings = found(tmp_path / "task", rows(2), scorers=["lint_fails:f"], primary="f")
    assert one(findings, "failed on item 'i0'").where == f"{tmp_path / 'lint_fails.py'}:2"


def test_the_same_question_twice_is_a_warning_and_with_other_answers_an_error(tmp_path: Path) -> None:
    again = {"id": "x", "request": " what is 1? ", "accepted": ["1"]}
    other = {"id": "y", "request": "What is 2?", "accepted": ["3"]}
    findings = found(tmp_path, [*rows(3), again, other])
    assert one(findings, "Item 'x' asks what 'i1' asks").level == "warning"
    assert one(findings, "Item 'y' asks what 'i2'").level == "error"


def test_a_constant_answer_that_wins_often_is_a_warning(tmp_path: Path) -> None:
    items = [{**row, "accepted": ["yes" if number else "no"]} for number, row in enumerate(rows(4))]
    finding = one(found(tmp_path, items), "Always answering")
    assert (finding.level, "75%" in finding.message) == ("warning", True)
    assert one(found(tmp_path, rows(4)), "Always answering").level == "note"


def test_a_constant_position_matters_only_where_the_prompt_shows_positions(tmp_path: Path) -> None:
    items = [{"id": str(n), "request": f"Q{n}", "choices": ["x", "y"], "right": 0} for n in range(4)]
    assert one(lint(questions(tmp_path, items)), "Always answering").level == "note"
    prompt = {"user": "{request}\n{choices}", "choice": " {letter}"}
    assert one(lint(questions(tmp_path, items, prompt=prompt)), "Always answering").level == "warning"


@pytest.mark.parametrize(
    ("changes", "warns"),
    [
        ({}, None),
        ({"rendering": "plain"}, None),
        ({"prompt": {"user": "{request}", "choice": " {choice}"}}, "header"),
        ({"prompt": {"user": "{request}\n{choices}", "choice": " {letter}"}}, "header"),
        ({"rendering": "plain", "prompt": {"user": "{request} ", "choice": " {choice}"}}, "both stand there"),
        ({"rendering": "plain", "prompt": {"user": "{request} "}}, None),
    ],
)
def test_white_space_before_a_choice_that_no_model_writes_is_a_warning(
    tmp_path: Path, changes: dict[str, Any], warns: str | None
) -> None:
    findings = [finding for finding in lint(questions(tmp_path, **changes)) if "choice" in finding.message]
    told = [one for one in findings if "header" in one.message or "both stand there" in one.message]
    assert [one.level for one in told] == (["warning"] if warns else [])
    assert not warns or warns in told[0].message


@pytest.mark.parametrize(
    "scorers",
    [
        [{"scorer": "regex", "pattern": "x*"}],
        [{"scorer": "regex", "pattern": "(?s).+"}],
        [{"scorer": "length", "at_most": 5, "unit": "words"}],
        [{"scorer": "length", "at_least": 1}],
        [{"scorer": "not_contains", "texts": ["sorry"]}],
        ["lint_always:f"],
    ],
)
def test_a_metric_that_any_answer_satisfies_is_an_error(
    tmp_path: Path, scorers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lint_always.py").write_text("def f(output, item, task):\n    return 1\n")
    finding = one(found(tmp_path / "task", rows(4), scorers=scorers, primary=None), "means nothing")
    assert finding.level == "error"
    assert "for 100% of the items" in finding.message
    with_other = found(tmp_path / "task", rows(4), scorers=["exact_match", *scorers], primary="exact_match")
    assert {finding.level for finding in with_other if "means nothing" in finding.message} <= {"note"}


def test_an_accepted_answer_that_is_found_in_anything_is_an_error(tmp_path: Path) -> None:
    items = [{**row, "accepted": ["" if number % 2 else "amber"]} for number, row in enumerate(rows(4))]
    finding = one(found(tmp_path, items, scorers=["contains"], primary=None), "means nothing")
    assert (finding.level, "for 50% of the items, the first of them 'i1'" in finding.message) == ("error", True)
    silent = found(tmp_path, items)
    assert not [finding for finding in silent if "means nothing" in finding.message], (
        "by exact_match it asks for silence"
    )


def test_where_no_call_is_wanted_any_text_is_right_and_no_error(tmp_path: Path) -> None:
    items = [
        {**row, "accepted": [[] if number % 2 else {"name": "t", "arguments": {}}]}
        for number, row in enumerate(rows(4))
    ]
    findings = found(tmp_path, items, scorers=["tool_call"], primary=None)
    assert not [finding for finding in findings if finding.level == "error"]
    assert "is right for 50%" in one(findings, "Always answering").message


def test_the_constant_answer_is_judged_by_the_primary_metric(tmp_path: Path) -> None:
    items = [{**row, "accepted": [f"the answer is {number}"]} for number, row in enumerate(rows(4))]
    graded = one(found(tmp_path, items, scorers=["chrf"], primary=None), "Always answering")
    assert (graded.level, "on average by chrf" in graded.message) == ("warning", True)
    valid = found(tmp_path, [{**row, "accepted": [{"n": 1}]} for row in rows(4)], scorers=["valid_json"], primary=None)
    assert one(valid, "Always answering").message.count("100%") == 1


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["mS", "ms"], True),
        (["5", "5!"], True),
        (["iOS", "Android", "IOS"], True),
        ([{"unit": "mS", "n": 1}, {"unit": "ms", "n": 2}], True),
        ([{"tool": "f", "arguments": {"key": ["abc"]}}, {"name": "f", "arguments": {"key": ["aBC", "x"]}}], True),
        ([{"a": "yes"}, {"b": "Yes"}], False),
        (["yes", "yes", " yes"], False),
    ],
)
def test_answers_that_differ_in_case_or_marks_only_are_a_warning(
    tmp_path: Path, answers: list[Any], told: bool
) -> None:
    items = [{**row, "accepted": [answer]} for row, answer in zip(rows(len(answers)), answers, strict=True)]
    for name in ("exact_match", "field_f1", "tool_call"):
        warned = [f for f in found(tmp_path, items, scorers=[name], primary=None) if "count as the same" in f.message]
        assert [finding.level for finding in warned] == (["warning"] if told else []), name
        strict = found(tmp_path, items, scorers=[{"scorer": name, "strict": True}], primary=None)
        assert not [finding for finding in strict if "count as the same" in finding.message]


def test_both_spellings_of_one_item_are_no_warning(tmp_path: Path) -> None:
    items = [{**row, "accepted": ["NYC", "nyc"]} for row in rows(2)]
    assert not [finding for finding in found(tmp_path, items) if "count as the same" in finding.message]


def test_arguments_in_which_case_probably_counts_are_a_warning(tmp_path: Path) -> None:
    calls = [{"name": "open", "arguments": {"path": path}} for path in ("notes.txt", "README.md", "src/App.tsx")]
    items = [{**row, "accepted": [call]} for row, call in zip(rows(3), calls, strict=True)]
    finding = one(found(tmp_path, items, scorers=["tool_call"], primary=None), "case counts")
    assert finding.level == "warning"
    assert finding.message.startswith("2 texts in accepted answers, the first 'README.md' of item 'i1'")
    strict = found(tmp_path, items, scorers=[{"scorer": "tool_call", "strict": True}], primary=None)
    assert not [finding for finding in strict if "case counts" in finding.message]


@pytest.mark.parametrize(
    ("answer", "scorer", "says"),
    [
        ("Мост закрыт до утра.", "rougeL", "scores 0 by rougeL"),
        ("Мост закрыт до утра 2026 года.", "rouge1", "sees 17% of its letters"),
        ("猫坐在垫子上很久", "bleu", "sees 0% of its letters"),
        ("late", "rouge2", "scores 0 by rouge2"),
        ("The answer is $12.", "number", "find: last"),
    ],
)
def test_an_answer_that_the_metric_cannot_see_is_an_error(tmp_path: Path, answer: str, scorer: str, says: str) -> None:
    items = [{**row, "accepted": [answer]} for row in rows(2)]
    errors = [f for f in found(tmp_path, items, scorers=[scorer], primary=None) if f.level == "error"]
    assert len(errors) == 2 and says in errors[0].message, errors


@pytest.mark.parametrize(
    ("groups", "text"), [(5, "5 clusters are too few"), (20, "20 clusters make wide"), (40, None), (400, None)]
)
def test_few_clusters_are_told(tmp_path: Path, groups: int, text: str | None) -> None:
    items = [{**row, "topic": f"t{number % groups}"} for number, row in enumerate(rows(400))]
    warnings = [f.message for f in found(tmp_path, items, cluster="topic") if "clusters" in f.message]
    warnings = [message for message in warnings if "items of the kind" not in message and "items show" not in message]
    assert [message[: len(text or "")] for message in warnings] == ([text] if text else [])


def test_items_without_a_value_stand_alone(tmp_path: Path) -> None:
    items = [{**row, "topic": [None, "", "a", "a"][number]} for number, row in enumerate(rows(4))]
    assert "in 3 clusters" in one(found(tmp_path, items, cluster="topic"), "items of the kind").message


def test_answers_that_max_tokens_cannot_hold_are_a_warning(tmp_path: Path) -> None:
    items = [*rows(3), {"id": "x", "request": "?", "accepted": ["long " * 100, "longer " * 100]}]
    finding = one(found(tmp_path, items, max_tokens=100), "can hold")
    assert (finding.level, finding.where) == ("warning", f"{tmp_path / 'items.jsonl'}:4")
    assert "item 'x' has 500 bytes" in finding.message


def test_fields_that_nothing_reads_or_fills_are_told(tmp_path: Path) -> None:
    findings = found(tmp_path, rows(3, tag="a", level=1), prompt={"user": "{request} {contxt}"}, slices=["level"])
    assert one(findings, "No part of the task reads").message.endswith("item fields tag.")
    finding = one(findings, "{contxt}")
    assert (finding.level, finding.where) == ("warning", f"{tmp_path / 'task.yaml'}:8")


def test_too_few_items_for_the_effect_are_a_warning_with_the_number_needed(tmp_path: Path) -> None:
    finding = one(found(tmp_path, rows(50), effect=0.1), "items show")
    assert finding.level == "warning"
    assert "effect=0.1 takes about 148 items" in finding.message


def test_a_guard_is_told_how_many_items_and_clusters_its_margin_takes(tmp_path: Path) -> None:
    guard = one(found(tmp_path, rows(50), role="guard", margin=0.3), "The guard has")
    assert guard.level == "note" and "passes margin=0.3 in 80% of runs, if the arms are equal" in guard.message
    guard = one(found(tmp_path, rows(50), role="guard", margin=0.05), "The guard has")
    assert guard.level == "warning" and "takes about 638 items to pass margin=0.05" in guard.message
    grouped = [row | {"source": f"s{place // 5}"} for place, row in enumerate(rows(100))]
    findings = found(tmp_path, grouped, role="guard", margin=0.05, cluster="source")
    assert "none of the 20 that are asked" in one(findings, "strikes whole clusters").message
    assert "takes 72 clusters" in one(findings, "strikes whole clusters").message
    assert not [one for one in found(tmp_path, rows(100), role="guard", margin=0.05) if "whole clusters" in one.message]


def test_three_equal_items_show_no_difference_at_all(tmp_path: Path) -> None:
    assert "3 items show no difference at all" in one(found(tmp_path, rows(3)), "items show").message


def test_an_unstated_licence_is_a_warning(tmp_path: Path) -> None:
    assert one(found(tmp_path, rows(3), licence="unknown"), "licence").level == "warning"


def test_a_perplexity_task_is_linted_too(tmp_path: Path) -> None:
    settings = {"kind": "perplexity", "prompt": None, "tools": None, "cluster": None, "max_tokens": None}
    texts = [json.dumps({"id": str(n), "text": "the same"}) for n in range(2)]
    settings |= {"scorers": None, "primary": None}
    findings = lint(make(tmp_path, texts, **settings))
    assert one(findings, "counts twice").level == "warning"
    assert one(findings, "depends on how much it varies").level == "note"
