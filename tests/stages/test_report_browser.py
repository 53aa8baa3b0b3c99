"""The report's browser of answers: filters, search, keys, fields that differ, choices, and what a judge said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.stages.browsing import Open, search
from tests.stages.report_fixture import build, make_evaluations, rewrite, rows


def ids(page: Any) -> list[str]:
    return list(page.locator(".item-id").all_inner_texts())


def answers(whole: dict[str, Any], arm: str, task: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows(whole["evaluations"][arm]) if row["task"] == task}


def test_filters_and_search_show_what_they_say(page, whole):
    tuned, rival = (answers(whole, arm, "tool_calls_golden") for arm in ("tuned", "yardstick"))
    difference = {
        item: row["scores"]["exact_match"] - rival[item]["scores"]["exact_match"] for item, row in tuned.items()
    }
    page.select_option("#task", label="tool_calls_golden")
    page.select_option("#rival", "yardstick")
    counts = {name: page.locator(f"#outcome button[value={name}]").inner_text() for name in ("all", "win", "loss")}
    assert counts == {
        "all": "All 60",
        "win": f"Wins {sum(value > 0 for value in difference.values())}",
        "loss": f"Losses {sum(value < 0 for value in difference.values())}",
    }
    page.click("#outcome button[value=loss]")
    assert ids(page) == [item for item, value in difference.items() if value < 0][:5]
    page.select_option("#tag", "tool: track_order")
    assert (
        ids(page) == [i for i, value in difference.items() if value < 0 and "tool: track_order" in tuned[i]["tags"]][:5]
    )
    page.select_option("#tag", "")
    page.click("#outcome button[value=all]")
    page.select_option("#fails", label="yardstick: right tool")
    assert ids(page) == [item for item, row in rival.items() if row["scores"]["right_tool"] < 1][:5]
    page.select_option("#fails", "")
    page.fill("#query", "no such words")
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator("#count")).to_have_text("No item matches.")
    page.fill("#query", "GOLDEN-017")
    expect(page.locator("#count")).to_have_text("1 to 1 of 1 items")


def test_a_guard_is_shown_for_the_arms_that_were_asked_it(page):
    page.select_option("#task", label="general_knowledge")
    assert page.locator(".item").first.locator(".answer-head .arm").all_inner_texts() == ["base", "tuned", "yardstick"]
    page.select_option("#rival", "prompted")
    assert page.locator("#outcome button[value=win]").inner_text() == "Wins 0"
    page.select_option("#task", label="general_text")
    assert page.locator("#fails-label").is_hidden()  # Bits per byte are neither right nor wrong.


def test_a_slice_leads_to_its_items(page, whole):
    tuned = answers(whole, "tuned", "tool_calls_golden")
    page.locator(".to-slice[data-task=tool_calls_golden]", has_text="tool: send_message").click()
    assert ids(page) == [item for item, row in tuned.items() if "tool: send_message" in row["tags"]][:5]
    assert page.locator("#answers").bounding_box()["y"] < 200


def test_everything_is_reached_by_keyboard(page):
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("j")  # Typed, not heeded.
    assert page.input_value("#query") == "j"
    page.fill("#query", "")
    page.locator("#query").blur()
    for _ in range(5):
        page.keyboard.press("j")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "heldout-005"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("j")
    assert page.locator("#page").inner_text() == "Page 2 of 40"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "heldout-006"
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "heldout-005"
    page.focus("#next")
    page.keyboard.press("Enter")
    assert page.locator("#page").inner_text() == "Page 2 of 40"


def test_fields_that_differ_are_named(opened, tmp_path):
    expected = {"tool": "book", "arguments": {"day": "2026-03-04", "guests": ["Li", "Zoë"], "room": 2}}
    answered = {"tool": "book", "arguments": {"day": "2026-03-05", "guests": ["Li", "Zoë"], "note": "<b>"}}
    shown = one_answer(opened, tmp_path, expected, "```json\n" + json.dumps(answered) + "\n```")
    assert shown.locator(".fields-title").inner_text() == "3 fields unlike the expected answer, 3 equal"
    assert [" ".join(text.split()) for text in shown.locator(".fields li").all_inner_texts()] == [
        'arguments.day ≠ differs got "2026-03-05" expected "2026-03-04"',
        "arguments.room − missing expected 2",
        'arguments.note + extra got "<b>"',
    ]


def test_fields_that_the_scorer_takes_for_equal_are_not_named(opened, tmp_path):
    expected = {"city": "New York", "guests": 2, "note": "Call first", "day": "Monday"}
    answered = {"city": "new  york", "guests": 2.0, "note": "call first.", "day": "Sunday"}
    shown = one_answer(opened, tmp_path, expected, json.dumps(answered))
    assert shown.locator(".fields-title").inner_text() == "1 field unlike the expected answer, 3 equal"
    assert shown.locator(".fields .path-name").all_inner_texts() == ["day"]


def test_calls_in_another_order_are_set_beside_those_they_are_like(opened, tmp_path):
    calls = [{"tool": "a", "x": 1}, {"tool": "b", "x": 2}, {"tool": "c", "x": 3}]
    shown = one_answer(opened, tmp_path, calls, json.dumps([calls[2], {"tool": "a", "x": 9}]))
    assert [" ".join(text.split()) for text in shown.locator(".fields li").all_inner_texts()] == [
        "[1].x ≠ differs got 9 expected 1",
        '[2].tool − missing expected "b"',
        "[2].x − missing expected 2",
    ]


@pytest.mark.parametrize(
    "output", ["no JSON", "[" * 15_000 + "]" * 15_000, '{"__proto__": {"x": 1}, "tool": ', "null", '"text"']
)
def test_what_is_no_json_object_has_no_fields_and_does_no_harm(opened, tmp_path, output):
    shown = one_answer(opened, tmp_path, {"tool": "book"}, output)
    assert shown.locator("pre.text").first.inner_text().startswith(output[:20])
    assert shown.locator(".fields").count() <= 1


def one_answer(opened: Open, root: Path, expected: Any, output: str) -> Any:
    """The page's view of one answer of the tuned arm."""
    evaluations = make_evaluations(root / "e", items=1, arms=("base", "tuned"))
    for folder in evaluations.values():
        samples = rows(folder)
        samples[0] |= {"expected": [expected], "output": output, "scores": dict.fromkeys(samples[0]["scores"], 0)}
        rewrite(folder, samples)
    out, _ = build(root, evaluations)
    return opened(out / "report.html").locator(".item").first.locator(".answer").nth(1)


