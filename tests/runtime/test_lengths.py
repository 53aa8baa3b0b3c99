"""What a limit on length costs: counted exactly, shown under other limits, and refused above what is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.errors import UserError
from tunelift.runtime.lengths import LongRow, Lost, percent

LOST = Lost(
    256,
    (LongRow("aa", "mail.jsonl:7", 300, 30), LongRow("bb", "mail.jsonl:9", 1200, 50), LongRow("cc", "", 700, 20)),
    left=900,
)


def test_the_ratio_is_in_supervised_tokens_of_what_could_be_learnt() -> None:
    assert (LOST.supervised_tokens, LOST.ratio, LOST.longest) == (100, 0.1, 1200)
    assert LOST.under_limits() == {256: 0.1, 512: 0.07, 1024: 0.05, 1200: 0.0}


def test_nothing_lost_is_a_ratio_of_0_even_of_nothing() -> None:
    for left in (0, 5):
        nothing = Lost(64, (), left)
        nothing.refuse_above(0)
        assert nothing.ratio == 0
        assert nothing.as_json()["longest_row"] is None


def test_more_than_allowed_lists_the_rows_and_both_ways_out() -> None:
    LOST.refuse_above(0.1)
    with pytest.raises(UserError) as caught:
        LOST.refuse_above(0.099, "out/dropped.jsonl")
    for piece in (
        "3 rows are longer than train.max_length=256.",
        "100 supervised tokens, 10% of all",
        "  bb mail.jsonl:9: 1,200 tokens, 50 of them supervised\n  cc: 700 tokens",
        "256: 10%, 512: 7%, 1024: 5%, 1200: 0%",
    ):
        assert piece in caught.value.message
    for piece in ("train.max_length to 1200", "train.max_truncated_ratio to 0.1.", "out/dropped.jsonl"):
        assert piece in caught.value.remedy


def test_many_rows_are_listed_in_part_the_longest_first() -> None:
    many = Lost(8, tuple(LongRow(f"r{tokens}", "", tokens, 1) for tokens in range(9, 39)), 0)
    lines = many.account().splitlines()
    assert lines[0].startswith("  r38:")
    assert lines[10] == "  and 20 more"


@given(st.lists(st.tuples(st.integers(9, 5000), st.integers(1, 500)), min_size=1, max_size=30), st.integers(0, 10**7))
def test_both_remedies_work(rows: list[tuple[int, int]], left: int) -> None:
    lost = Lost(8, tuple(LongRow("r", "", tokens, learnt) for tokens, learnt in rows), left)
    with pytest.raises(UserError) as caught:
        lost.refuse_above(0)
    ratio = float(caught.value.remedy.split("max_truncated_ratio to ")[1].rstrip("."))
    assert 0 < ratio <= 1
    lost.refuse_above(ratio)
    assert lost.ratio_at(lost.longest) == 0
    shares = list(lost.under_limits().values())
    assert shares == sorted(shares, reverse=True)


def test_a_small_loss_is_not_shown_as_none() -> None:
    assert [percent(share) for share in (0, 0.00004, 0.0123, 1)] == ["0%", "0.004%", "1.23%", "100%"]
