"""Words are counted in any script."""

from __future__ import annotations

import pytest

from tunelift.runtime.scripts import count_words, mostly_unspaced


@pytest.mark.parametrize(
    ("text", "words", "unspaced"),
    [
        ("two words", 2, False),
        ("", 0, True),
        ("今日は good 天気", 6, True),
        ("배송이 늦었어요", 2, False),
        ("สวัสดี", 6, True),
        ("ｶﾀｶﾅ", 4, True),
        ("𠮷野家", 3, True),
        ("привет мир", 2, False),
        ("RTX 4090 の値段はいくらですか", 12, True),
    ],
)
def test_scripts_without_blanks_are_counted_in_characters(text: str, words: int, unspaced: bool) -> None:
    assert count_words(text) == words
    assert mostly_unspaced(text) is (unspaced and bool(text))
