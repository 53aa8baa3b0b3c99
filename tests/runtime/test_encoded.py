"""Rows of a data set as training sees them: which, and in what order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stages.conversations import conversation
from tests.tiny import tiny_tokenizer
from tunelift.runtime.encoded import read_encoded
from tunelift.stages.train.answers import ask


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A split of which the second half is another source's."""
    rows = [conversation(number) for number in range(40)]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def ids(dataset: Path, *limit: int) -> list[str]:
    return [row.id for row in read_encoded(tiny_tokenizer(), dataset, "validation", *limit)]


def test_some_rows_of_a_split_are_of_all_its_sources_whatever_their_order(dataset: Path) -> None:
    drawn = ids(dataset, 10, 5)
    assert len(set(drawn)) == 10
    second = sum(int(name.removeprefix("row-")) >= 20 for name in drawn)
    assert 2 <= second <= 8, drawn
    lines = (dataset / "validation.jsonl").read_text().splitlines()
    (dataset / "validation.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    assert ids(dataset, 10, 5) == drawn
    assert set(ids(dataset, 10, 6)) != set(drawn)


def test_all_rows_keep_the_order_of_the_file(dataset: Path) -> None:
    assert ids(dataset) == [f"row-{number}" for number in range(40)]


def test_the_rows_for_the_loss_are_those_that_are_answered(dataset: Path) -> None:
    asked = ask(tiny_tokenizer(), dataset, rows=6, max_tokens=4, scorer="exact_match", seed=3, stops=())
    assert [item.id for item in asked.task.items] == ids(dataset, 6, 3)
