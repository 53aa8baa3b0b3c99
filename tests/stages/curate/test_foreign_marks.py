"""Marks of other models' chat templates: rows that are rendered for another model are told from talk about marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import kept_rows, pair, pairs, read_jsonl, write_jsonl
from tunelift.errors import UserError
from tunelift.stages.curate.foreign_marks import foreign_mark

RENDERED = [
    ("Cedar.</s>", "</s>"),
    ("Cedar. </s>\n", "</s>"),
    ("<s>Cedar</s>", "</s>"),
    ("Thyme.<|eot_id|>", "<|eot_id|>"),
    ("<|start_header_id|>assistant<|end_header_id|>\n\nThyme.", "<|end_header_id|>"),
    ("Opal.<end_of_turn>", "<end_of_turn>"),
    ("Wren.[/INST]", "[/INST]"),
    ("Perch.<|end|>", "<|end|>"),
    ("Hazel.<|endoftext|>", "<|endoftext|>"),
    ("Hazel.<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    ("Hazel.<|im_end|>\n<|im_start|>user\nAnd a bush?", "<|im_start|>"),
    ("Hazel.\n\n### Human: And a bush?", "### Human:"),
    ("### Response:\nHazel.", "### Response:"),
    ("Hazel.\n\n### Instruction:\nName a bush.\n\n### Response:\nBox.", "### Instruction:"),
]
TEXT = [
    "A list ends with `</s>`, as the code has it.",
    "```\nprompt = '<s>[INST] Hi [/INST]'\n```\nThat is all.",
    'The mark "<|eot_id|>" ends it.',
    "It was <s>ten</s> eight euros.",
    "<s>Ten</s> eight euros.",
    "xs |> List.map f <| ys",
    "# API\n\n### Response:\nA JSON object\n\nIt is never empty.",
    "<|positive|>",
    '{"text": "a</s>"}',
    "if a < b and c | d > e",
]


def judged(reply: str, prompt: str = "Name one.", own: tuple[str, ...] = ()) -> tuple[str | None, bool]:
    fault, drop = foreign_mark(pair(prompt, reply)["messages"], own)
    return (str(fault.evidence["mark"]) if fault else None), drop


@pytest.mark.parametrize(("reply", "mark"), RENDERED)
def test_a_reply_with_a_mark_is_rendered_for_another_model(reply: str, mark: str) -> None:
    assert judged(reply) == (mark, True)


@pytest.mark.parametrize("reply", TEXT)
def test_code_quotations_and_other_brackets_hold_no_mark(reply: str) -> None:
    assert judged(reply) == (None, False)


def test_the_models_own_tokens_are_no_marks_of_another() -> None:
    assert judged("Hazel.<|im_end|>", own=("<|im_end|>",)) == (None, False)


@pytest.mark.parametrize(
    ("prompt", "reply", "mark"),
    [
        ("What is the end-of-turn token of Llama 3?", "It is <|eot_id|>", "<|eot_id|>"),
        ("<s>[INST] Name a tree. [/INST]", "Cedar.", "[/INST]"),
        ("### Instruction:\nName a tree.\n\n### Response:", "Cedar.", "### Response:"),
    ],
)
def test_talk_about_marks_and_marks_in_what_is_asked_are_only_told(prompt: str, reply: str, mark: str) -> None:
    assert judged(reply, prompt) == (mark, False)


def test_marks_are_counted_rows_dropped_and_prompts_kept(run: Any, tmp_path: Path, capsys: Any) -> None:
    rows = [
        *pairs(40),
        pair("Name a conifer.", "Cedar.</s>"),
        pair("[INST] Name a herb. [/INST]", "Thyme."),
        pair("Name a nut.", "Hazel.<|im_end|>"),
    ]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    stats = run(source)
    assert stats["rows"]["dropped"] == {"foreign_mark": 1, "special_token_in_content": 1}
    assert stats["foreign_marks"] == {"</s>": 1, "[/INST]": 1}
    assert stats["flagged"] == {"foreign_mark": 1}
    assert read_jsonl(tmp_path / "out" / "dropped.jsonl")[0]["evidence"] == {"message": 1, "mark": "</s>"}
    assert "marks of other models' templates: </s> in 1, [/INST] in 1 rows" in capsys.readouterr().err
    kept = run(source, clean={"foreign_marks": "report"})
    assert kept["rows"]["kept"] == 42 and kept["flagged"] == {"foreign_mark": 2}
    assert run(source, clean={"foreign_marks": "off"})["foreign_marks"] == {}


def test_a_data_set_that_is_rendered_as_a_whole_is_one_error(run: Any, tmp_path: Path) -> None:
    rows = [pair(row["messages"][0]["content"], f"Done {n}.</s>") for n, row in enumerate(pairs(30))]
    with pytest.raises(UserError, match=r"30 of 40 rows are rendered for another model.*</s> in 30 rows") as raised:
        run(write_jsonl(tmp_path / "a.jsonl", [*rows, *pairs(10, 30)]))
    assert "Take the marks out of the texts" in raised.value.remedy
    assert len(kept_rows(tmp_path / "out")) == 0
