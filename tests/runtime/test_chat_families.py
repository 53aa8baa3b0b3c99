"""Every family's own template: learnt are the assistant's turns through their end, and nothing else.

What is expected is found by counting control tokens in the text, by asking the template for the prompt at each turn,
and by the markers in TRL's versions of the templates.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families import BY_NAME, FAMILIES, TRL, Family
from tunelift.runtime.chat import mark_supervised, row_lengths, segments, supervise
from tunelift.runtime.turns import UnusableRow, end_of_turn

EVERY = [pytest.param(family, id=family.name) for family in FAMILIES]
WITH_TOOLS = [
    pytest.param(family, id=family.name) for family in FAMILIES if family.tools and family.name != "granite_3_3"
]
WITHOUT_TOOLS = [pytest.param(family, id=family.name) for family in FAMILIES if not family.tools]
MARKED = [pytest.param(family, id=family.name) for family in FAMILIES if family.training]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def call(city: str = "Rome") -> dict[str, Any]:
    function = {"name": "weather", "arguments": {"city": city}}
    return assistant("", tool_calls=[{"id": "call00001", "type": "function", "function": function}])


def result(text: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "name": "weather", "tool_call_id": "call00001", "content": text}


def system(text: str = "Answer briefly.") -> dict[str, Any]:
    return {"role": "system", "content": text}


def learnt_parts(family: Family, messages: list, tools: list | None = None) -> list[str]:
    """What is learnt, in the order of the turns, decoded from the token ids."""
    tokenizer = family.tokenizer()
    rows = supervise(tokenizer, messages, tools)
    return [text for row in rows for text, learnt in segments(tokenizer, row) if learnt]


def own(family: Family, messages: list, tools: list | None = None, *, generate: bool = False) -> str:
    """The model's own rendering, without any code of ours."""
    return family.tokenizer().apply_chat_template(
        messages, tools=tools, tokenize=False, add_generation_prompt=generate, **family.arguments
    )


def conversations(family: Family) -> dict[str, list[dict[str, Any]]]:
    """Conversations of text alone."""
    two = [user("Two and two?"), assistant("Four."), user("And three?"), assistant("Seven.")]
    made = {
        "single": [user("Two and two?"), assistant("Four.")],
        "multi": two,
        "unicode": [user("Grüße 👋🏽 \u202e عربي"), assistant("你好，世界 — naïve 🧪")],
        "white space": [user("  Sum?\n\n"), assistant("Four. \n\t ")],
        "lines": [user("List"), assistant("- one\n- two\n\n```py\nx = {'a': 1}\n```")],
        "long": [turn for number in range(5) for turn in (user(f"Say {number}"), assistant(f"{number}!"))],
    }
    if family.system:
        made["system"] = [system(), *two]
    return made


@pytest.mark.parametrize("family", EVERY)
def test_the_end_of_turn_is_the_one_of_the_family(family: Family) -> None:
    assert end_of_turn(family.tokenizer()) == family.end


@pytest.mark.parametrize("family", EVERY)
def test_each_reply_is_learnt_once_with_its_end_and_nothing_else_is(family: Family) -> None:
    for name, messages in conversations(family).items():
        replies = [message["content"].strip() for message in messages if message["role"] == "assistant"]
        parts = learnt_parts(family, messages)
        assert len(parts) == len(replies), name
        for part, reply in zip(parts, replies, strict=True):
            assert part.endswith(family.end) and part.count(family.end) == 1, name
            said = part.removesuffix(family.end).removeprefix("<think>\n\n</think>\n\n")
            assert said.strip() == reply, name
            assert not [token for token in family.special if token in said], name


@pytest.mark.parametrize("family", EVERY)
def test_the_text_is_the_models_own_rendering_and_so_are_the_tokens(family: Family) -> None:
    tokenizer = _pinned(family)
    for name, messages in conversations(family).items():
        rows = supervise(tokenizer, messages)
        if len(rows) == 1 and not (family.moves and messages[0]["role"] == "system"):
            assert rows[0].text == own(family, messages), name
        for row in rows:
            ids = tokenizer(row.text, add_special_tokens=False)["input_ids"]
            assert row.input_ids == ids, name


