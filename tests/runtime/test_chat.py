"""Rendering and supervision: what is learnt is the assistant's turns through their end, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families import BY_NAME
from tests.tiny import CHATML, make_tiny_model, tiny_tokenizer
from tunelift.errors import UserError
from tunelift.runtime.chat import _token_mask, load_tokenizer, mark_supervised, row_lengths, supervise
from tunelift.runtime.turns import UnusableRow, render


@pytest.fixture(scope="module")
def tokenizer():
    made = tiny_tokenizer()
    made.chat_template = CHATML
    return made


TURNS = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "Seven."},
]


def test_each_assistant_turn_is_learnt_through_its_end_and_nothing_else(tokenizer) -> None:
    (row,) = supervise(tokenizer, TURNS)
    marked = mark_supervised(tokenizer, row)
    assert marked.count("⟦") == 2
    assert "⟦Four.<|im_end|>⟧" in marked
    assert "⟦Seven.<|im_end|>⟧" in marked
    assert row.supervised_tokens == sum(row.mask) > 0


def test_the_tokens_are_those_of_the_models_own_rendering(tokenizer) -> None:
    (row,) = supervise(tokenizer, TURNS)
    own = tokenizer.apply_chat_template(TURNS, tokenize=True, return_dict=True)["input_ids"]
    assert row.input_ids == list(own)
    assert row.text == render(tokenizer, TURNS, None, generate=False)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30)), min_size=1, max_size=4))
def test_what_is_learnt_decodes_to_the_replies(tokenizer, pairs) -> None:
    messages = [
        message
        for ask, reply in pairs
        for message in ({"role": "user", "content": ask}, {"role": "assistant", "content": reply})
    ]
    (row,) = supervise(tokenizer, messages)
    learnt = tokenizer.decode([token for token, keep in zip(row.input_ids, row.mask, strict=True) if keep])
    assert learnt == "".join(reply + "<|im_end|>" for _, reply in pairs)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": "hello"}], "no_assistant_turn"),
        (
            [{"role": "user", "content": "a<|im_end|>b"}, {"role": "assistant", "content": "c"}],
            "special_token_in_content",
        ),
        ([{"role": "user"}, {"role": "assistant", "content": "c"}], "template_refused"),
    ],
)
def test_unusable_rows_say_why(tokenizer, messages, reason) -> None:
    with pytest.raises(UnusableRow) as caught:
        supervise(tokenizer, messages)
    assert caught.value.reason == reason


def test_a_template_without_an_end_of_turn_is_refused(tokenizer) -> None:
    made = tiny_tokenizer()
    made.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    with pytest.raises(UnusableRow) as caught:
        supervise(made, TURNS)
    assert caught.value.reason == "end_of_turn_missing"


def test_a_template_that_rewrites_earlier_turns_gets_a_row_for_each() -> None:
    made = tiny_tokenizer()
    made.chat_template = (
        "{% for m in messages %}{% set last = loop.last %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and last %}thinking {% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    first, second = (mark_supervised(made, row) for row in supervise(made, TURNS))
    assert first.endswith("⟦thinking Four.<|im_end|>⟧\n")
    assert "assistant\nFour.<|im_end|>\n" in second, "earlier turns stand as the model sees them later, and unlearnt"
    assert second.endswith("⟦thinking Seven.<|im_end|>⟧\n")
    assert second.count("⟦") == 1


def test_a_template_that_begins_a_reply_otherwise_than_its_prompt_is_refused() -> None:
    made = tiny_tokenizer()
    made.chat_template = CHATML.replace("assistant\\n'", "assistant\\n<think>'")
    with pytest.raises(UnusableRow) as caught:
        supervise(made, TURNS)
    assert caught.value.reason == "template_not_prefix_stable"
    assert "enable_thinking" in caught.value.remedy


def test_two_bos_tokens_are_refused() -> None:
    made = tiny_tokenizer()
    made.add_special_tokens({"bos_token": "<|endoftext|>"})
    made.chat_template = "<|endoftext|><|endoftext|>" + CHATML
    with pytest.raises(UnusableRow) as caught:
        supervise(made, TURNS)
    assert caught.value.reason == "double_bos"


def test_a_model_folder_without_template_or_tokenizer_is_told(tmp_path) -> None:
    with pytest.raises(UserError, match="no tokenizer"):
        load_tokenizer(tmp_path)
    folder = make_tiny_model(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template") as caught:
        load_tokenizer(folder)
    assert "instruct" in caught.value.remedy


def test_a_tokenizer_of_mistrals_own_format_beside_the_models_is_left_alone(tmp_path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    described = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(described | {"tokenizer_class": "LlamaTokenizerFast"}))
    (folder / "tekken.json").write_text("{}")
    assert load_tokenizer(folder).is_fast


def test_truncation_and_padding_left_switched_on_by_others_do_not_reach_the_rows() -> None:
    made, touched = tiny_tokenizer(), tiny_tokenizer()
    touched.backend_tokenizer.enable_truncation(3)
    touched.backend_tokenizer.enable_padding(length=999)
    assert supervise(touched, TURNS) == supervise(made, TURNS)


def test_tokens_that_do_not_stand_in_order_are_looked_at_one_by_one() -> None:
    offsets = [(0, 2), (2, 4), (4, 4), (4, 6), (6, 8)]
    mask = _token_mask("aabbccdd", offsets, [(2, 6)], frozenset())
    assert mask == [False, True, False, True, False]
    swapped = [offsets[at] for at in (2, 0, 1, 3, 4)]
    assert _token_mask("aabbccdd", swapped, [(2, 6)], frozenset()) == [mask[at] for at in (2, 0, 1, 3, 4)]
    assert _token_mask("", [], [(0, 0)], frozenset()) == []


def context(turns: list[dict], *places: int) -> list[dict]:
    """The turns, those at `places` unsupervised."""
    return [turn | ({"weight": 0} if place in places else {}) for place, turn in enumerate(turns)]


def test_a_turn_with_weight_0_stands_in_the_text_and_is_not_learnt(tokenizer) -> None:
    (row,) = supervise(tokenizer, context(TURNS, 2))
    assert row.text == supervise(tokenizer, TURNS)[0].text, "the weight is not rendered"
    marked = mark_supervised(tokenizer, row)
    assert marked.count("⟦") == 1
    assert "assistant\nFour.<|im_end|>" in marked
    assert "⟦Seven.<|im_end|>⟧" in marked
    assert row_lengths(tokenizer, context(TURNS, 2)) == ((len(row.input_ids), row.supervised_tokens),)


def test_nothing_follows_the_last_supervised_turn(tokenizer) -> None:
    (row,) = supervise(tokenizer, context(TURNS, 4))
    assert row == supervise(tokenizer, TURNS[:3])[0]


def test_a_conversation_without_a_supervised_turn_has_a_reason_of_its_own(tokenizer) -> None:
    with pytest.raises(UnusableRow) as caught:
        supervise(tokenizer, context(TURNS, 2, 4))
    assert caught.value.reason == "nothing_supervised"


def test_a_template_sees_no_weight() -> None:
    made = tiny_tokenizer()
    made.chat_template = CHATML.replace("message['content'] +", "message['content'] + (message | string) +")
    (row,) = supervise(made, context(TURNS, 2))
    assert "'content': 'Four.'" in row.text and "weight" not in row.text


def test_where_each_turn_has_a_row_of_its_own_an_unsupervised_one_has_none() -> None:
    """Qwen3 drops the thinking of earlier turns."""
    qwen = BY_NAME["qwen_3"].tokenizer()
    asked = {"role": "user", "content": "Two and two?"}
    thought = [
        {"role": "assistant", "content": text, "reasoning_content": f"Why {text}"} for text in ("Five.", "Four.")
    ]
    turns = [asked, thought[0], asked, thought[1], asked, thought[0]]
    assert len(supervise(qwen, turns)) == 3
    (first, last) = supervise(qwen, context(turns, 1))
    for row, said in ((first, "Four."), (last, "Five.")):
        assert mark_supervised(qwen, row).count("⟦") == 1
        assert mark_supervised(qwen, row).rstrip().endswith(f"Why {said}\n</think>\n\n{said}<|im_end|>⟧")
    (only,) = supervise(qwen, context(turns, 1, 5))
    assert only == first, "the prompt holds the first reply, without thinking, and the last one is not there"


def test_a_call_with_weight_0_is_context_that_the_template_must_show() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    tools = [{"type": "function", "function": {"name": "weather", "description": "", "parameters": {}}}]
    turns = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call], "weight": 0},
        {"role": "tool", "content": "wet"},
        {"role": "assistant", "content": "Yes."},
    ]
    qwen = BY_NAME["qwen_2_5"].tokenizer()
    (row,) = supervise(qwen, turns, tools)
    marked = mark_supervised(qwen, row)
    assert marked.count("⟦") == 1 and "⟦Yes.<|im_end|>⟧" in marked and "Oslo" in marked.partition("⟦")[0]
    qwen = tiny_tokenizer()
    qwen.chat_template = "{% if tools %}{{ tools | string }}{% endif %}" + CHATML
    with pytest.raises(UnusableRow) as caught:
        supervise(qwen, turns, tools)
    assert caught.value.reason == "template_ignores_tool_calls"
