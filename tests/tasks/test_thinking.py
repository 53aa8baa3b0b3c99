"""Thinking that a text begins with is taken off, once, before any scorer; nothing else is."""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.families import FAMILIES
from tests.tasks.scorers.making import anything, item, one, scorer, task
from tests.tasks.test_task import make
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.runtime.chat import render
from tunelift.tasks.scorers import score
from tunelift.tasks.task import load_task, task_from_split
from tunelift.tasks.thinking import never_began, opening_in, part, unknown_tag, without_thinking

CALL = {"tool": "remind", "arguments": {"text": "call Anna"}}

BLOCKS = [
    "<think>\n\n</think>\n\n",
    "<think>\nLet me see: is it early?\n</think>\n\n",
    "\n <Think>early?</Think>",
    "<thinking>early?</thinking>\n",
    "<thought>early?</thought>\n",
    "<seed:think>early?</seed:think>",
    "<think:opensource>early?</think:opensource>\n",
    "[THINK]early?[/THINK]",
    "<|START_THINKING|>early?<|END_THINKING|>",
    "<|channel>thought\nearly?<channel|>",
    "<|channel|>analysis<|message|>early?<|end|><|start|>assistant<|channel|>final<|message|>",
    "Okay, early or late?\n</think>\n\n",  # The prompt began it.
    "hm[/THINK]",
    "<think>They ask about the mark `</think>`.</think>\n",
    "<think>They ask about the marks “</think>” and ``</think>`` and '</think>' and \"</think>\", hm.</think>\n",
    "<reasoning>early?</reasoning>",
    "<reflection>early?</reflection>\n",
    "<Analysis>early?</Analysis>",
    "<scratchpad>early?</scratchpad>",
    "<think >early?</think >",
    "\ufeff<think>early?</think>",
    "\u200b\n<think>early?</think>",
    "<think>early?</think><think>or not?</think>",
    "<think></think>\n<thinking>early?</thinking>\n",
    "Here is my thought process:\n\nearly?\n\nHere is my response:\n\n",
    "Here's my thought process: early? Here's my response: ",
    '{"tool":"ping"} would be wrong\n</think>\n\n',
    "[1] is early\n</think>\n",
    "They ask about the mark `</think>`. And <think>?\n</think>\n".replace("<think>", "`<think>`"),
]


@pytest.mark.parametrize("block", BLOCKS)
def test_an_answer_behind_thinking_is_the_answer_to_every_scorer(block: str) -> None:
    assert part(block + "late").answer == "late"
    assert part(block + "late").thinking is not None
    assert one("exact_match", block + "late", "late") == 1
    assert one("number", block + "1,200", 1200, find="only") == 1
    assert one("regex", block + "late", pattern=r"\Alate\Z") == 1
    assert one("contains", block + "late", "Late") == 1
    assert one("chrf", block + "rather late", "rather late") == 1
    call = json.dumps(CALL)
    for rule in ("exact_match", "valid_json", "field_f1", "tool_call", "right_tool", "schema_valid"):
        assert one(rule, block + call, CALL) == 1, rule


def test_what_is_thought_never_counts() -> None:
    mused = f"<think>\nperhaps {json.dumps(CALL)}, the longest JSON by far\n</think>\n\n"
    for find in ("only", "anywhere"):
        assert one("tool_call", mused + '{"tool": null}', CALL, find=find) == 0
        assert one("tool_call", mused + '{"tool": null}', {"tool": None}, find=find) == 1
        assert one("field_f1", mused + '{"a": 1}', {"a": 1}, find=find) == 1
    assert one("contains", "<think>Oslo or Rome</think>Rome", "Oslo") == 0
    assert one("number", "<think>41, 42</think>forty", 42, find="last") == 0


def test_thinking_that_is_cut_off_leaves_no_answer() -> None:
    assert part("<think>\nIs it late? It is late") == ("Is it late? It is late", "")
    assert one("contains", "<think>late, late, late", "late") == 0
    assert one("exact_match", "[THINK]late", "late") == 0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>run `ls`</think>`ls`", "`ls`"),
        ('<think>The user wants "late"</think>"late"', '"late"'),
        ("<think>The user wants 'late'</think>'late'", "'late'"),
        ('<think>They said "late."</think>"late"', '"late"'),
        ('<think>The answer is empty: ""</think>""', '""'),
        ("<think>\n```\nls\n```</think>```\nls\n```", "```\nls\n```"),
        ("x'</think>'late'", "'late'"),
        ("run `ls`</think>`ls`", "`ls`"),
    ],
)
def test_a_quotation_on_either_side_of_a_mark_does_not_quote_it(text: str, answer: str) -> None:
    assert part(text).answer == answer


def test_a_quoted_mark_does_not_end_thinking_that_was_cut_off() -> None:
    for quoted in ("`</think>`", '"</think>"', "'</think>'", "“</think>”"):
        assert part(f"<think>They ask about {quoted}, hm").answer == ""


@pytest.mark.parametrize(
    "text",
    [
        "late",
        "The tag is </think> in HTML",
        "Write </think>.",
        "The tag is </think>",
        "Close it (</think>) and go on",
        "Write x</think>. Then go on.",
        'He wrote "hm</think>late" there.',
        "Use `a</think>b` here.",
        "Like this:\n```\nhm\n</think>\nlate\n```\nSo.",
        '{"text": "hm</think>late"',
        '{"text": "hm\n</think>\nlate"}',
        "Here is my response: late",
        "I say <think>hm</think> late",
        "In Python: text.split('</think>')[-1]",
        '{"text": "hm</think>late"}',
        '[{"a": "</think>"}]',
        "<thinker>late</thinker>",
        "think: late",
    ],
)
def test_only_a_leading_block_is_thinking(text: str) -> None:
    assert part(text) == (None, text)
    assert without_thinking(text) == text


