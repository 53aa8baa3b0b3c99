"""The gate: claims that no evidence could support are refused beforehand, the others are held to the evidence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stages.report_fixture import build, make_evaluations, make_whole_run, measured
from tunelift.config.evaluation import NOISE_ARM, EvaluateConfig, GateConfig, SplitTaskConfig
from tunelift.errors import UserError
from tunelift.stages.report import check_declared
from tunelift.tasks.task import Task, task_from_split

ROWS = [
    {"id": str(number), "messages": [{"role": "user", "content": "on or off?"}, {"role": "assistant", "content": "on"}]}
    for number in range(3)
]
ARMS = EvaluateConfig(noise_floor=True).resolved_arms()


def target(split: str = "test") -> Task:
    return task_from_split(ROWS, SplitTaskConfig.model_validate({"from_split": split, "name": "asked"}))


def guard(margin: float | None = 0.02) -> Task:
    return replace(target(), name="general", role="guard", margin=margin)


def improved(**claim: Any) -> GateConfig:
    return GateConfig.model_validate({"improved": [{"task": "asked"} | claim]})


# --- before the run -------------------------------------------------------------------------------------------------


def test_what_can_be_shown_may_be_claimed():
    check_declared(None, [], ARMS)
    check_declared(improved(metric="exact_match", against="base", at_least=0.1), [target()], ARMS)
    check_declared(GateConfig(improved=("asked",), not_worse=("general",)), [target(), guard()], ARMS)


@pytest.mark.parametrize(
    ("gate", "message", "remedy"),
    [
        (improved(task="aksed"), "claims something of 'aksed', which is no task", "Did you mean 'asked'?"),
        (
            GateConfig(not_worse=("nothing",)),
            "gate.not_worse claims something of 'nothing'",
            "There is asked, general.",
        ),
        (improved(task="general"), "gate.improved claims general, which is a guard task", "gate.not_worse"),
        (GateConfig(not_worse=("asked",)), "gate.not_worse claims asked, which is a target task", "gate.improved"),
        (improved(metric="exact_mach"), "claims 'exact_mach' of asked, which has no such metric", "'exact_match'?"),
        (improved(against="promted"), "compares tuned with 'promted' on asked, which is no other arm", "'prompted'?"),
        (improved(against="tuned"), "compares tuned with 'tuned' on asked", "best_untuned"),
        (improved(against=NOISE_ARM), "compares tuned with 'base-again' on asked", "base"),
    ],
)
def test_a_claim_about_what_does_not_exist_is_refused(gate, message, remedy):
    with pytest.raises(UserError) as caught:
        check_declared(gate, [target(), guard()], ARMS)
    assert message in caught.value.message and remedy in caught.value.remedy


def test_a_guard_without_a_margin_guards_nothing():
    with pytest.raises(UserError, match="claims general, which has no margin"):
        check_declared(GateConfig(not_worse=("general",)), [guard(margin=None)], ARMS)


@pytest.mark.parametrize("arms", [("tuned", "prompted"), ("base", "prompted")])
def test_a_guard_that_only_one_side_is_asked_shows_nothing(arms):
    resolved = EvaluateConfig.model_validate({"arms": arms}).resolved_arms()
    with pytest.raises(UserError, match="is not asked guard tasks"):
        check_declared(GateConfig(not_worse=("general",)), [guard()], resolved)


def test_a_lone_arm_cannot_be_better():
    resolved = EvaluateConfig.model_validate({"arms": ["tuned"]}).resolved_arms()
    with pytest.raises(UserError, match="but tuned is the only arm"):
        check_declared(improved(), [target()], resolved)


def test_two_prompts_of_the_tuned_model_have_no_untuned_arm_to_beat():
    resolved = EvaluateConfig.model_validate({"arms": ["tuned", {"name": "long", "model": "tuned"}]}).resolved_arms()
    with pytest.raises(UserError, match="against the best untuned arm, but all arms ask the tuned model"):
        check_declared(improved(), [target()], resolved)
    with pytest.raises(UserError, match="tuned and an untuned arm must both be asked it"):
        check_declared(GateConfig(not_worse=("general",)), [guard()], resolved)
    check_declared(improved(against="long"), [target()], resolved)


# --- after it -------------------------------------------------------------------------------------------------------


def test_claims_that_hold_pass_the_gate(tmp_path):
    gate = GateConfig.model_validate(
        {"improved": ["tool_calls_golden", {"task": "tool_calls_heldout", "metric": "field_f1", "at_least": 0.2}]}
    )
    out, comparison = build(tmp_path, make_evaluations(tmp_path / "e"), gate=gate)
    found = comparison["gate"]
    assert (found["declared"], found["passed"], found["reasons"]) == (True, True, [])
    assert [claim["text"] for claim in found["claims"]] == [
        "tuned is better than the best arm on the base model on tool_calls_golden (Exact match)",
        "tuned is better than the best arm on the base model on tool_calls_heldout (Field F1) by more than 20 points",
    ]
    assert all(claim["held"] for claim in found["claims"])
    text = (out / "gate.md").read_text()
    assert text.startswith("### ✅ quickstart: all declared claims hold\n")
    assert text.count("| ✅ |") == 2 and "](report.html)" in text


def test_no_gain_fails_the_gate_with_the_reason(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=40)
    shutil.copy(evaluations["prompted"] / "samples.jsonl", evaluations["tuned"] / "samples.jsonl")
    out, comparison = build(tmp_path, evaluations, gate=GateConfig(improved=("tool_calls_golden",)))
    assert comparison["gate"]["passed"] is False
    (reason,) = comparison["gate"]["reasons"]
    text = "tuned is better than the best arm on the base model on tool_calls_golden (Exact match)"
    assert reason.startswith(
        f"Not held: {text}. Too few items to tell, no more and no less than prompted: 95% interval"
    )
    assert f"- ❌ {text}." in (out / "report.md").read_text()
    assert (out / "gate.md").read_text().startswith("### ❌ quickstart: the evidence does not support")


def test_at_least_is_held_to_the_intervals_lower_bound(tmp_path):
    evaluations = make_evaluations(tmp_path / "e")
    _, comparison = build(tmp_path / "first", evaluations)
    claim = comparison["verdicts"][0]
    assert claim["low"] < claim["difference"] - 0.02
    for at_least, held in ((claim["low"] - 0.01, True), (claim["low"] + 0.01, False)):
        gate = improved(task="tool_calls_heldout", at_least=at_least)
        _, found = build(tmp_path / str(held), evaluations, gate=gate)
        assert found["gate"]["passed"] is held


def test_a_claim_may_name_its_rival(tmp_path):
    gate = improved(task="tool_calls_golden", against="base")
    _, comparison = build(tmp_path, make_evaluations(tmp_path / "e"), gate=gate)
    (claim,) = comparison["gate"]["claims"]
    assert claim["held"] and claim["text"] == "tuned is better than base on tool_calls_golden (Exact match)"
    assert "points more than base: 95% interval" in claim["reason"]


HALF = [1] * 100 + [None] * 100
"""Right wherever it answered, and every other item was refused."""


def test_a_rival_that_was_not_heard_is_not_beaten(tmp_path):
    arms = {"base": [0] * 200, "hosted": HALF, "tuned": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0] * 20}
    gate = improved(against="hosted")
    out, comparison = build(tmp_path, measured(tmp_path / "e", arms), gate=gate)
    (claim,) = comparison["gate"]["claims"]
    assert not claim["held"] and comparison["gate"]["passed"] is False
    told = "hosted has no answer to 100 of 200 items of asked; the interval holds even had it got them all right."
    assert "40.0 points more than hosted: 95% interval −14.9 to 47.9" in claim["reason"]
    assert told in claim["reason"]
    assert told in (out / "gate.md").read_text()
    assert "intervals against it hold even had it got them all right." in (out / "report.html").read_text()
    # It would be the best arm, had it been heard: so it is the one to beat, and the verdict says why it is not beaten.
    assert comparison["verdicts"][0]["best_untuned"] == "hosted"
    assert told in comparison["verdict"] and "a difference that is not shown to be real" in comparison["verdict"]


def test_a_claim_holds_where_it_would_even_if_all_missing_answers_were_right(tmp_path):
    arms = {"base": [1] * 10 + [None] * 5 + [0] * 185, "tuned": [1] * 160 + [None] * 40}
    _, comparison = build(tmp_path, measured(tmp_path / "e", arms), gate=improved(at_least=0.6))
    (claim,) = comparison["gate"]["claims"]
    pair = comparison["tasks"]["asked"]["exact_match"]["pairs"][0]
    assert pair["difference"] == pytest.approx(0.75) and pair["low"] > 0.6 and claim["held"]
    assert "tuned has no answer to 40 of 200 items of asked, which count as failures;" in claim["reason"]
    assert "base has no answer to 5 of 200 items of asked;" in claim["reason"]


@pytest.mark.parametrize(("missing", "held"), [(0, True), (60, False)])
def test_a_guard_is_no_better_for_what_the_base_did_not_answer(tmp_path, missing, held):
    arms = {"base": [1] * 340 + [None] * missing + [0] * (60 - missing), "tuned": [1] * 340 + [0] * 60}
    evaluations = measured(tmp_path / "e", arms, role="guard", margin=0.05)
    _, comparison = build(tmp_path, evaluations, gate=GateConfig(not_worse=("asked",)))
    (claim,) = comparison["gate"]["claims"]
    assert claim["held"] is held
    told = "base has no answer to 60 of 400 items of asked"
    assert all((told in text) is not held for text in (claim["reason"], comparison["verdict"]))
    assert comparison["guards"][0]["verdict"] == ("non-inferior" if held else "inconclusive"), "nor is it harmed"


def decoded(evaluation: Path, **decoding: Any) -> None:
    """Write into an evaluation how it was decoded."""
    path = evaluation / "summary.json"
    summary = json.loads(path.read_text())
    summary["decoding"], summary["model"] = decoding, {"id": "m", "endpoint": "http://host/v1"}
    path.write_text(json.dumps(summary))


@pytest.mark.parametrize(
    ("role", "gate"), [("target", improved(against="hosted")), ("guard", GateConfig(not_worse=("asked",)))]
)
def test_no_claim_rests_on_answers_that_were_decoded_otherwise(tmp_path, role, gate):
    evaluations = measured(tmp_path / "e", {"hosted": [0] * 40, "tuned": [1] * 40}, role=role, margin=0.05)
    for name, left, held in (("seed", ["seed", "top_p"], True), ("temperature", ["seed", "temperature"], False)):
        decoded(evaluations["hosted"], left_to_the_endpoint=left)
        out, comparison = build(tmp_path / name, evaluations, weights={"hosted": "other", "tuned": "tuned"}, gate=gate)
        (claim,) = comparison["gate"]["claims"]
        assert comparison["gate"]["passed"] is claim["held"] is held
        told = "The decoding differs: hosted took no temperature and answered at the endpoint's default"
        texts = (claim["reason"], comparison["verdict"], (out / "gate.md").read_text())
        assert all((told in text) is not held for text in texts)
        page = (out / "report.html").read_text()
        assert f"<dt>Left to the endpoint</dt><dd>{', '.join(left)}</dd>" in page
        for text in (page, (out / "report.md").read_text()):
            assert ("(m at http://host/v1), not greedily" in text) is not held


def test_two_prompts_of_one_endpoint_are_decoded_alike_and_likelihoods_are_not_sampled(tmp_path):
    weights = {"hosted": "other", "mine": "other"}
    for kind, left in (("generate", ("hosted", "mine")), ("choice", ("hosted",))):
        evaluations = measured(tmp_path / kind, {"hosted": [0] * 40, "mine": [1] * 40}, kind_of_task=kind)
        for arm in left:
            decoded(evaluations[arm], left_to_the_endpoint=["temperature"])
        _, comparison = build(tmp_path / f"{kind}-report", evaluations, weights=weights, gate=improved())
        assert comparison["gate"]["passed"] and "decoding differs" not in comparison["verdict"]


def test_a_claimed_task_that_was_not_measured_does_not_hold(tmp_path):
    gate = GateConfig(improved=("elsewhere",), not_worse=("nowhere",))
    _, comparison = build(tmp_path, make_evaluations(tmp_path / "e", items=8), gate=gate)
    assert comparison["gate"]["passed"] is False
    assert [claim["reason"] for claim in comparison["gate"]["claims"]] == ["It was not measured."] * 2


def test_an_inconclusive_guard_is_no_pass(tmp_path):
    out, comparison = build(tmp_path, **make_whole_run(tmp_path / "whole", items=24))
    guards = {guard["task"]: guard["verdict"] for guard in comparison["guards"]}
    claims = {claim["text"]: claim["held"] for claim in comparison["gate"]["claims"]}
    assert guards["general_knowledge"] == "inconclusive"
    assert claims["tuned is no worse than base on general_knowledge, within 4 points"] is False
    assert comparison["gate"]["passed"] is False
    assert "| ❔ not shown |" in (out / "gate.md").read_text()


def test_without_declared_claims_nothing_fails(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=8)
    shutil.copy(evaluations["base"] / "samples.jsonl", evaluations["tuned"] / "samples.jsonl")
    out, comparison = build(tmp_path, evaluations)
    assert comparison["gate"] == {"declared": False, "passed": True, "reasons": [], "claims": []}
    assert (out / "gate.md").read_text().startswith("### ℹ️ quickstart: no claims are declared")


def test_the_comment_for_ci_holds_no_markup_of_a_models_making(tmp_path):
    out, comparison = build(tmp_path, **make_whole_run(tmp_path / "whole", items=24))
    comment = Path(out / "gate.md").read_text()
    assert "<script" not in comment and comparison["verdict"].split(" (")[0] in comment.replace("\\", "")


def test_the_comment_for_ci_says_how_often_tuned_models_were_measured_on_these_items(tmp_path):
    out, comparison = build(
        tmp_path, make_evaluations(tmp_path / "e", items=8), gate=improved(task="tool_calls_golden")
    )
    assert comparison["looks"] == {"tool_calls_heldout": 1, "tool_calls_golden": 3}
    told = "so far, this run included: tool_calls_heldout once, tool_calls_golden 3 times."
    assert told in (out / "gate.md").read_text()
    for page in ("report.html", "report.md"):
        assert "the items of tool_calls_golden 3 times so far, this run included." in (out / page).read_text()
    out, _ = build(tmp_path / "none", make_evaluations(tmp_path / "n", items=8), looks={})
    assert "measured on these items" not in (out / "gate.md").read_text()