@pytest.mark.parametrize("family", EVERY)
def test_what_stands_before_a_reply_is_the_prompt_that_the_model_gets_there(family: Family) -> None:
    tokenizer = _pinned(family)
    for name, messages in conversations(family).items():
        prompts = [own(family, messages[:index], generate=True) for index in _replies(messages)]
        found = [row.text[:start] for row in supervise(tokenizer, messages) for start in _starts(tokenizer, row)]
        assert found == prompts, name


@pytest.mark.parametrize("family", EVERY)
def test_one_bos_at_most_and_a_padding_that_is_not_learnt(family: Family) -> None:
    from tunelift.stages.train.preflight import padding_token

    tokenizer = family.tokenizer()
    (row, *_) = supervise(tokenizer, conversations(family)["multi"])
    ends = [token for token, learnt in zip(row.input_ids, row.mask, strict=True) if learnt]
    assert tokenizer.convert_tokens_to_ids(family.end) in ends
    assert padding_token(tokenizer, ends) not in ends
    if family.bos and family.bos not in {"<|im_start|>"} and family.name != "phi_4":
        assert row.input_ids[0] == tokenizer.bos_token_id
        assert row.input_ids[1] != tokenizer.bos_token_id


@pytest.mark.parametrize("family", MARKED)
def test_the_mask_is_the_one_of_the_marked_template(family: Family) -> None:
    """TRL marks the line break behind an end of turn too, and the end of Phi's text: generation stops before both."""
    tokenizer = family.tokenizer()
    marked = (TRL / f"{family.training}.jinja").read_text(encoding="utf-8")
    for name, messages in conversations(family).items():
        (row,) = supervise(tokenizer, messages)
        theirs = tokenizer.apply_chat_template(
            messages, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True
        )
        assert row.input_ids == theirs["input_ids"], name
        tokens = zip(row.input_ids, row.mask, theirs["assistant_masks"], strict=True)
        other = [(token, ours) for token, ours, mask in tokens if ours != bool(mask)]
        beyond = [tokenizer.decode([token]).strip() for token, _ in other]
        assert not any(ours for _, ours in other) and set(beyond) <= {"", family.eos}, name


@pytest.mark.parametrize("family", WITH_TOOLS)
def test_tool_calls_are_learnt_and_tool_results_are_not(family: Family) -> None:
    messages = [*([system()] if family.system else []), user("Rome?"), call(), result("27 degrees"), assistant("Warm.")]
    first, second = learnt_parts(family, messages, [TOOL])
    assert '"city": "Rome"' in first and first.endswith(family.end)
    assert "Warm." in second and second.endswith(family.end)
    assert "27 degrees" not in first + second and "The weather in a city." not in first + second
    shown = "".join(row.text for row in supervise(family.tokenizer(), messages, [TOOL]))
    assert "The weather in a city." in shown and "27 degrees" in shown


@pytest.mark.parametrize("family", WITH_TOOLS)
def test_before_a_call_and_an_answer_stands_what_the_model_gets_there(family: Family) -> None:
    messages = [*([system()] if family.system else []), user("Rome?"), call(), result(), assistant("Warm.")]
    messages += [user("Oslo?"), call("Oslo"), result("snow"), assistant("Cold.")]
    tokenizer = _pinned(family)
    prompts = [own(family, messages[:index], [TOOL], generate=True) for index in _replies(messages)]
    found = [row.text[:start] for row in supervise(tokenizer, messages, [TOOL]) for start in _starts(tokenizer, row)]
    assert found == prompts


@pytest.mark.parametrize("family", WITHOUT_TOOLS)
def test_tools_that_the_template_does_not_show_are_an_error(family: Family) -> None:
    with pytest.raises(UnusableRow) as caught:
        supervise(family.tokenizer(), [user("Rome?"), assistant("Warm.")], [TOOL])
    assert caught.value.reason == "template_ignores_tools"
    assert "tools" in caught.value.remedy


@pytest.mark.parametrize("family", [*WITHOUT_TOOLS, pytest.param(BY_NAME["granite_3_3"], id="granite_3_3")])
def test_calls_and_results_that_the_template_cannot_write_are_an_error(family: Family) -> None:
    with pytest.raises(UnusableRow) as caught:
        supervise(family.tokenizer(), [user("Rome?"), call(), result(), assistant("Warm.")])
    assert caught.value.reason in {"template_ignores_tool_calls", "template_refuses_tools"}
    with pytest.raises(UnusableRow) as caught:
        supervise(family.tokenizer(), [user("Rome?"), call()])
    assert caught.value.reason in {"template_ignores_tool_calls", "template_refuses_tools"}


