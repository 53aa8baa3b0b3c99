"""Texts that stand for none: no reply to learn, and no input to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import kept_rows, pair, pairs, write_jsonl
from tests.wording import own_words
from tunelift.stages.curate.placeholders import no_input, perhaps_placeholder, placeholder

SURE = [
    *("<nooutput>", "<NoOutput>", " nan\n", "[insert answer here]", "<your answer>", "[Your Name Here]", "TODO", "tbd"),
    *("#N/A", "{{answer}}", "[Insert your response here.]", "<NA>", "[object Object]", "<response>"),
]
UNSURE = ["NaN", "None", "N/A", "null", "-", "...", "n/a", "Not applicable"]
ANSWERS = [
    "A hammer.",
    "No.",
    "[1, 2]",
    "<b>bold</b>",
    "Your answer is right.",
    "nano",
    "{'answer': 1}",
    "[Hamlet]",
    "0",
]


@pytest.mark.parametrize("reply", SURE)
def test_what_no_one_answers_is_a_placeholder(reply: str) -> None:
    assert placeholder(reply) == reply.strip()


@pytest.mark.parametrize("reply", UNSURE)
def test_what_may_be_an_answer_is_only_perhaps_one(reply: str) -> None:
    assert placeholder(reply) is None and perhaps_placeholder(reply)


@pytest.mark.parametrize("reply", ANSWERS)
def test_answers_are_none(reply: str) -> None:
    assert placeholder(reply) is None and not perhaps_placeholder(reply) and not no_input(reply)


def test_placeholders_are_dropped_and_doubtful_ones_counted(run: Any, tmp_path: Path, capsys: Any) -> None:
    rows = [*pairs(40), pair("Name a river.", "<nooutput>"), pair("Name a lake.", "nan"), pair("Name a hill.", "None")]
    rows += [pair(f"Tell me {own_words(n)}", f"So {n}.") for n in range(100, 130)]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows))
    assert stats["rows"]["dropped"] == {"placeholder_reply": 2}
    assert stats["perhaps_placeholders"] == {"None": 1}
    assert "replies that may be placeholders, kept: 'None' 1" in capsys.readouterr().err


def test_a_set_of_labels_keeps_none_as_one_of_them(run: Any, tmp_path: Path) -> None:
    rows = [pair(f"Which pest is it? {own_words(n)}", ("Aphids", "Mites", "None")[n % 3]) for n in range(60)]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows))
    assert (stats["rows"]["kept"], stats["perhaps_placeholders"]) == (60, {})


def test_placeholders_are_learnt_where_that_is_asked_for(run: Any, tmp_path: Path) -> None:
    stats = run(write_jsonl(tmp_path / "a.jsonl", [*pairs(40), pair("Go.", "nan")]), clean={"placeholders": "report"})
    assert (stats["rows"]["kept"], stats["flagged"]) == (41, {"placeholder_reply": 1})


def test_an_input_that_says_there_is_none_is_left_out(run: Any, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {own_words(n)}", "input": "", "output": "Done."} for n in range(40)]
    rows += [
        {"instruction": "Name a bay in Wales.", "input": "<noinput>", "output": "Cardigan Bay."},
        {"instruction": "Name a cape in Spain.", "input": "nan", "system": "nan", "output": "Cabo de Gata."},
        {"instruction": "Which type is this value?", "input": "None", "output": "NoneType"},
    ]
    source = tmp_path / "a.json"
    source.write_text(json.dumps(rows))
    stats = run(source)
    assert stats["edited"] == {"no_input": 2}
    asked = [row["messages"][0]["content"] for row in kept_rows(tmp_path / "out").values()]
    assert {"Name a bay in Wales.", "Name a cape in Spain.", "Which type is this value?\n\nNone"} <= set(asked)
