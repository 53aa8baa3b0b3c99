"""Judging by log-probability."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.errors import UserError
from tunelift.tasks.likelihood import LIKELIHOOD, likeliest, likelihood_scorers, score_likelihood
from tunelift.tasks.task import Item, Task


def choice(*choices: str, right: int) -> tuple[Item, Task]:
    return item(choices=choices, right=right), task("choice")


def item(**more: Any) -> Item:
    return Item("1", (), (), (), "", **more)


def task(kind: Any) -> Task:
    scorers = tuple(LIKELIHOOD[kind].values())
    return Task("t", 1, "guard", "", "", (), scorers, scorers[0].name, 1, kind=kind)


def test_the_likeliest_choice_counts_and_per_byte_the_likeliest_byte() -> None:
    one, asked = choice(" no", " certainly", right=1)
    assert score_likelihood([-4.0, -6.0], one, asked) == {"accuracy": 0, "accuracy_norm": 1}
    assert score_likelihood([-6.0, -4.0], one, asked) == {"accuracy": 1, "accuracy_norm": 1}
    assert likeliest([-4.0, -6.0], one) == " no"


def test_white_space_around_a_choice_has_no_length() -> None:
    one, asked = choice("   ab", "abc", right=0)
    assert score_likelihood([-2.0, -3.1], one, asked)["accuracy_norm"] == 1
    assert score_likelihood([-2.1, -3.0], one, asked)["accuracy_norm"] == 0


def test_the_first_of_equals_counts() -> None:
    for right, expected in [(0, 1), (1, 0)]:
        one, asked = choice(" a", " b", right=right)
        assert score_likelihood([-1.0, -1.0], one, asked)["accuracy"] == expected


def test_bits_per_byte_count_bytes_not_characters_or_tokens() -> None:
    text = item(text="né")
    assert score_likelihood([-3 * math.log(2)], text, task("perplexity")) == {"bits_per_byte": pytest.approx(1)}
    assert score_likelihood([-8 * math.log(2)], item(text="a"), task("perplexity"))["bits_per_byte"] == pytest.approx(8)


@pytest.mark.parametrize("logprobs", [[], [-1.0], [-1.0, -2.0, -3.0], [-1.0, math.nan], [-1.0, -math.inf]])
def test_numbers_that_cannot_be_scored_are_refused(logprobs: list[float]) -> None:
    with pytest.raises(ValueError, match="needs 2 finite"):
        score_likelihood(logprobs, *choice(" a", " b", right=0))


@given(st.lists(st.floats(-1e6, 0), min_size=2, max_size=8), st.floats(-1e5, 0), st.data())
def test_a_common_shift_changes_no_accuracy(logprobs: list[float], shift: float, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, len(logprobs) - 1))
    one, asked = choice(*(f" {n}" for n in range(len(logprobs))), right=right)
    scores = score_likelihood(logprobs, one, asked)
    assert scores["accuracy"] == float(likeliest(logprobs, one) == f" {right}")
    assert scores["accuracy"] == scores["accuracy_norm"], "choices of equal length"
    rounded = [round(value) for value in logprobs]
    assert likeliest(rounded, one) == likeliest([value + round(shift) for value in rounded], one)


def test_scorers_of_another_kind_are_refused() -> None:
    assert [rule.name for rule in likelihood_scorers("choice", [], str)] == ["accuracy", "accuracy_norm"]
    assert [rule.name for rule in likelihood_scorers("choice", [{"scorer": "accuracy_norm"}], str)] == ["accuracy_norm"]
    for entry in ("exact_match", {"scorer": "accuracy", "x": 1}, 3):
        with pytest.raises(UserError, match="A task of the kind choice has no scorer"):
            likelihood_scorers("choice", [entry], lambda path: f"task.yaml:{path}")
    with pytest.raises(UserError, match="stands twice"):
        likelihood_scorers("perplexity", ["bits_per_byte", "bits_per_byte"], str)