def test_white_space_that_a_control_token_takes_along_is_part_of_neither_turn() -> None:
    """Phi's `<|assistant|>` reaches over the line break to the first letter: the model never writes that space."""
    family = BY_NAME["phi_3_5"]
    assert learnt_parts(family, [user("a"), assistant("  Yes. ")]) == ["Yes. <|end|>"]


def test_a_reply_whose_first_token_reaches_into_the_prompt_is_refused_with_the_remedy() -> None:
    family = BY_NAME["qwen_2_5"]
    tokenizer = _fresh(family.name)
    tokenizer.add_tokens(["\n\n\n"])
    with pytest.raises(UnusableRow) as caught:
        supervise(tokenizer, [user("a"), assistant("\n\nb")])
    assert caught.value.reason == "token_across_boundary"
    assert "white space" in caught.value.remedy


@pytest.mark.parametrize("name", ["phi_3", "phi_3_5", "phi_4", "olmo_2"])
def test_results_that_the_template_passes_over_are_an_error(name: str) -> None:
    with pytest.raises(UnusableRow) as caught:
        supervise(BY_NAME[name].tokenizer(), [user("Rome?"), assistant("I look."), result(), assistant("Warm.")])
    assert caught.value.reason == "template_ignores_tool_messages"


def test_a_system_message_that_the_template_passes_over_is_an_error() -> None:
    tokenizer = _fresh("phi_3")
    tokenizer.chat_template = tokenizer.chat_template.replace("message['role'] == 'system'", "false")
    with pytest.raises(UnusableRow) as caught:
        supervise(tokenizer, [system(), user("a"), assistant("b")])
    assert caught.value.reason == "template_ignores_system"


@pytest.mark.parametrize("field", [True, False], ids=["reasoning_content", "think tags"])
def test_thinking_is_learnt_where_the_model_would_think(field: bool) -> None:
    def thinks(thought: str, text: str) -> dict[str, Any]:
        return (
            assistant(text, reasoning_content=thought)
            if field
            else assistant(f"<think>\n{thought}\n</think>\n\n{text}")
        )

    family = BY_NAME["qwen_3"]
    messages = [user("a?"), thinks("Hm, a.", "A."), user("b?"), thinks("Hm, b.", "B.")]
    tokenizer = family.tokenizer()
    first, second = (mark_supervised(tokenizer, row) for row in supervise(tokenizer, messages))
    assert first.endswith("assistant\n⟦<think>\nHm, a.\n</think>\n\nA.<|im_end|>⟧\n")
    assert second.endswith("assistant\n⟦<think>\nHm, b.\n</think>\n\nB.<|im_end|>⟧\n")
    assert "Hm, a." not in second and "assistant\nA.<|im_end|>" in second


def test_thinking_that_the_template_drops_is_an_error_and_no_silent_loss() -> None:
    for name in ("llama_3_1", "gemma_3", "granite_4", "olmo_2"):
        with pytest.raises(UnusableRow) as caught:
            supervise(BY_NAME[name].tokenizer(), [user("a?"), assistant("A.", reasoning_content="Hm.")])
        assert caught.value.reason == "template_ignores_reply"
        assert "<think>" in caught.value.remedy


def test_an_indented_block_whose_first_line_the_template_trims_is_an_error() -> None:
    block = "    total = 0\n    for row in rows:\n        total += row"
    with pytest.raises(UnusableRow) as caught:
        supervise(BY_NAME["llama_3_1"].tokenizer(), [user("Go on."), assistant(block)])
    assert caught.value.reason == "template_ignores_reply"
    assert "dedent" in caught.value.remedy
    for reply in ("    total = 0", " Yes, it is.\nReally.", "Yes:\n    - it is"):
        (learnt,) = learnt_parts(BY_NAME["llama_3_1"], [user("Go on."), assistant(reply)])
        assert learnt.startswith(reply.strip())
    (learnt,) = learnt_parts(BY_NAME["qwen_2_5"], [user("Go on."), assistant(block)])
    assert learnt.startswith(block)


def test_thinking_against_a_pin_that_forbids_it_is_an_error() -> None:
    with pytest.raises(UnusableRow) as caught:
        supervise(_pinned(BY_NAME["qwen_3_no_thinking"]), [user("a?"), assistant("A.", reasoning_content="Hm.")])
    assert caught.value.reason == "template_not_prefix_stable"
    assert "enable_thinking" in caught.value.remedy


