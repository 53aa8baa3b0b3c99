"""Choosing a prompt by measurement, on data that no claim rests on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.endpoint import answer
from tests.stages.evaluate.making import CONFIG, SHORT, WORDS, StubEngine, item, right, row, run, samples, summary, task
from tunelift.config.evaluation import ArmConfig, PromptSearchConfig
from tunelift.errors import UserError
from tunelift.stages.evaluate import check_askable

ROWS = [row(f"r{n}", f'{{"tool": "t{n % 3}"}}') for n in range(5)]


def searching(**changes: Any) -> ArmConfig:
    values = {"few_shot": (0, 3), "instructions": ("think hard", "be brief"), "max_items": 8}
    return ArmConfig(name="prompted", search=PromptSearchConfig(**(values | changes)))


def selection(**changes: Any) -> Any:
    return task("validation", items=tuple(item(n) for n in range(100, 120)), **changes)


def likes(instruction: str, examples: int) -> Any:
    """Right answers to one prompt, wrong ones to others."""

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        messages = body["messages"]
        liked = messages[0]["content"] == instruction and len(messages) == 2 + 2 * examples
        return right(body) if liked else (200, answer("?"))

    return respond


def test_the_prompt_that_does_best_is_taken_and_the_search_recorded(
    engine: StubEngine, tmp_path: Path, capsys: Any
) -> None:
    engine.respond = likes("be brief", 3)
    details = run(engine, tmp_path, arm=searching(), examples=ROWS, selection=selection())
    search = summary(tmp_path)["prompt_search"]
    assert search["candidates"] == [
        {"instruction": instruction, "few_shot": few_shot, "mean": mean, "n": 8, "failed_requests": 0}
        for instruction, few_shot, mean in [
            (None, 0, 0.0),
            (None, 3, 0.0),
            ("think hard", 0, 0.0),
            ("think hard", 3, 0.0),
            ("be brief", 0, 0.0),
            ("be brief", 3, 1.0),
        ]
    ]
    assert (search["chosen"], search["on"], search["metric"]) == (5, "validation", "exact_match")
    assert search["asking"]["requests"] == 48
    assert details["prompt_search"] == search
    assert [sample["prompt"][0]["content"] for sample in samples(tmp_path)] == ["be brief"] * 6
    assert len(samples(tmp_path)[0]["prompt"]) == 8
    assert summary(tmp_path)["prompt"] == (
        "an instruction of its own and 3 examples from the training split, the best of 6 prompts on validation"
    )
    table = capsys.readouterr().err
    assert "prompted: prompts tried on 8 items of validation, by exact_match" in table
    assert "  *    1.000    3 examples  be brief" in table
    assert "       0.000    0 examples  the task's own instruction" in table


def test_prompts_are_tried_on_items_of_all_sources(engine: StubEngine, tmp_path: Path) -> None:
    engine.respond = right
    items = tuple(replace(item(n), id=f"{'ab'[n >= 150]}{n}") for n in range(100, 200))
    run(engine, tmp_path, arm=searching(few_shot=(0,), max_items=20), selection=task("validation", items=items))
    tried = {line["id"] for line in map(json.loads, (tmp_path / "selection.jsonl").read_text().splitlines())}
    assert len(tried) == 20
    assert min(Counter(name[0] for name in tried).values()) >= 4, "not the first of the file"


def test_among_equals_the_shorter_prompt_wins_and_then_the_first(engine: StubEngine, tmp_path: Path) -> None:
    for name, few_shot, chosen in (("a", (3, 0), 1), ("b", (0, 3), 0)):
        run(engine, tmp_path / name, arm=searching(few_shot=few_shot), examples=ROWS, selection=selection())
        assert summary(tmp_path / name)["prompt_search"]["chosen"] == chosen


def test_where_less_is_better_the_least_wins(engine: StubEngine, tmp_path: Path) -> None:
    engine.respond = lambda body: (200, answer("x" if body["messages"][0]["content"] == "be brief" else "xxxx"))
    run(
        engine,
        tmp_path,
        arm=searching(few_shot=(0,)),
        selection=selection(scorers=(SHORT,), primary="length"),
    )
    assert summary(tmp_path)["prompt_search"]["chosen"] == 2


@pytest.mark.parametrize("fewer_words_win", [True, False])
def test_a_prompt_that_fails_is_not_taken_for_the_best(
    engine: StubEngine, tmp_path: Path, fewer_words_win: bool
) -> None:
    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        instruction = body["messages"][0]["content"]
        said = "three words only" if instruction == "think hard" else "as many as four"
        return (400, "no") if instruction == "be brief" else (200, answer(said))

    engine.respond = respond
    words = replace(WORDS, lower_is_better=fewer_words_win)
    run(engine, tmp_path, arm=searching(few_shot=(0,)), selection=selection(scorers=(words,), primary="words"))
    search = summary(tmp_path)["prompt_search"]
    assert search["chosen"] == (1 if fewer_words_win else 0)
    assert [one["mean"] for one in search["candidates"]] == [4, 3, 4 if fewer_words_win else 3], "worst, if it fails"
    assert [one["failed_requests"] for one in search["candidates"]] == [0, 0, 8]


def test_among_equals_the_prompt_that_fails_less_wins(engine: StubEngine, tmp_path: Path) -> None:
    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        fails = body["messages"][0]["content"] != "be brief" and body["messages"][-1]["content"].endswith(
            tuple("02468")
        )
        return (400, "no") if fails else (200, answer("?"))

    engine.respond = respond
    run(engine, tmp_path, arm=searching(few_shot=(0,)), selection=selection())
    assert summary(tmp_path)["prompt_search"]["chosen"] == 2


def test_a_search_that_was_killed_goes_on_where_it_was(engine: StubEngine, tmp_path: Path) -> None:
    options: dict[str, Any] = {"arm": searching(), "examples": ROWS, "selection": selection()}
    first = run(engine, tmp_path, **options)
    lines = (tmp_path / "selection.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "selection.jsonl").write_text("".join(lines[:40]) + lines[40][:30])
    asked = len(engine.stub.bodies)
    again = run(engine, tmp_path, **options)
    assert len(engine.stub.bodies) - asked == 8
    assert again["prompt_search"]["candidates"] == first["prompt_search"]["candidates"]
    assert again["content"] == first["content"]


def test_no_more_examples_are_tried_than_there_are_rows(engine: StubEngine, tmp_path: Path, capsys: Any) -> None:
    run(engine, tmp_path, arm=searching(few_shot=(0, 2, 6, 9), instructions=()), examples=ROWS, selection=selection())
    assert [candidate["few_shot"] for candidate in summary(tmp_path)["prompt_search"]["candidates"]] == [0, 2, 5]
    assert "search tries 9 examples, but the training split has 5 to show" in capsys.readouterr().err


def test_no_prompt_is_chosen_on_items_that_are_claimed_on(engine: StubEngine, tmp_path: Path, capsys: Any) -> None:
    mixed = task("other", items=tuple(item(n) for n in (*range(3), *range(100, 110))))
    run(engine, tmp_path, arm=searching(few_shot=(0,), max_items=40), selection=mixed)
    assert {sample["id"] for sample in samples(tmp_path, "selection.jsonl")} == {f"i{n}" for n in range(100, 110)}
    assert "3 items of other also stand in evaluate.tasks" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"other has 0 items that no task of evaluate.tasks has"):
        run(engine, tmp_path, arm=searching(few_shot=(0,)), selection=task("other"))


@pytest.mark.parametrize(
    "copied",
    [
        lambda one: one,
        lambda one: replace(one, id="other", accepted=("another answer",), tags=(), cluster=None),
        lambda one: replace(one, question=f" QUESTION\n{one.question[9:]} "),
        lambda one: replace(one, prompt=({"role": "user", "content": f"Now answer: {one.question}"},)),
    ],
    ids=["a copy", "other answers", "other case and white space", "another template"],
)
def test_a_copy_of_a_claimed_task_is_refused_for_choosing_before_anything_is_asked(copied: Any) -> None:
    copy = task("copy", items=tuple(copied(one) for one in task(count=12).items))
    with pytest.raises(UserError, match=r"copy has 0 items that no task of evaluate.tasks has"):
        check_askable(searching(), [task("asked", count=12)], copy, has_tokenizer=True)
    check_askable(searching(), [task("asked", count=12)], selection(), has_tokenizer=True)


def test_the_same_last_words_of_another_conversation_are_another_question() -> None:
    before = ({"role": "user", "content": "The blue one?"}, {"role": "assistant", "content": "Gone."})
    items = [replace(one, prompt=(*before, *one.prompt)) for one in task(count=9).items]
    check_askable(searching(), [task("asked", count=9)], task("talk", items=tuple(items)), has_tokenizer=True)


def test_a_task_without_prompts_cannot_choose_one() -> None:
    texts = selection(kind="perplexity")
    with pytest.raises(UserError, match="chosen on validation, which measures texts without a prompt"):
        check_askable(searching(), [task()], texts, has_tokenizer=True)


def test_the_search_is_told_apart_while_it_runs(engine: StubEngine, tmp_path: Path, monkeypatch: Any) -> None:
    from tunelift.runtime import console

    labels: list[str] = []
    progress = console.progress

    def spied(label: str, **options: Any) -> Any:
        labels.append(label)
        return progress(label, **options)

    monkeypatch.setattr(console, "progress", spied)
    run(engine, tmp_path, arm=searching(few_shot=(0,)), selection=selection(), config=CONFIG)
    assert labels == ["choose the prompt of prompted", "evaluate prompted"]
