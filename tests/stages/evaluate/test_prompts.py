"""Which training rows are shown, and how prompts are put together."""

from __future__ import annotations

from tests.stages.evaluate.making import item, row, task
from tunelift.stages.evaluate import prompts
from tunelift.stages.evaluate.prompts import Prompting, choose_examples


def test_examples_cover_what_replies_are_made_of() -> None:
    common = [row(f"w{n}", f'{{"tool": "get_weather", "city": "c{n}"}}') for n in range(30)]
    others = [row(f"r{n}", f'{{"tool": "set_reminder", "text": "t{n}"}}') for n in range(10)]
    none = [row(f"n{n}", '{"tool": null}') for n in range(10)]
    rows = [*common, *others, *none]
    chosen = choose_examples(rows, 3, seed=1)
    assert {str(shot["id"])[0] for shot in chosen} == {"w", "r", "n"}
    assert choose_examples(rows, 3, seed=1) == chosen
    assert choose_examples(rows, 5, seed=1)[:3] == chosen, "fewer examples are the first of more"


def test_examples_are_conversations_in_text_that_end_with_a_reply() -> None:
    call = row("call", "")
    call["messages"][-1] = {"role": "assistant", "content": None, "tool_calls": []}
    open_end = {"id": "open", "messages": [{"role": "user", "content": "x"}]}
    assert [shot["id"] for shot in choose_examples([call, open_end, row("good", "yes")], 3, seed=1)] == ["good"]
    assert choose_examples([], 3, seed=1) == []


def test_a_text_has_no_prompt_whatever_the_arm() -> None:
    text = item(0, prompt=(), instructed=(), accepted=(), text="once upon a time")
    measured = task(items=(text,), kind="perplexity")
    for prompting in (Prompting(True), Prompting(False, "be brief", (row("a", "b"),))):
        assert prompting.build(measured, text) == [{"role": "text", "content": "once upon a time"}]


def test_the_example_of_a_prompt_is_cut_to_what_a_report_can_show() -> None:
    long = [{"role": "system", "content": "a" * 19_998}, {"role": "user", "content": "b" * 5}]
    assert prompts.shortened(long) == [long[0], {"role": "user", "content": "bb…"}]
    assert prompts.shortened([{"role": "user", "content": "x" * 30_000}, long[0]]) == [
        {"role": "user", "content": "x" * 20_000 + "…"}
    ]
    call = {"role": "assistant", "content": None, "tool_calls": []}
    assert prompts.shortened([call, long[1]]) == [call, long[1]]


def test_without_a_template_messages_are_parted_by_blank_lines() -> None:
    messages = [{"role": "system", "content": "Choose."}, {"role": "user", "content": "Q\nAnswer:"}]
    assert prompts.as_text(messages) == "Choose.\n\nQ\nAnswer:"
