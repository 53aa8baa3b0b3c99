"""Shingles and signatures: the same for the same words, whatever stands around them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.similar import answering, edited, words
from tests.wording import own_words
from tunelift.stages.curate import contamination
from tunelift.stages.curate.similarity import (
    common_shingles,
    jaccard,
    row_sets,
    shingles,
    signatures,
    words_of,
)

SAID = st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=60), max_size=6)


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet=st.characters(max_codepoint=127)))
def test_words_are_those_of_the_search_for_evaluation_items(text: str) -> None:
    assert [word.decode() for word in words_of(text)] == list(contamination.words(text).keys)


@given(SAID)
def test_sets_are_rising_and_as_large_as_the_different_3_grams(texts: list[str]) -> None:
    sets = shingles(texts)
    assert len(sets.offsets) == len(texts) + 1
    for row, text in enumerate(texts):
        spoken = words_of(text)
        expected = {tuple(spoken[start : start + 3]) for start in range(max(len(spoken) - 2, min(len(spoken), 1)))}
        assert len(sets.of(row)) == len(expected)
        assert (np.diff(sets.of(row).astype(object)) > 0).all()


@given(SAID, st.integers(0, 6))
def test_a_row_has_one_set_and_one_signature_in_any_batch(texts: list[str], cut: int) -> None:
    whole, parts = shingles(texts), [shingles(texts[:cut]), shingles(texts[cut:])]
    assert whole.flat.tolist() == [value for part in parts for value in part.flat.tolist()]
    assert signatures(whole).tolist() == [row for part in parts for row in signatures(part).tolist()]


def test_hashes_do_not_depend_on_the_process() -> None:
    code = (
        "from tunelift.stages.curate.similarity import shingles, signatures;"
        "sets = shingles(['one two three four', 'Größe 北京']);"
        "print(sets.flat.tolist(), signatures(sets)[:, :3].tolist())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert "[[" in seen.pop()


def test_case_punctuation_and_unicode_form_do_not_count_and_order_does() -> None:
    sets = shingles(["Book a table, now!", "book A TABLE now", "now book a table", "ﬁve Cafés", "five cafe\u0301s"])
    assert jaccard(sets.of(0), sets.of(1)) == 1
    assert jaccard(sets.of(0), sets.of(2)) == pytest.approx(1 / 3)
    assert jaccard(sets.of(3), sets.of(4)) == 1


def test_signatures_agree_in_the_share_that_is_similar() -> None:
    base = [words(150, seed) for seed in range(200)]
    texts = [" ".join(text) for seed, words_ in enumerate(base) for text in (words_, edited(words_, 0.05, seed))]
    sets = shingles(texts)
    signed = signatures(sets)
    exact = np.array([jaccard(sets.of(row), sets.of(row + 1)) for row in range(0, 400, 2)])
    estimated = (signed[::2] == signed[1::2]).mean(axis=1)
    assert np.abs(estimated - exact).mean() < 0.05
    assert abs((estimated - exact).mean()) < 0.01


def test_a_long_instruction_before_short_texts_makes_them_no_more_alike() -> None:
    instruction = "Read the review below and say in one word whether its author liked the product or not. Review: "
    rows = [(instruction + " ".join(words(12, seed)), "positive" if seed % 2 else "negative") for seed in range(300)]
    plain = row_sets(rows, "both")
    assert jaccard(plain.of(0), plain.of(2)) > 0.4
    common = common_shingles(answering(rows), len(rows), "both")
    cleared = row_sets(rows, "both", common)
    assert jaccard(cleared.of(0), cleared.of(2)) < 0.1
    assert (cleared.sizes > 8).all()


def test_a_row_of_nothing_but_boilerplate_keeps_it() -> None:
    rows = [("Say hello to me", "hello")] * 150 + [(" ".join(words(12, seed)), "ok") for seed in range(150)]
    common = common_shingles(answering(rows), len(rows), "prompt")
    assert len(common) == 2
    assert row_sets(rows, "prompt", common).sizes[0] == 2


@pytest.mark.parametrize(("rows", "most"), [(11, 10), (20, 10), (99, 10), (100, 10), (101, 10), (200, 20)])
def test_what_ten_rows_or_a_tenth_of_them_share_is_no_boilerplate(rows: int, most: int) -> None:
    def common(sharing: int) -> int:
        said = [(f"Say hello to me {own_words(row)}" if row < sharing else own_words(row), "") for row in range(rows)]
        return len(common_shingles(answering(said), rows, "both"))

    assert [common(most), common(most + 1)] == [0, 2]


def test_no_rows_have_no_boilerplate() -> None:
    assert not len(common_shingles(answering([]), 0, "both"))


def test_a_prompt_is_not_like_a_reply_of_the_same_words() -> None:
    sets = row_sets([("one two three four", ""), ("", "one two three four")], "both")
    assert jaccard(sets.of(0), sets.of(1)) == 0