def test_choices_are_shown_with_their_probabilities(page, whole):
    sample = answers(whole, "tuned", "general_knowledge")["knowledge-001"]
    search(page, "knowledge-001", "knowledge-001")
    rows_ = page.locator(".answer").nth(1).locator(".choice").all_inner_texts()
    odds = [math.exp(value) for value in sample["logprobs"]]
    shares = [f"{100 * one / sum(odds):.1f}%" for one in odds]
    assert len(rows_) == 4 and all(share in row for share, row in zip(shares, rows_, strict=True))
    likeliest = page.locator(".answer").nth(1).locator(".choice.likeliest .choice-name").inner_text()
    assert likeliest == sample["output"].strip()


def test_the_judge_s_verdict_and_reasons_stand_by_the_answers(page, whole):
    lines = [json.loads(line) for line in (whole["judge"] / "judgements.jsonl").read_text().splitlines()]
    pairs = {line["id"]: line for line in lines if line["mode"] == "pairwise" and line["b"] == "prompted"}
    page.select_option("#task", label="tool_calls_golden")
    page.select_option("#rival", "prompted")
    page.select_option("#by", "judge")
    wins = [item for item, line in pairs.items() if line["winner"] == "a"]
    assert page.locator("#outcome button[value=win]").inner_text() == f"Wins {len(wins)}"
    page.click("#outcome button[value=win]")
    assert ids(page) == wins[:5]
    item = page.locator(".item").first
    item.locator(".judge summary").click()
    said = item.locator(".judge").inner_text()
    assert "tuned shown first: prefers tuned. It does <b>what</b> was asked." in said
    assert "prompted shown first: prefers tuned. It does <b>what</b> was asked." in said
    marked = next(line for line in lines if line["mode"] == "absolute" and line["score"] and line["id"] == wins[0])
    assert f"judge: {marked['score']} {marked['reason']}" in item.inner_text()
