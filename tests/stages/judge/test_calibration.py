"""The judge's examination: who passes, who is refused, and with which figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.endpoint import answer
from tests.stages.judge.bench import (
    Parts,
    StubJudge,
    answers,
    config,
    fair,
    likes_the_first,
    pairs,
    parts,
    quality,
    read_lines,
    write_lines,
)
from tunelift.config.evaluation import CalibrationConfig, JudgeConfig
from tunelift.errors import MachineError, UserError
from tunelift.stages.judge.asking import Judge
from tunelift.stages.judge.calibration import calibrate, check_labels
from tunelift.stages.judge.labels import read_labels
from tunelift.tasks.statistics import wilson


def examine(bench: StubJudge, out: Path, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    items = write_lines(out / "labelled.jsonl", rows)
    settings: JudgeConfig = config(items, **changes)
    labels = read_labels(items)
    check_labels(settings, labels)
    return calibrate(settings, Judge(settings, bench, 1, out / "replies.jsonl"), labels, 1, out)


def test_a_judge_that_is_right_passes_with_its_figures(bench: StubJudge, tmp_path: Path) -> None:
    figures = examine(bench, tmp_path, answers(12, 14) + pairs(11, 10))
    marks, choices = figures["absolute"], figures["pairwise"]
    low, high = wilson(12, 12)
    assert marks["sensitivity"] == {"value": 1.0, "low": low, "high": high, "n": 12}
    assert (marks["specificity"]["n"], marks["agreement"]["n"], marks["n"], marks["missing"]) == (14, 26, 26, 0)
    assert marks["kappa"]["value"] == 1.0
    assert marks["kappa"]["low"] < 0.9, "26 items do not prove perfection"
    assert (choices["sensitivity"]["n"], choices["specificity"]["n"]) == (11, 10)
    assert choices["flip_rate"]["value"] == 0.0
    lines = read_lines(tmp_path / "calibration.jsonl")
    assert len(lines) == 26 + 21
    assert lines[0] == {
        "mode": "absolute",
        "id": "good0",
        "arm": None,
        "label": "good",
        "verdict": "good",
        "score": 5,
        "reason": "because 5",
        "error": None,
    }
    assert {**lines[26], "reasons": 0} == {
        "mode": "pairwise",
        "id": "p0",
        "label": "b",
        "verdict": "b",
        "orders": ["b", "b"],
        "reasons": 0,
        "error": None,
    }


def test_a_judge_that_praises_everything_is_refused_with_the_figures_and_a_way_out(
    bench: StubJudge, tmp_path: Path
) -> None:
    bench.opinion = lambda material: 5
    with pytest.raises(UserError) as caught:
        examine(bench, tmp_path, answers(12, 14), modes=("absolute",))
    error = caught.value
    assert error.message == (
        "The judge stub-judge did not pass its calibration, and nothing was judged: absolute specificity 0.00 "
        "(0.00 to 0.22, 0 of 14 bad answers rejected) is below 0.8."
    )
    assert error.where == str(tmp_path / "labelled.jsonl")
    assert str(tmp_path / "calibration.jsonl") in error.remedy
    assert "judge.endpoint" in error.remedy and "judge.rubric" in error.remedy
    assert error.exit_code == 2
    assert [line["verdict"] for line in read_lines(tmp_path / "calibration.jsonl")] == ["good"] * 26


def test_a_judge_that_goes_by_the_place_is_refused(bench: StubJudge, tmp_path: Path) -> None:
    bench.opinion = likes_the_first
    with pytest.raises(UserError, match=r"pairwise sensitivity 0\.00 \(.*0 of 12 better answers picked in both orders"):
        examine(bench, tmp_path, pairs(), modes=("pairwise",))
    # Its flips make ties of the ties; that alone does not pass.
    assert {line["verdict"] for line in read_lines(tmp_path / "calibration.jsonl")} == {"tie"}


def test_a_judge_that_never_says_tie_but_is_steady_fails_on_the_ties(bench: StubJudge, tmp_path: Path) -> None:
    def decided(material: Parts) -> Any:
        verdict = fair(material)
        return (
            "first"
            if verdict == "tie" and "x" in material["FIRST ANSWER"]
            else "second"
            if verdict == "tie"
            else verdict
        )

    bench.opinion = decided
    with pytest.raises(
        UserError, match=r"pairwise specificity 0\.00 .*0 of 12 ties called a tie\) is below 0\.8"
    ) as caught:
        examine(bench, tmp_path, pairs(), modes=("pairwise",))
    assert "sensitivity" not in caught.value.message


def test_thresholds_are_the_configs(bench: StubJudge, tmp_path: Path) -> None:
    bench.opinion = lambda material: 5 if quality(material["ANSWER"]) > 3 and "good 0" not in material["ANSWER"] else 1
    rows = answers(10, 10)
    assert examine(bench, tmp_path, rows, modes=("absolute",))["absolute"]["sensitivity"]["value"] == 0.9
    strict = CalibrationConfig(items=str(tmp_path / "labelled.jsonl"), min_sensitivity=0.95)
    with pytest.raises(UserError, match=r"sensitivity 0\.90 .* is below 0\.95"):
        examine(bench, tmp_path, rows, modes=("absolute",), calibration=strict)


def test_the_mark_from_which_an_answer_is_accepted_decides(bench: StubJudge, tmp_path: Path) -> None:
    bench.opinion = lambda material: 3 if quality(material["ANSWER"]) > 3 else 2
    with pytest.raises(UserError, match=r"sensitivity 0\.00"):
        examine(bench, tmp_path, answers(), modes=("absolute",))
    figures = examine(bench, tmp_path, answers(), modes=("absolute",), accept_from=3)
    assert figures["absolute"]["agreement"]["value"] == 1.0


def test_a_judge_that_is_unfair_to_one_arm_is_refused_for_that_arm(bench: StubJudge, tmp_path: Path) -> None:
    rows = answers(40, 40, arm="base")
    rows += [
        {**row, "id": f"tuned-{row['id']}", "output": f"tuned {row['output']}"} for row in answers(10, 10, arm="tuned")
    ]
    rows += [{**row, "id": f"few-{row['id']}", "output": f"few {row['output']}"} for row in answers(2, 9, arm="few")]
    bench.opinion = lambda material: 5 if re_starts(material, ("tuned", "few")) else fair(material)
    with pytest.raises(UserError) as caught:
        examine(
            bench, tmp_path, rows, modes=("absolute",), calibration=CalibrationConfig(items="x", min_specificity=0.6)
        )
    assert "absolute specificity on tuned 0.00 (0.00 to 0.28, 0 of 10" in caught.value.message
    assert "on base" not in caught.value.message
    assert "on few" not in caught.value.message, "nine items are too few to fail on"
    assert "specificity 0.68" not in caught.value.message, "40 of 59 in all are above 0.6"


def re_starts(material: Parts, words: tuple[str, ...]) -> bool:
    return material["ANSWER"].startswith(words)


def test_figures_of_each_arm_are_shown(bench: StubJudge, tmp_path: Path) -> None:
    rows = answers(12, 12, arm="base") + [{**row, "id": f"t{row['id']}"} for row in answers(3, 4, arm="tuned")]
    by_arm = examine(bench, tmp_path, rows, modes=("absolute",))["absolute"]["by_arm"]
    assert {
        arm: (found["n"], found["sensitivity"]["n"], found["agreement"]["value"]) for arm, found in by_arm.items()
    } == {
        "base": (24, 12, 1.0),
        "tuned": (7, 3, 1.0),
    }


def test_the_judge_does_not_see_whose_answer_it_is(bench: StubJudge, tmp_path: Path) -> None:
    examine(bench, tmp_path, answers(arm="secret-arm"), modes=("absolute",))
    assert len(bench.asked) == 24
    assert not any("secret-arm" in str(body) for body in bench.asked)


def test_replies_that_are_no_verdict_count_against_the_judge_and_are_named(bench: StubJudge, tmp_path: Path) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if quality(parts(body)["ANSWER"]) > 3:
            return 200, answer("A lovely answer.")
        return bench.give_opinion(body, number)

    bench.respond = respond
    with pytest.raises(UserError, match=r"sensitivity 0\.00 .*no verdict could be read .* to 12 of 24") as caught:
        examine(bench, tmp_path, answers(), modes=("absolute",))
    assert "The first reply without a verdict: the reply is no JSON" in caught.value.message
    assert '"A lovely answer."' in caught.value.message, "one reply is shown"
    assert "take a judge that keeps to it" in caught.value.remedy
    assert "A lovely answer." in read_lines(tmp_path / "calibration.jsonl")[0]["error"]


def test_labelled_answers_are_shown_without_their_thinking(bench: StubJudge, tmp_path: Path) -> None:
    """As the answers that are judged."""
    rows = [row | {"output": f"<think>quality 1, quality 5</think>\n\n{row['output']}"} for row in answers()]
    assert examine(bench, tmp_path, rows, modes=("absolute",))["absolute"]["agreement"]["value"] == 1.0
    rows = [row | {side: f"<think>quality 3</think>{row[side]}" for side in "ab"} for row in pairs()]
    assert examine(bench, tmp_path, rows, modes=("pairwise",))["pairwise"]["agreement"]["value"] == 1.0


def test_a_refused_judge_is_examined_anew_by_the_next_run(bench: StubJudge, tmp_path: Path) -> None:
    bench.opinion = lambda material: 5
    with pytest.raises(UserError):
        examine(bench, tmp_path, answers(), modes=("absolute",))
    bench.opinion = fair
    assert examine(bench, tmp_path, answers(), modes=("absolute",))["absolute"]["agreement"]["value"] == 1.0


def test_an_examination_without_replies_is_no_examination(bench: StubJudge, tmp_path: Path) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return (503, "busy") if "good 3" in str(body) else bench.give_opinion(body, number)

    bench.respond = respond
    with pytest.raises(MachineError, match=r"1 of 24 requests for calibration items got no reply; the first: HTTP 503"):
        examine(bench, tmp_path, answers(), modes=("absolute",))
    asked, bench.respond = len(bench.asked), bench.give_opinion
    examine(bench, tmp_path, answers(), modes=("absolute",))
    assert len(bench.asked) == asked + 1, "the 23 others are kept"


@pytest.mark.parametrize(
    ("rows", "mode", "message"),
    [
        (answers(9, 30), "absolute", "9 answers labelled good and 30 labelled bad; it takes at least 10 of either"),
        (answers(30, 0), "absolute", "30 answers labelled good and 0 labelled bad"),
        (pairs(30, 9), "pairwise", "30 pairs labelled a or b and 9 labelled tie"),
        (answers(), "pairwise", "0 pairs labelled a or b and 0 labelled tie"),
        ([], "absolute", "0 answers labelled good and 0 labelled bad"),
    ],
)
def test_too_few_labels_are_refused_with_their_number_before_anything_is_asked(
    tmp_path: Path, rows: list[dict[str, Any]], mode: str, message: str
) -> None:
    items = write_lines(tmp_path / "l.jsonl", rows)
    with pytest.raises(UserError, match=message) as caught:
        check_labels(config(items, modes=(mode,)), read_labels(items))
    assert caught.value.where == str(items)


def test_items_of_a_mode_that_is_not_judged_are_not_asked(bench: StubJudge, tmp_path: Path) -> None:
    figures = examine(bench, tmp_path, answers(1, 0) + pairs(10, 10), modes=("pairwise",))
    assert list(figures) == ["pairwise"]
    assert len(bench.asked) == 40