def test_one_block_is_taken_off_and_the_first_line_keeps_its_indent() -> None:
    assert part("<think>a</think>\n\n<think>b</think>\nlate").answer == "<think>b</think>\nlate"
    assert part("<think>a</think>\n \n    return 1\n").answer == "    return 1\n"
    assert part("<think>a</think> late").answer == "late"


def test_a_mark_within_a_sentence_does_not_hide_the_one_that_ends_thinking() -> None:
    assert part("I may write </think> soon.\n</think>\n\nlate").answer == "late"


@pytest.mark.parametrize(
    ("answer", "tag"),
    [
        ("<xyz>hm</xyz>late", "xyz"),
        ("\n<Inner.Voice kind='a'>hm</inner.voice>\nlate", "inner.voice"),
        ("<xyz>hm</xyz>", None),
        ("<xyz>hm late", None),
        ("<tool_call>{}</tool_call><tool_call>{}</tool_call>", None),
        ("<answer>late</answer>.", None),
        ("<p>late</p><p>so</p>", None),
        ("<row>late</row><row>so</row>", None),
    ],
)
def test_a_block_in_an_unknown_tag_is_told_from_answers_in_tags(answer: str, tag: str | None) -> None:
    assert unknown_tag(answer, ["late", "<row>late</row>"]) == tag


@given(anything | st.sampled_from(BLOCKS), anything)
def test_any_text_can_be_parted_and_scored(before: str, after: str) -> None:
    parted = part(before + after)
    assert (before + after).endswith(parted.answer)
    assert 0 <= one("exact_match", before + after, "late") <= 1


def test_an_accepted_answer_is_what_follows_its_thinking(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "request": "when?", "accepted": ["<think>hm</think>\n\nlate", "<think>no answer at all</think>"]}
    ]
    folder = make(tmp_path / "t", list(map(json.dumps, rows)), tools=None, cluster=None, scorers=["exact_match"],
                  prompt={"user": "{request}"})  # fmt: skip
    loaded = load_task(folder)
    assert loaded.items[0].accepted == ("late", "<think>no answer at all</think>")


def test_where_thinking_itself_is_right_it_is_scored_whole() -> None:
    """A task about such marks: what is accepted holds nothing else."""
    right = "<think>step by step</think>"
    assert one("exact_match", right, right) == 1
    assert one("exact_match", "<think>otherwise</think>", right) == 0


def row(content: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "when?"}, {"role": "assistant", "content": content, **more}]
    return {"id": content, "messages": messages}


@pytest.mark.parametrize(
    "reply",
    [
        row("<think>\nIt is noon.\n</think>\n\nlate"),
        row("It is noon.\n</think>\n\nlate"),
        row("late", reasoning_content="It is noon."),
    ],
)
def test_a_splits_right_answer_is_the_reply_without_its_thinking(reply: dict[str, Any]) -> None:
    made = task_from_split([reply], SplitTaskConfig(from_split="test"))
    assert made.items[0].accepted == ("late",)
    for output in ("late", "<think>\n\n</think>\n\nlate", "<think>\nIt is noon.\n</think>\n\nlate"):
        assert score(output, made.items[0], made) == {"exact_match": 1.0}


def test_scorers_of_a_split_are_chosen_by_its_answers() -> None:
    rows = [row(f'<think>\nhm {n}\n</think>\n\n{{"tool": "t{n}"}}') for n in range(3)]
    made = task_from_split(rows, SplitTaskConfig(from_split="test"))
    assert made.metrics == ("exact_match", "valid_json", "field_f1", "right_tool")
    assert made.items[1].accepted == ({"tool": "t1"},)


def test_ones_own_scorer_is_given_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_of_thinking.py").write_text("def same(output, item, task):\n    return output == 'late'\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = scorer("mine_of_thinking:same")
    assert made.function("<think>\n\n</think>\n\nlate", item("late"), task()) == 1


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if "think" in family.template], ids=attrgetter("name")
)
def test_the_mark_that_a_template_opens_is_found_in_the_prompt(family: Any) -> None:
    prompt = render(family.tokenizer(), [{"role": "user", "content": "Say <think>."}], None, generate=True)
    left_open = prompt.rstrip().endswith("<think>")
    assert opening_in(prompt) == ("<think>" if left_open else "")


def test_an_opened_prompt_is_told_from_one_that_was_closed_again() -> None:
    assert opening_in("<|im_start|>assistant\n<think>\n") == "<think>"
    assert opening_in("[/INST][THINK]") == "[THINK]"
    assert opening_in("<|im_start|>assistant\n<think>\n\n</think>\n\n") == ""
    assert opening_in("Say <think> twice.<|im_end|>\n<|im_start|>assistant\n") == ""


@pytest.mark.parametrize(
    ("sample", "silent"),
    [
        ({"answer": "late", "expected": ["late"]}, False),
        ({"answer": " \n", "expected": ["late"]}, True),
        ({"answer": "", "expected": [{"tool": None}]}, True),
        ({"answer": "", "expected": ["late", ""]}, False),
        ({"answer": "", "expected": [[]]}, False),
        ({"answer": "", "expected": ["late"], "error": "HTTP 400"}, False),
        ({"output": "", "expected": ["late"]}, False),
    ],
)
def test_an_answer_never_began_if_nothing_was_said_that_could_be_right(sample: dict[str, Any], silent: bool) -> None:
    assert never_began(sample) == silent
