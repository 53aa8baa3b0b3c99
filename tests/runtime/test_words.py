"""Tokens counted word by word are those of the tokenizer, wherever that is done; and it is done where it holds only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers, processors

from tests.tiny import TEXT, tiny_tokenizer
from tunelift.runtime.chat import _remembered, row_lengths, supervise
from tunelift.runtime.turns import UnusableRow
from tunelift.runtime.words import PATTERNS, word_at, word_counts

LLAMA_3, QWEN_2 = sorted(PATTERNS, key=len, reverse=True)
PIECES = (
    "  ",
    "\n",
    "\t",
    "\r\n",
    " \n ",
    "\u3000",
    "\u00a0",
    "\x1c",
    "\x0b",
    "\x85",
    "a",
    "the",
    "Word",
    "don't",
    "I'LL",
)
PIECES += (
    "1",
    "1 000",
    "é",
    "e\u0301",
    "\u0301",
    "İ",
    "'ſ",
    "日本",
    "😀",
    "!",
    "...",
    "(x)",
    "_",
    "\\",
    "<|im",
    "</s>",
)


def split(pattern: str) -> Any:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def changed(change: Callable[[Any], Any]) -> Any:
    """The tiny tokenizer after a change to its backend."""
    tokenizer = tiny_tokenizer()
    change(tokenizer.backend_tokenizer)
    return tokenizer


def digits(backend: Any) -> None:
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])


def llama_3(backend: Any) -> None:
    backend.pre_tokenizer = split(LLAMA_3)


def qwen_2(backend: Any) -> None:
    backend.pre_tokenizer, backend.normalizer = split(QWEN_2), normalizers.NFC()


COUNTED = {change.__name__: changed(change) for change in (digits, llama_3, qwen_2)} | {"gpt_2": tiny_tokenizer()}


def answer(work: Callable[[], Any]) -> Any:
    """What it returns, or why it refuses the row."""
    try:
        return work()
    except UnusableRow as error:
        return error.reason, error.message


def lengths(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[tuple[int, int], ...]:
    """Of the rows themselves."""
    return tuple((len(row.input_ids), row.supervised_tokens) for row in supervise(tokenizer, messages))


texts = st.lists(st.one_of(st.sampled_from((" ", *PIECES)), st.text(max_size=3)), min_size=1, max_size=12).map("".join)


@pytest.mark.parametrize("name", COUNTED)
@settings(max_examples=150)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
def test_lengths_are_those_of_the_rows_or_the_reason_is(name: str, pairs: list[tuple[str, str]]) -> None:
    tokenizer = COUNTED[name]
    assert word_counts(tokenizer) is not None
    roles = ("user", "assistant") * len(pairs)
    messages = [{"role": role, "content": text} for role, text in zip(roles, chain(*pairs), strict=True)]
    rows = answer(lambda: lengths(tokenizer, messages))
    assert answer(lambda: row_lengths(tokenizer, messages)) == rows


@given(texts.filter(bool), st.data())
def test_a_word_begins_and_ends_at_the_cuts_around_a_place(text: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    at = data.draw(st.integers(begin, end - 1))
    cuts = [place for place in range(begin + 1, end) if text[place] == " " and "!" <= text[place - 1] <= "~"]
    assert word_at(text, at, begin, end) == (
        max((cut for cut in cuts if cut <= at), default=begin),
        min((cut for cut in cuts if cut > at), default=end),
    )


@given(st.lists(st.one_of(texts, st.sampled_from(("<|im_start|>", "<|im_end|>"))), max_size=8), st.data())
def test_parts_are_the_text_cut_where_it_may_be(pieces: list[str], data: st.DataObject) -> None:
    tokenizer, text = tiny_tokenizer(), "".join(pieces)
    counts = word_counts(tokenizer)
    assert counts is not None
    edges = data.draw(st.lists(st.integers(0, len(text)), max_size=3))
    parts = counts.parts(text, edges)
    assert "".join(text[start:end] for start, end in parts) == text
    assert [end for _, end in parts[:-1]] == [start for start, _ in parts[1:]]
    assert sum(counts.total(text[start:end]) for start, end in parts) == len(tokenizer(text)["input_ids"])


def test_a_word_is_tokenized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = word_counts(tiny_tokenizer())
    assert counts is not None
    first = counts.total(" Remind me to call Anna")
    monkeypatch.setattr(counts, "_looked_at", lambda text: pytest.fail(f"looked at again: {text}"))
    assert counts.total(" Anna to call me") == first - counts.total(" Remind")


def test_so_many_words_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunelift.runtime.words.MOST_WORDS", 5)
    tokenizer = tiny_tokenizer()
    counts = word_counts(tokenizer)
    assert counts is not None
    for start in range(0, 100, 4):
        text = "".join(f" word{number}" for number in range(start, start + 4))
        assert counts.total(text) == len(tokenizer(text)["input_ids"])
        assert len(counts._words) + len(counts._others) <= 5 + 5


def test_a_text_without_spaces_is_not_remembered() -> None:
    tokenizer, text = tiny_tokenizer(), "日本語の文" * 20
    counts = word_counts(tokenizer)
    assert counts is not None
    assert counts.total("a " + text) == len(tokenizer("a " + text)["input_ids"])
    assert counts._others == {"a": 1}
    assert not counts._words


def test_a_word_at_the_edge_of_a_turn_is_remembered_if_it_is_short() -> None:
    tokenizer = tiny_tokenizer()
    _remembered.cache_clear()
    for reply, more in (("日本語の文" * 20, 0), ('{"a":[1,2,3]},' * 20, 0), ("日本語の文 is that", 1)):
        before = _remembered.cache_info().currsize
        messages = [{"role": "user", "content": "Hello to you"}, {"role": "assistant", "content": reply}]
        assert row_lengths(tokenizer, messages) == lengths(tokenizer, messages)
        assert _remembered.cache_info().currsize == before + more, reply


@pytest.mark.parametrize(
    "change",
    [
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.ByteLevel(False, use_regex=False)),
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda backend: setattr(backend, "pre_tokenizer", split(LLAMA_3 + r"|\S \S")),
        lambda backend: setattr(backend, "pre_tokenizer", None),
        lambda backend: setattr(backend, "normalizer", normalizers.Prepend("_")),
        lambda backend: setattr(backend, "post_processor", processors.ByteLevel(trim_offsets=True)),
        lambda backend: setattr(backend.model, "dropout", 0.5),
        lambda backend: backend.add_special_tokens([AddedToken("<|two words|>")]),
        lambda backend: backend.add_special_tokens([AddedToken("<|end|>", rstrip=True)]),
        lambda backend: backend.add_special_tokens([AddedToken("<s>", lstrip=True)]),
        lambda backend: backend.add_tokens([AddedToken("word", single_word=True)]),
    ],
)
def test_a_tokenizer_that_may_see_across_words_is_asked_for_the_whole_text(change: Callable[[Any], Any]) -> None:
    tokenizer = changed(change)
    assert word_counts(tokenizer) is None
    messages = [{"role": "user", "content": "Two words"}, {"role": "assistant", "content": "word  two"}]
    if not tokenizer.backend_tokenizer.model.dropout:
        rows = answer(
            lambda: tuple((len(row.input_ids), row.supervised_tokens) for row in supervise(tokenizer, messages))
        )
        assert answer(lambda: row_lengths(tokenizer, messages)) == rows


def test_a_tokenizer_that_pads_is_asked_for_the_whole_text() -> None:
    tokenizer = changed(lambda backend: backend.enable_padding(length=500))
    messages = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "yes"}]
    assert row_lengths(tokenizer, messages) == lengths(tokenizer, messages)


def test_two_bos_are_refused_as_in_the_rows() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.chat_template = "<|im_start|>" + str(tokenizer.chat_template)
    messages = [{"role": "user", "content": "Hello you"}, {"role": "assistant", "content": "Hello to you"}]
    assert answer(lambda: row_lengths(tokenizer, messages)) == answer(lambda: lengths(tokenizer, messages))
    assert answer(lambda: row_lengths(tokenizer, messages))[0] == "double_bos"
