"""No claim rests on answers that never began or on prompts that were not read; what was cut off or withheld is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stages.report_fixture import build, measured, rewrite, rows
from tests.stages.run_folder import evaluation_of, make_run_folder
from tunelift.config.evaluation import GateConfig
from tunelift.stages.report.runs import compare_runs

KINDS: dict[str, dict[str, Any]] = {
    "r": {"answer": "on", "finish_reason": "stop"},
    "w": {"answer": "off", "finish_reason": "stop"},
    "c": {"answer": "on the one hand, off", "finish_reason": "length"},
    "s": {"answer": "", "thinking": "let me see", "finish_reason": "length"},
    "e": {"answer": "", "finish_reason": "stop"},
    "f": {"answer": "", "error": "withheld (finish_reason content_filter)", "finish_reason": "content_filter"},
}
"""Right, wrong, rambling into the limit, silent since thinking took the limit, empty, filtered."""
GATE = GateConfig.model_validate({"improved": [{"task": "asked", "against": "base"}]})
GUARD = GateConfig(not_worse=("asked",))
UNREAD = {"items": 40, "tokens": 2048, "words": 5000, "why": "fewer"}


def answered(root: Path, arms: dict[str, str], unread: str | None = None, **about: Any) -> dict[str, Path]:
    """Evaluations of one task with `max_tokens` 64; each letter of an arm is an answer of that kind."""
    scores = {arm: [float(kind == "r") for kind in kinds] for arm, kinds in arms.items()}
    folders = measured(root, scores, max_tokens=64, **about)
    for arm, kinds in arms.items():
        samples = zip(rows(folders[arm]), kinds, strict=True)
        rewrite(folders[arm], [sample | {"expected": ["on"]} | KINDS[kind] for sample, kind in samples])
    if unread:
        path = folders[unread] / "summary.json"
        summary = json.loads(path.read_text())
        summary["tasks"]["asked"]["unread_prompts"] = UNREAD
        path.write_text(json.dumps(summary))
    return folders


def pair_of(comparison: dict[str, Any], rival: str = "base") -> dict[str, Any]:
    pairs = comparison["tasks"]["asked"]["exact_match"]["pairs"]
    return next(pair for pair in pairs if pair["b"] == rival)


def test_no_claim_is_made_against_an_arm_whose_answers_never_began(tmp_path: Path) -> None:
    arms = {"base": "r" * 100 + "s" * 100, "tuned": "r" * 200}
    out, comparison = build(tmp_path, answered(tmp_path / "e", arms), gate=GATE)
    (claim,) = comparison["verdicts"]
    assert claim["verdict"] == pair_of(comparison)["verdict"] == "no claim"
    told = (
        "No claim is made of tuned against base on asked. 100 of 200 answers of base to asked never began, all cut off "
        "at the limit of 64 tokens, so no claim rests on them: set max_tokens to 2048 or more (in the task's "
        "task.yaml, or beside from_split) and evaluate again."
    )
    assert claim["sentence"] == comparison["verdict"] == told
    (held,) = comparison["gate"]["claims"]
    assert not held["held"] and not comparison["gate"]["passed"]
    assert held["reason"].startswith("No claim is made. 100 of 200 answers of base")
    for page in ("report.html", "report.md", "gate.md"):
        assert "max_tokens to 2048" in (out / page).read_text()
    assert "points more" not in comparison["verdict"]


def test_answers_that_are_empty_without_being_cut_off_need_another_remedy(tmp_path: Path) -> None:
    arms = {"base": "r" * 100 + "e" * 100, "tuned": "r" * 200}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms))
    assert comparison["verdicts"][0]["verdict"] == "no claim"
    assert "never began, though none was cut off" in comparison["verdict"]
    assert "max_tokens" not in comparison["verdict"] and "samples.jsonl" in comparison["verdict"]


@pytest.mark.parametrize(("silent", "verdict"), [(0, "improved"), (10, "improved"), (11, "no claim")])
def test_up_to_a_twentieth_of_the_items_bars_no_claim_and_is_told(tmp_path: Path, silent: int, verdict: str) -> None:
    arms = {"base": "w" * (200 - silent) + "s" * silent, "tuned": "r" * 200}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms), gate=GATE)
    assert comparison["verdicts"][0]["verdict"] == verdict
    assert comparison["gate"]["passed"] is (verdict == "improved")
    assert (f"{silent} of 200 answers of base to asked never began" in comparison["verdict"]) is (silent > 0)


def test_an_arm_that_might_have_been_the_best_is_the_one_to_beat(tmp_path: Path) -> None:
    """Half of base's answers never began: it might well be better than the arm that was heard."""
    arms = {"base": "r" * 80 + "s" * 120, "other": "r" * 100 + "w" * 100, "tuned": "r" * 200}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms))
    (claim,) = comparison["verdicts"]
    assert (claim["best_untuned"], claim["verdict"]) == ("base", "no claim")
    assert pair_of(comparison, "other")["verdict"] == "improved", "which says nothing of the best"


