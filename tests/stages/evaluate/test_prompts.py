"""Which training rows are shown, and how prompts are put together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.families import BY_NAME
from tests.stages.evaluate.making import item, row, task
from tunelift.runtime.turns import render
from tunelift.stages.evaluate import prompts
from tunelift.stages.evaluate.prompts import Prompting, choose_examples, showable


def test_examples_cover_what_replies_are_made_of() -> None:
    common = [row(f"w{n}", f'{{"tool": "get_weather", "city": "c{n}"}}') for n in range(30)]
    others = [row(f"r{n}", f'{{"tool": "set_reminder", "text": "t{n}"}}') for n in range(10)]
    none = [row(f"n{n}", '{"tool": null}') for n in range(10)]
    rows = [*common, *others, *none]
    chosen = choose_examples(rows, 3, seed=1)
    assert {str(shot["id"])[0] for shot in chosen} == {"w", "r", "n"}
    assert choose_examples(rows, 3, seed=1) == chosen
    assert choose_examples(rows, 5, seed=1)[:3] == chosen, "fewer examples are the first of more"


def test_examples_are_conversations_without_results_that_end_with_a_reply() -> None:
    result = row("result", "It rains.")
    result["messages"][2:2] = [*calling("x", "weather")["messages"][2:], {"role": "tool", "content": "rain"}]
    open_end = {"id": "open", "messages": [{"role": "user", "content": "x"}]}
    rows = [row("blank", " "), result, open_end, row("good", "yes"), calling("call", "weather")]
    assert {shot["id"] for shot in choose_examples(rows, 9, seed=1)} == {"good", "call"}
    assert choose_examples([], 3, seed=1) == []


def calling(identity: str, name: str, **arguments: object) -> dict[str, Any]:
    """A row whose reply is a native call, as curation writes it."""
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return row(identity, "", tool_calls=[call]) | {"tools": [{"name": name}]}


def test_examples_cover_the_words_of_native_calls() -> None:
    rows = [calling(f"w{n}", "get_weather", city=f"c{n}") for n in range(30)]
    rows += [calling(f"r{n}", "set_reminder", text=f"t{n}") for n in range(10)]
    chosen = [{str(shot["id"])[0] for shot in choose_examples(rows, 2, seed)} for seed in range(8)]
    assert chosen == [{"w", "r"}] * 8


@pytest.mark.parametrize("family", ["qwen_2_5", "llama_3_1", "granite_4"])
def test_a_template_that_shows_calls_shows_those_of_examples(family: str) -> None:
    shot = calling("a", "get_weather", city="Rome")
    (kept,) = showable([shot], BY_NAME[family].tokenizer)
    assert kept == shot
    built = Prompting(False, shots=(kept,)).build(task(), item(0))
    text = render(BY_NAME[family].tokenizer(), built, [{"name": "send_mail"}], generate=True)
    assert "get_weather" in text and "Rome" in text


@pytest.mark.parametrize("family", ["smollm_2", "mistral_nemo", None])
def test_elsewhere_calls_of_examples_are_written_as_text(family: str | None) -> None:
    """ChatML without tools would show a blank reply; Mistral's template, as OpenAI, refuses a call without a result."""
    shots = [calling("a", "get_weather", city="Rome"), row("b", "yes")]
    call = {"name": "get_weather", "arguments": {"city": "Rome"}}
    shown = showable(shots, BY_NAME[family].tokenizer if family else None)
    replies = [
        message for message in Prompting(False, shots=tuple(shown)).build(task(), item(0)) if "ask" not in message
    ]
    assert [message["content"] for message in replies if message["role"] == "assistant"] == [json.dumps(call), "yes"]
    assert not any("tool_calls" in message for message in replies)


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
    call = calling("a", "f")["messages"][-1]
    assert prompts.shortened([call, long[1]]) == [call, long[1]]


def test_without_a_template_messages_are_parted_by_blank_lines() -> None:
    messages = [{"role": "system", "content": "Choose."}, {"role": "user", "content": "Q\nAnswer:"}]
    assert prompts.as_text(messages) == "Choose.\n\nQ\nAnswer:"


def test_an_example_ends_with_its_last_supervised_reply_and_shows_no_weight() -> None:
    shot = row("a", "right")
    *before, asked, reply = shot["messages"]
    wrong = {"role": "assistant", "content": "wrong", "weight": 0}
    shot["messages"] = [*before, asked, wrong, asked, reply, asked, wrong]
    (kept,) = showable([shot], None)
    assert kept["messages"] == [*before, asked, {"role": "assistant", "content": "wrong"}, asked, reply]
    assert "weight" not in json.dumps(Prompting(False, shots=(kept,)).build(task(), item(0)))