def test_text_beside_a_tool_call_that_the_template_drops_is_an_error() -> None:
    spoken = call() | {"content": "Let me see."}
    assert "Let me see." in learnt_parts(BY_NAME["qwen_2_5"], [user("Rome?"), spoken], [TOOL])[0]
    with pytest.raises(UnusableRow) as caught:
        supervise(BY_NAME["mistral_nemo"].tokenizer(), [user("Rome?"), spoken], [TOOL])
    assert caught.value.reason == "template_ignores_reply"


def test_a_system_message_that_moves_is_shown_at_each_turn_as_the_model_sees_it_there() -> None:
    tokenizer = BY_NAME["mistral_nemo"].tokenizer()
    messages = [system("Be kind."), user("a?"), assistant("A."), user("b?"), assistant("B.")]
    assert [mark_supervised(tokenizer, row) for row in supervise(tokenizer, messages)] == [
        "<s>[INST]Be kind.\n\na?[/INST]⟦A.</s>⟧",
        "<s>[INST]a?[/INST]A.</s>[INST]Be kind.\n\nb?[/INST]⟦B.</s>⟧",
    ]


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip)


@st.composite
def talks(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list | None]:
    """Conversations with or without a system message, thinking, tools; what a family cannot have is left out after."""
    messages = [system(draw(WORDS))] if draw(st.booleans()) else []
    tools = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        messages.append(user(draw(WORDS)))
        if tools and draw(st.booleans()):
            messages += [call(draw(WORDS)), result(draw(WORDS))]
        thought = {"reasoning_content": draw(WORDS)} if draw(st.booleans()) else {}
        messages.append(assistant(draw(WORDS), **thought))
    return messages, [TOOL] if tools else None


@pytest.mark.parametrize("family", EVERY)
@settings(max_examples=12)
@given(talks())
def test_any_conversation_is_learnt_turn_by_turn_or_refused(family: Family, talk: tuple) -> None:
    messages, tools = talk
    messages = [message for message in messages if family.system or message["role"] != "system"]
    if not family.tools or family.name == "granite_3_3":
        tools = None
        messages = [message for message in messages if message["role"] != "tool" and not message.get("tool_calls")]
    if not family.thinking:
        messages = [{key: message[key] for key in message if key != "reasoning_content"} for message in messages]
    tokenizer = _pinned(family)
    try:
        rows = supervise(tokenizer, messages, tools)
    except UnusableRow as error:
        if error.reason not in {"token_across_boundary", "special_token_in_content"}:
            raise
        return
    lengths = tuple((len(row.input_ids), row.supervised_tokens) for row in rows)
    assert row_lengths(tokenizer, messages, tools) == lengths
    places = _replies(messages)
    starts = [(row, start) for row in rows for start in _starts(tokenizer, row)]
    assert len(starts) == len(places) == sum(len(_starts(tokenizer, row)) for row in rows)
    for (row, start), place in zip(starts, places, strict=True):
        prompt = own(family, messages[:place], tools, generate=True)
        assert row.text[:start].rstrip() == prompt.rstrip() if family.swallows else row.text[:start] == prompt
        part = row.text[start:]
        said = part[: part.index(family.end)]
        assert messages[place]["content"].strip() in said
        assert not [token for token in family.special if token in said and not messages[place].get("tool_calls")]


def _replies(messages: list[dict[str, Any]]) -> list[int]:
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]


def _starts(tokenizer, row) -> list[int]:  # type: ignore[no-untyped-def]
    """Characters at which a learnt part begins."""
    offsets = tokenizer(row.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    begins = [0 if row.mask[0] else None, *(None for _ in row.mask[1:])]
    begins[1:] = [place if now and not before else None for place, (before, now) in enumerate(pairwise(row.mask), 1)]
    return [offsets[place][0] for place in begins if place is not None]


def _fresh(name: str):  # type: ignore[no-untyped-def]
    from copy import deepcopy

    return deepcopy(BY_NAME[name].tokenizer())


def _pinned(family: Family):  # type: ignore[no-untyped-def]
    """The family's tokenizer with its arguments pinned, as a run has it."""
    from datetime import date

    from tunelift.runtime.template import pin

    if not family.arguments:
        return family.tokenizer()
    tokenizer = _fresh(family.name)
    tokenizer.chat_template = pin(family.template, family.arguments, date(2024, 7, 26))
    return tokenizer
