"""Overlap scorers give what sacrebleu and rouge-score give, in [0, 1]."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tasks.scorers.making import anything, item, one, scorer, task

RULES = ("chrf", "bleu", "rouge1", "rouge2", "rougeL")
OUTPUT, RIGHT = "The quick brown fox jumps over the dog.", "The quick brown fox jumped over the lazy dog."


def test_they_agree_with_the_libraries() -> None:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    assert one("chrf", OUTPUT, RIGHT) == pytest.approx(sacrebleu.sentence_chrf(OUTPUT, [RIGHT]).score / 100)
    plus = sacrebleu.sentence_chrf(OUTPUT, [RIGHT], word_order=2).score / 100
    assert one("chrf", OUTPUT, RIGHT, word_order=2) == pytest.approx(plus)
    assert one("bleu", OUTPUT, RIGHT) == pytest.approx(sacrebleu.sentence_bleu(OUTPUT, [RIGHT]).score / 100)
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=DefaultTokenizer()).score(RIGHT, OUTPUT)
    for name, wanted in theirs.items():
        assert one(name, OUTPUT, RIGHT) == pytest.approx(wanted.fmeasure)
    stemmed = RougeScorer(["rouge1"], tokenizer=DefaultTokenizer(True)).score(RIGHT, OUTPUT)["rouge1"].fmeasure
    assert one("rouge1", OUTPUT, RIGHT, stemmer=True) == pytest.approx(stemmed)
    assert stemmed > one("rouge1", OUTPUT, RIGHT)


def test_they_leave_the_root_logger_alone() -> None:
    import logging

    before = list(logging.root.handlers)
    for name in RULES:
        one(name, OUTPUT, RIGHT, **({"stemmer": True} if name.startswith("rouge") else {}))
    assert logging.root.handlers == before


def test_several_accepted_answers_make_a_better_score_and_never_a_worse_one() -> None:
    for name in RULES:
        assert one(name, OUTPUT, "Something else", RIGHT) >= one(name, OUTPUT, RIGHT) * 0.99, name
        assert one(name, OUTPUT, RIGHT, OUTPUT) == pytest.approx(1), name


def test_the_library_that_computes_them_is_part_of_their_identity() -> None:
    from importlib.metadata import version

    assert scorer("bleu").identity["options"] == {"sacrebleu": version("sacrebleu")}
    assert scorer("rougeL", stemmer=True).identity["options"] == {
        "stemmer": True,
        "rouge-score": version("rouge-score"),
    }


@settings(max_examples=60)
@given(anything, anything)
def test_no_text_makes_them_raise_or_leave_their_range(output: str, accepted: str) -> None:
    for name in RULES:
        assert 0 <= scorer(name).function(output, item(accepted), task()) <= 1, name


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["one", "two", "three", "four"]), min_size=2, max_size=8).map(" ".join))
def test_a_text_has_full_overlap_with_itself(text: str) -> None:
    assert [one(name, text, text) for name in RULES] == pytest.approx([1] * len(RULES))
