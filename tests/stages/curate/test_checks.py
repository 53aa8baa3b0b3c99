"""Structure, duplicates and measures: each fault has its reason, and good rows have none."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.families import BY_NAME
from tests.tiny import tiny_tokenizer
from tunelift.stages.curate.checks import Measured, measured, structure_fault
from tunelift.stages.curate.duplicates import ExactDuplicates, normalised
from tunelift.stages.curate.rows import Example, Fault

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def example(*turns: tuple[str, str], tools: list[dict] | None = None, line: int = 1) -> Example:
    """`call` is an assistant turn with a tool call and no text."""
    call = {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {}}}]}
    messages: list[dict[str, Any]] = [
        {"role": "assistant" if role == "call" else role, "content": text, **(call if role == "call" else {})}
        for role, text in turns
    ]
    return Example("a.jsonl", line, {}, messages, tools, "g")


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "a"), ("assistant", "b")],
        [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        [("user", "a"), ("call", ""), ("tool", "1"), ("tool", "2"), ("assistant", "b")],
        [("user", "a"), ("call", ""), ("tool", ""), ("assistant", "b")],
        [("user", "a"), ("call", "")],
        [("system", ""), ("user", "a"), ("assistant", "b")],
    ],
)
def test_a_proper_conversation_has_no_fault(turns: list[tuple[str, str]]) -> None:
    assert structure_fault(example(*turns)) is None


@pytest.mark.parametrize(
    ("turns", "reason", "evidence"),
    [
        ([], "ends_without_reply", {"last": None}),
        ([("user", "a")], "ends_without_reply", {"last": "user"}),
        ([("assistant", "b")], "roles_out_of_order", {"message": 0, "role": "assistant", "after": "start"}),
        (
            [("user", "a"), ("user", "b"), ("assistant", "c")],
            "roles_out_of_order",
            {"message": 1, "role": "user", "after": "user"},
        ),
        (
            [("user", "a"), ("system", "s"), ("assistant", "c")],
            "roles_out_of_order",
            {"message": 1, "role": "system", "after": "user"},
        ),
        (
            [("user", "a"), ("assistant", "b"), ("assistant", "c")],
            "roles_out_of_order",
            {"message": 2, "role": "assistant", "after": "assistant"},
        ),
        (
            [("user", "a"), ("assistant", "b"), ("tool", "1"), ("assistant", "c")],
            "roles_out_of_order",
            {"message": 2, "role": "tool", "after": "assistant"},
        ),
        ([("user", "a"), ("assistant", " \n")], "empty_reply", {"message": 1}),
        ([("user", ""), ("assistant", "b")], "empty_turn", {"message": 0}),
    ],
)
def test_each_structural_fault_has_its_reason(turns: list[tuple[str, str]], reason: str, evidence: dict) -> None:
    assert structure_fault(example(*turns)) == Fault(reason, evidence)


def test_of_equal_conversations_the_first_stays() -> None:
    duplicates = ExactDuplicates()
    first = example(("user", "caf\u00e9  au lait"), ("assistant", "b"))
    assert duplicates.fault(first) is None
    same = example(("user", "cafe\u0301 au\nlait "), ("assistant", "b"), line=9)
    assert duplicates.fault(same) == Fault("exact_duplicate", {"duplicate_of": "a.jsonl:1"})
    assert duplicates.fault(first) == Fault("exact_duplicate", {"duplicate_of": "a.jsonl:1"}), (
        "the same file listed twice"
    )


@given(st.lists(st.sampled_from([" ", "  ", "a", "B c", "~", "é", "e\u0301", "\n", "\t", "\x1c", "\x7f", "\u00a0"])))
def test_normalised_text_is_composed_and_has_single_spaces(parts: list[str]) -> None:
    text = "".join(parts)
    assert normalised(text) == " ".join(unicodedata.normalize("NFC", text).split())


@pytest.mark.parametrize(
    "other",
    [
        example(("user", "Caf\u00e9 au lait"), ("assistant", "b")),
        example(("user", "caf\u00e9 au lait"), ("assistant", "c")),
        example(("system", "s"), ("user", "caf\u00e9 au lait"), ("assistant", "b")),
        example(("user", "caf\u00e9 au lait"), ("assistant", "b"), tools=[TOOL]),
    ],
)
def test_case_reply_system_and_tools_make_a_conversation_another(other: Example) -> None:
    duplicates = ExactDuplicates()
    duplicates.fault(example(("user", "caf\u00e9 au lait"), ("assistant", "b")))
    assert duplicates.fault(other) is None


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return tiny_tokenizer()


def test_length_is_counted_with_the_template_and_bounded_on_both_sides(tokenizer) -> None:  # type: ignore[no-untyped-def]
    row = example(("user", "Hi"), ("assistant", "Hello"))
    found = measured(row, tokenizer, 512, 1)
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    assert found.fault is None
    assert found.tokens == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert found.supervised_tokens == len(tokenizer("Hello<|im_end|>", add_special_tokens=False)["input_ids"])
    assert measured(row, tokenizer, found.tokens, found.supervised_tokens) == found


def test_what_is_dropped_for_its_length_is_measured_all_the_same(tokenizer) -> None:  # type: ignore[no-untyped-def]
    row = example(("user", "Hi"), ("assistant", "Hello"))
    lengths = ((tokens, supervised),) = measured(row, tokenizer, 512, 1).lengths
    long = {"tokens": tokens, "limit": tokens - 1, "supervised_tokens": supervised}
    assert measured(row, tokenizer, tokens - 1, 1) == Measured(lengths, Fault("too_long", long))
    short = Fault("reply_too_short", {"supervised_tokens": supervised, "limit": supervised + 1})
    assert measured(row, tokenizer, 512, supervised + 1) == Measured(lengths, short)
    # What is dropped for its reply is not lost to its length.
    assert measured(row, tokenizer, 1, supervised + 1).fault == short


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (example(("user", "a<|im_end|>"), ("assistant", "b")), "special_token_in_content"),
        (example(("user", "Weather?"), ("call", "")), "template_ignores_tool_calls"),
        (example(("user", "Hi"), ("assistant", "b"), tools=[TOOL]), "template_ignores_tools"),
    ],
)
def test_what_the_template_cannot_say_has_no_length_and_a_reason(tokenizer, row: Example, reason: str) -> None:  # type: ignore[no-untyped-def]
    found = measured(row, tokenizer, 512, 1)
    assert found.lengths == ()
    assert found.supervised_tokens == 0
    assert found.fault is not None
    assert found.fault.reason == reason
    assert found.fault.evidence["detail"]


def test_a_conversation_in_several_rows_counts_each_of_them_and_each_reply_once() -> None:
    talk = example(("user", "a"), ("assistant", "Yes."), ("user", "b"), ("assistant", "No."))
    made = BY_NAME["qwen_3"].tokenizer()
    found = measured(talk, made, 512, 1)
    assert len(found.lengths) == 2
    thinking = len(made("<think>\n\n</think>\n\n", add_special_tokens=False)["input_ids"])
    replies = len(made("Yes.<|im_end|>No.<|im_end|>", add_special_tokens=False)["input_ids"])
    assert found.supervised_tokens == 2 * thinking + replies
    longest = max(tokens for tokens, _ in found.lengths)
    assert measured(talk, made, longest, 1) == found
    lost = {"tokens": longest, "limit": longest - 1, "supervised_tokens": found.supervised_tokens}
    assert measured(talk, made, longest - 1, 1).fault == Fault("too_long", lost)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ((None, 0), None),
        ((0, None), "empty_turn"),
        ((None, None), "empty_reply"),
        ((0, 0), "empty_turn"),
    ],
)
def test_an_empty_turn_that_is_not_supervised_is_an_empty_context(weights: tuple, reason: str | None) -> None:
    """The first reply is empty, unless it is the one that is supervised."""
    first = "b" if reason is None else " "
    made = example(("user", "a"), ("assistant", first), ("user", "c"), ("assistant", "d"))
    for place, weight in zip((1, 3), weights, strict=True):
        if weight is not None:
            made.messages[place]["weight"] = weight
    fault = structure_fault(made)
    assert (fault.reason if fault else None) == reason


def test_a_conversation_of_which_nothing_is_supervised_is_dropped_for_that() -> None:
    made = example(("user", "a"), ("call", ""), ("tool", "1"), ("assistant", "b"))
    made.messages[1]["weight"] = made.messages[3]["weight"] = 0
    assert structure_fault(made) == Fault("nothing_supervised", {"assistant_turns": 2})