def test_an_arm_that_could_not_have_been_the_best_bars_nothing(tmp_path: Path) -> None:
    arms = {"base": "r" * 10 + "w" * 170 + "s" * 20, "other": "r" * 100 + "w" * 100, "tuned": "r" * 200}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms))
    (claim,) = comparison["verdicts"]
    assert (claim["best_untuned"], claim["verdict"]) == ("other", "improved")


def test_the_focus_arm_is_not_shown_to_be_worse_by_answers_that_never_began(tmp_path: Path) -> None:
    arms = {"base": "r" * 200, "tuned": "r" * 100 + "s" * 100}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms))
    (claim,) = comparison["verdicts"]
    assert claim["value"] == 0.5, "they count as failures"
    assert claim["verdict"] in {"not shown", "underpowered"} and claim["high"] > 0
    assert "100 of 200 answers of tuned to asked never began" in claim["sentence"]
    assert "set max_tokens to 2048 or more" in claim["sentence"]


def test_the_focus_arm_got_worse_where_it_would_have_even_had_it_begun(tmp_path: Path) -> None:
    arms = {"base": "r" * 200, "tuned": "r" * 40 + "w" * 140 + "s" * 20}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms))
    assert comparison["verdicts"][0]["verdict"] == "regressed"
    assert "never began" in comparison["verdict"]


@pytest.mark.parametrize("arm", ["base", "tuned"])
def test_a_guard_is_inconclusive_where_either_arm_never_began(tmp_path: Path, arm: str) -> None:
    arms = {"base": "r" * 200, "tuned": "r" * 200} | {arm: "r" * 180 + "s" * 20}
    evaluations = answered(tmp_path / "e", arms, role="guard", margin=0.2)
    _, comparison = build(tmp_path, evaluations, gate=GUARD)
    (guard,) = comparison["guards"]
    assert guard["verdict"] == "inconclusive" and not comparison["gate"]["passed"]
    assert f"20 of 200 answers of {arm} to asked never began" in guard["sentence"]
    assert "max_tokens to 2048" in comparison["verdict"]


def test_a_guard_got_no_worse_by_answers_that_never_began(tmp_path: Path) -> None:
    arms = {"base": "r" * 200, "tuned": "s" * 200}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms, role="guard", margin=0.02))
    assert comparison["guards"][0]["verdict"] == "inconclusive"


def test_answers_that_ramble_into_the_limit_stay_wrong_and_are_counted_beside_the_verdict(tmp_path: Path) -> None:
    arms = {"base": "r" * 50 + "c" * 150, "tuned": "r" * 198 + "cc"}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms), gate=GATE)
    (claim,) = comparison["verdicts"]
    assert claim["verdict"] == "improved" and comparison["gate"]["passed"]
    for told in (
        "base was cut off at 64 tokens in 150 of 200 answers to asked.",
        "tuned was cut off at 64 tokens in 2 of 200 answers to asked.",
    ):
        assert told in claim["sentence"] and told in comparison["gate"]["claims"][0]["reason"]


# --- prompts that were not read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["base", "tuned"])
def test_no_claim_rests_on_an_arm_that_did_not_read_its_prompts(tmp_path: Path, arm: str) -> None:
    evaluations = answered(tmp_path / "e", {"base": "w" * 40, "tuned": "r" * 40}, unread=arm)
    _, comparison = build(tmp_path, evaluations, gate=GATE)
    assert comparison["verdicts"][0]["verdict"] == "no claim" and not comparison["gate"]["passed"]
    told = f"The endpoint of {arm} counts 2,048 tokens in a prompt of 5,000 words or more (40 of 40 prompts of asked)"
    assert told in comparison["verdict"] and "points" not in comparison["verdict"]


@pytest.mark.parametrize("arm", ["base", "tuned"])
def test_nor_does_a_guard(tmp_path: Path, arm: str) -> None:
    arms = {"base": "r" * 400, "tuned": "r" * 400}
    evaluations = answered(tmp_path / "e", arms, unread=arm, role="guard", margin=0.05)
    _, comparison = build(tmp_path, evaluations, gate=GUARD)
    assert comparison["guards"][0]["verdict"] == "inconclusive" and not comparison["gate"]["passed"]
    assert "counts 2,048 tokens" in comparison["gate"]["claims"][0]["reason"]


