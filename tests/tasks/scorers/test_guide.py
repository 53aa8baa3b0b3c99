"""What the guide to the scorers says: every row of its tables is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tasks.scorers.making import item
from tunelift.tasks.scorers import build_scorers
from tunelift.tasks.scorers.build import SCORERS
from tunelift.tasks.task import Task

GUIDE = Path(__file__).parents[3] / "docs" / "scorers.md"
TOOLS = tuple({"name": name, "parameters": {"type": "object"}} for name in ("open", "pay", "ping"))
SIGNS = {"⏎": "\n", "⍽": "\u00a0", "⌁": "\ufeff"}


def cells() -> Iterator[Any]:
    for number, line in enumerate(GUIDE.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("| `"):
            columns = [column.strip() for column in line.strip("|").split(" | ")]
            entry, accepted, output, score = columns[:4]
            yield pytest.param(code(entry), code(accepted), code(output), float(score), id=f"line {number}")


def code(cell: str) -> str:
    """What stands between a cell's backticks; a blank beside longer ones is theirs."""
    found = re.fullmatch(r"(`+)(.*)\1", cell)
    assert found, cell
    inside = found[2]
    return inside[1:-1] if len(found[1]) > 1 else inside


@pytest.mark.parametrize(("entry", "accepted", "output", "score"), list(cells()))
def test_the_guides_row_is_what_the_scorer_gives(entry: str, accepted: str, output: str, score: float) -> None:
    for sign, meant in SIGNS.items():
        output = output.replace(sign, meant)
    [scorer] = build_scorers([yaml.safe_load(entry)], has_tools=True)
    task = Task("t", 1, "target", "", "", (), (scorer,), scorer.name, 8, TOOLS)
    assert scorer.function(output, item(json.loads(accepted)), task) == pytest.approx(score, abs=5e-4)


def test_the_guide_shows_every_scorer_of_this_package() -> None:
    entries = [yaml.safe_load(row.values[0]) for row in cells()]
    shown = {entry if isinstance(entry, str) else entry["scorer"] for entry in entries}
    assert shown >= set(SCORERS) - {"evaluate", "rouge1", "rouge2"}
    assert {row.values[3] for row in cells()} >= {0.0, 1.0}
