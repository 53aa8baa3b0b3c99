"""The pure parts of the two comparisons with lm-eval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.scripts.loading import load_script
from tunelift.tasks.items import Item
from tunelift.tasks.likelihood import LIKELIHOOD
from tunelift.tasks.task import Task, load_task

bench_evaluate = load_script("bench_evaluate")
check_likelihoods = load_script("check_likelihoods")


def test_the_task_has_as_many_distinct_prompts_as_asked_for_and_none_of_the_golden_set(tmp_path: Path) -> None:
    task = load_task(bench_evaluate.write_task(tmp_path, 300, "trained"))
    assert len({item.question for item in task.items}) == len(task.items) == 300
    assert [item.id.partition("-")[0] for item in task.items] == ["heldout"] * 150 + ["row"] * 150
    assert all(item.prompt[0]["content"] == "Answer with one JSON tool call." for item in task.items)


def test_flawed_and_repeated_rows_are_no_items() -> None:
    def row(request: str, reply: str) -> str:
        spoken = zip(("system", "user", "assistant"), ("s", request, reply), strict=True)
        return json.dumps({"messages": [{"role": role, "content": content} for role, content in spoken]})

    right = row("Hello", '{"tool": null}')
    text = "\n".join([right, right, row("Bye", "Sorry"), '{"messages": 3}', "{", row("Hi", '{"a": 1}')])
    assert bench_evaluate.training_items(text) == [{"id": "row-0001", "text": "Hello", "accepted": [{"tool": None}]}]


def test_outputs_differ_first_where_one_of_them_ends() -> None:
    assert bench_evaluate.first_difference([5, 6, 2], [5, 7, 2]) == 1
    assert bench_evaluate.first_difference([5, 2], [5, 6, 2]) == 1


def test_agreement_counts_answers_and_keeps_the_sign_of_the_mean() -> None:
    items = tuple(Item(f"{n}", (), (), (), "", choices=(" a", " bb"), right=0) for n in range(2))
    task = Task(
        name="t",
        version=1,
        role="guard",
        description="",
        licence="",
        items=items,
        scorers=(LIKELIHOOD["choice"]["accuracy"],),
        primary="accuracy",
        max_tokens=1,
        kind="choice",
        margin=0.05,
    )
    found = check_likelihoods.agreement(
        task, [[1, 2], [1, 1]], [[-1.0, -2.0], [-3.0, -3.5]], [[-1.5, -2.0], [-4.0, -3.5]]
    )
    assert found.same == 1
    assert found.mean == found.size == pytest.approx(0.375)
    assert found.largest == pytest.approx(1.0)
    assert found.token == pytest.approx(1.5 / 5)
    assert found.token_size == pytest.approx(1.5 / 4)
    assert (found.items, found.choices) == (2, 4)
    fewer = check_likelihoods.agreement(task, [[1, 2], [1, 1]], [[-1.0, -2.0]], [[-1.5, -2.0], [-4.0, -3.5]])
    assert (fewer.items, fewer.choices, fewer.token) == (1, 2, pytest.approx(0.5 / 3))


def test_bf16_may_round_but_float32_must_agree(capsys: pytest.CaptureFixture[str]) -> None:
    exact = check_likelihoods.Agreement(0.0, 0.001, 0.002, 0.0, 0.0, 2, 2, 8)
    rounded = check_likelihoods.Agreement(0.05, 0.15, 0.9, 0.006, 0.02, 2, 2, 8)
    further = check_likelihoods.Agreement(0.05, 0.25, 0.9, 0.006, 0.02, 2, 2, 8)

    def outcome(*found: object) -> int:
        return check_likelihoods.report(dict(zip("abcd", found, strict=True)))

    assert outcome(exact, rounded, rounded, further) == 0
    assert outcome(rounded, rounded, rounded, further) == 1
    assert outcome(exact, rounded, further, rounded) == 1
    assert "2 of 2" in capsys.readouterr().out


def test_a_character_that_the_limit_cut_makes_no_difference() -> None:
    assert bench_evaluate.whole(" 絵は\ufffd\ufffd") == bench_evaluate.whole("絵は")
    assert bench_evaluate.whole("a\ufffdb") != bench_evaluate.whole("ab")