def test_an_arm_that_did_not_read_its_prompts_might_have_been_the_best(tmp_path: Path) -> None:
    arms = {"base": "w" * 40, "other": "r" * 10 + "w" * 30, "tuned": "r" * 40}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms, unread="base"))
    assert (comparison["verdicts"][0]["best_untuned"], comparison["verdicts"][0]["verdict"]) == ("base", "no claim")


# --- withheld answers -----------------------------------------------------------------------------------------------


def test_withheld_answers_are_missing_answers_and_no_wrong_ones(tmp_path: Path) -> None:
    arms = {"base": "r" * 40, "tuned": "r" * 26 + "f" * 14}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms))
    (claim,) = comparison["verdicts"]
    assert claim["verdict"] in {"not shown", "underpowered"} and claim["high"] > 0
    assert (
        "tuned has no answer to 14 of 40 items of asked (14 withheld by a filter or refused by the model)"
        in (comparison["verdict"])
    )


def test_a_rival_is_not_beaten_by_what_a_filter_withheld(tmp_path: Path) -> None:
    arms = {"base": "r" * 26 + "f" * 14, "tuned": "r" * 40}
    _, comparison = build(tmp_path, answered(tmp_path / "e", arms), gate=GATE)
    assert comparison["verdicts"][0]["verdict"] != "improved" and not comparison["gate"]["passed"]
    assert "base has no answer to 14 of 40 items of asked (14 withheld" in comparison["verdict"]


def test_an_unknown_tag_that_most_answers_begin_with_is_told_beside_the_verdict(tmp_path: Path) -> None:
    folders = answered(tmp_path / "e", {"base": "w" * 40, "tuned": "r" * 40})
    path = folders["base"] / "summary.json"
    summary = json.loads(path.read_text())
    summary["tasks"]["asked"]["unknown_tag"] = {"tag": "xyz", "items": 30}
    path.write_text(json.dumps(summary))
    _, comparison = build(tmp_path, folders)
    assert "30 of 40 answers of base to asked begin with <xyz>…</xyz>" in comparison["verdict"]


# --- many runs, slices, the browser ---------------------------------------------------------------------------------


def test_runs_whose_answers_never_began_are_not_told_apart(tmp_path: Path) -> None:
    runs = [make_run_folder(tmp_path, name, seed) for name, seed in (("a", 5), ("b", 6))]
    samples = rows(evaluation_of(runs[0]))
    for sample in samples:
        if sample["task"] == "tool_calls_golden":
            sample |= {"answer": "", "finish_reason": "length", "scores": dict.fromkeys(sample["scores"], 0)}
    rewrite(evaluation_of(runs[0]), samples)
    result = compare_runs(runs, tmp_path / "out")
    assert result["tasks"]["tool_calls_golden"]["pairs"][0]["verdict"] == "no claim"
    assert "answers of a to tool_calls_golden never began" in result["verdict"]
    assert "tool_calls_golden by" not in result["verdict"]


def test_no_slice_is_compared_with_an_arm_that_never_began(tmp_path: Path) -> None:
    arms = {"base": "r" * 100 + "s" * 100, "tuned": "r" * 200}
    evaluations = answered(tmp_path / "e", arms)
    for folder in evaluations.values():
        rewrite(folder, [sample | {"tags": ["even"] * (int(sample["id"]) % 2)} for sample in rows(folder)])
    _, comparison = build(tmp_path, evaluations)
    assert comparison["slices"] == []


def test_the_browser_shows_the_answer_and_its_thinking_apart(tmp_path: Path) -> None:
    evaluations = answered(tmp_path / "e", {"base": "r" * 10, "tuned": "r" * 9 + "s"})
    samples = rows(evaluations["base"])
    samples[0] |= {"output": "<think>Is it dark?</think>\n\non", "thinking": "Is it dark?"}
    rewrite(evaluations["base"], samples)
    out, _ = build(tmp_path, evaluations)
    page = (out / "report.html").read_text()
    start = page.index('type="application/json"')
    content = json.loads(page[page.index(">", start) + 1 : page.index("</script>", start)])
    first, last = content["items"][0]["answers"], content["items"][9]["answers"]
    assert (first[0]["output"], first[0]["thinking"]) == ("on", "Is it dark?")
    assert "thinking" not in first[1]
    assert (last[1]["output"], last[1]["thinking"]) == ("", "let me see")
