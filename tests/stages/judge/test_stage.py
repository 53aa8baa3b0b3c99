"""The judge stage, whole: examined, then asked about every answer; what is written, and what it does not ask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.endpoint import answer
from tests.stages.judge.bench import (
    Parts,
    StubJudge,
    config,
    fair,
    likes_the_first,
    parts,
    quality,
    read_lines,
    write_lines,
)
from tunelift.config.evaluation import EndpointConfig
from tunelift.errors import MachineError, UserError
from tunelift.stages import judge as stage
from tunelift.tasks.judgements import count_wins
from tunelift.tasks.task import Item, Task

QUALITIES = {"tuned": [5, 4, 3, 5, 2, 4], "base": [2, 4, 5, 3, 2, 1]}
"""Of each arm's answers."""


def task(name: str = "chat", count: int = 6, **changes: Any) -> Task:
    items = tuple(
        Item(
            id=f"i{n}",
            prompt=({"role": "user", "content": f"question {n}"},),
            instructed=(),
            accepted=(f"right answer {n}",),
            question="",
        )
        for n in range(count)
    )
    made = Task(
        name=name,
        version=1,
        role="target",
        description="",
        licence="",
        items=items,
        scorers=(),
        primary="",
        max_tokens=9,
    )
    return replace(made, **changes)


def sample(arm: str, number: int, output: str, error: str | None = None, task: str = "chat") -> dict[str, Any]:
    return {
        "task": task,
        "id": f"i{number}",
        "arm": arm,
        "prompt": [],
        "expected": [],
        "output": output,
        "error": error,
    }


def evaluation(
    out: Path, arm: str, qualities: list[int] | None = None, changes: dict[int, Any] | None = None, task: str = "chat"
) -> Path:
    rows = [
        sample(arm, n, f"words of {n % 2}{'x' * (7 * n + len(arm))}, quality {q}", task=task)
        for n, q in enumerate(qualities or QUALITIES[arm])
    ]
    for number, change in (changes or {}).items():
        rows[number] |= change
    folder = out / f"evaluation-{arm}"
    write_lines(folder / "samples.jsonl", rows)
    return folder


def run(bench: StubJudge, out: Path, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """(details, judgements, judge.json)"""
    evaluations = changes.pop("evaluations", None) or {arm: evaluation(out, arm) for arm in QUALITIES}
    arguments = {"tasks": changes.pop("tasks", [task()]), "focus": changes.pop("focus", "tuned"), "seed": 1}
    (out / "made").mkdir(exist_ok=True)
    details = stage.judge(
        config(out / "labelled.jsonl", **changes),
        evaluations=evaluations,
        endpoint=bench,
        out=out / "made",
        **arguments,
    )
    return details, read_lines(out / "made/judgements.jsonl"), json.loads((out / "made/judge.json").read_text())


@pytest.mark.usefixtures("labelled")
def test_each_answer_gets_its_mark_and_each_pair_its_winner(bench: StubJudge, tmp_path: Path) -> None:
    details, judgements, summary = run(bench, tmp_path)
    marks = [one for one in judgements if one["mode"] == "absolute"]
    assert {(one["arm"], one["id"]): one["score"] for one in marks} == {
        (arm, f"i{n}"): mark for arm, of_arm in QUALITIES.items() for n, mark in enumerate(of_arm)
    }
    assert marks[0] == {
        "mode": "absolute",
        "task": "chat",
        "id": "i0",
        "arm": "tuned",
        "score": 5,
        "reason": "because 5",
        "decided_by": "judge",
        "error": None,
    }
    pairs = [one for one in judgements if one["mode"] == "pairwise"]
    assert [one["winner"] for one in pairs] == ["a", "tie", "b", "a", "tie", "a"]
    assert pairs[2] == {
        "mode": "pairwise",
        "task": "chat",
        "id": "i2",
        "a": "tuned",
        "b": "base",
        "orders": [
            {"first": "tuned", "winner": "b", "reason": "because second"},
            {"first": "base", "winner": "b", "reason": "because first"},
        ],
        "winner": "b",
        "decided_by": "judge",
        "error": None,
    }
    assert summary["flip_rate"]["value"] == 0.0 and summary["flip_rate"]["n"] == 6
    assert set(summary["length_bias"]) == {"longer_wins", "mark_correlation"}
    assert (summary["model"], summary["scale"], summary["missing"]) == ("stub-judge", 5, 0)
    assert summary["calibration"]["pairwise"]["agreement"]["value"] == 1.0
    # 24 marks and 24 pairs of the examination, 12 answers, 6 pairs; a pair is two requests.
    assert summary["tokens_in"] == 7 * (24 + 48 + 12 + 12) == 7 * len(bench.asked)
    assert (summary["usd"], details["missing"], details["judgements"]) == (None, 0, 18)


@pytest.mark.usefixtures("labelled")
def test_the_judge_sees_request_and_reference_and_no_arms_name(bench: StubJudge, tmp_path: Path) -> None:
    run(bench, tmp_path, modes=("pairwise",))
    seen = parts(bench.asked[-2])
    assert seen["REQUEST"].startswith("question ")
    assert seen["REFERENCE ANSWER"] == f"right answer {seen['REQUEST'].split()[-1]}"
    for body in bench.asked:
        assert "tuned" not in json.dumps(body["messages"]) and "base" not in json.dumps(body["messages"])


@pytest.mark.usefixtures("labelled")
def test_a_judge_with_no_eye_for_anything_but_the_place_decides_nothing(bench: StubJudge, tmp_path: Path) -> None:
    bench.opinion = lambda material: fair(material) if "ask" in material["REQUEST"] else likes_the_first(material)
    _, judgements, summary = run(bench, tmp_path, modes=("pairwise",))
    assert {one["winner"] for one in judgements} == {"tie"}
    assert summary["flip_rate"]["value"] == 1.0
    pair = count_wins([one["winner"] for one in judgements]).pair
    assert (pair.difference, pair.p) == (0.0, 1.0)


@pytest.mark.usefixtures("labelled")
def test_a_taste_for_length_shows_in_both_modes(bench: StubJudge, tmp_path: Path) -> None:
    def long_is_good(material: Parts) -> Any:
        if "ask" in material["REQUEST"]:
            return fair(material)
        if "ANSWER" in material:
            return 1 + min(4, len(material["ANSWER"]) // 40)
        return "first" if len(material["FIRST ANSWER"]) > len(material["SECOND ANSWER"]) else "second"

    bench.opinion = long_is_good
    longer = {n: {"output": f"words of {n % 2}{'x' * (7 * n + 9)}, quality 3"} for n in range(0, 20, 2)}
    evaluations = {
        arm: evaluation(tmp_path, arm, [3] * 20, changes=longer if arm == "base" else None) for arm in QUALITIES
    }
    _, _, summary = run(bench, tmp_path, tasks=[task(count=20)], evaluations=evaluations)
    bias = summary["length_bias"]
    assert (bias["longer_wins"]["value"], bias["longer_wins"]["n"]) == (1.0, 20)
    assert bias["mark_correlation"]["value"] > 0.9 and bias["mark_correlation"]["n"] == 40


@pytest.mark.usefixtures("labelled")
def test_a_better_arm_with_longer_answers_is_no_taste_for_length(bench: StubJudge, tmp_path: Path) -> None:
    """By arms pooled, marks and lengths would correlate by 0.8, and the longer answer would always win."""
    qualities = {"tuned": [4, 5, 5, 4] * 5, "base": [2, 1, 1, 2] * 5}
    lengths = {"tuned": [60, 61, 80, 81, 70] * 4, "base": [10, 11, 30, 31, 20] * 4}
    evaluations = {}
    for arm, marks in qualities.items():
        texts = [
            f"{'x' * length} {n:02d}, quality {q}"
            for n, (length, q) in enumerate(zip(lengths[arm], marks, strict=True))
        ]
        evaluations[arm] = evaluation(tmp_path, arm, marks, {n: {"output": text} for n, text in enumerate(texts)})
    _, judgements, summary = run(bench, tmp_path, tasks=[task(count=20)], evaluations=evaluations)
    assert {one["winner"] for one in judgements if one["mode"] == "pairwise"} == {"a"}
    bias = summary["length_bias"]
    assert bias["longer_wins"] == {"value": None, "low": 0.0, "high": 1.0, "n": 0}, "one arm is always the longer"
    assert bias["mark_correlation"]["n"] == 40
    assert bias["mark_correlation"]["low"] < 0 < bias["mark_correlation"]["high"]


@pytest.mark.usefixtures("labelled")
def test_an_arm_that_gave_no_answer_loses_and_the_judge_is_not_asked(
    bench: StubJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"output": "", "error": "HTTP 400: too long"}
    evaluations = {
        "tuned": evaluation(tmp_path, "tuned", changes={0: failed, 2: failed}),
        "base": evaluation(tmp_path, "base", changes={1: failed, 2: failed}),
    }
    _, judgements, summary = run(bench, tmp_path, evaluations=evaluations)
    pairs = [one for one in judgements if one["mode"] == "pairwise"]
    assert [(one["winner"], one["decided_by"]) for one in pairs[:4]] == [
        ("b", "no answer"),
        ("a", "no answer"),
        ("tie", "no answer"),
        ("a", "judge"),
    ]
    assert pairs[0]["orders"] == []
    marks = {(one["arm"], one["id"]): one for one in judgements if one["mode"] == "absolute"}
    assert marks["tuned", "i0"]["score"] == marks["base", "i2"]["score"] == 1
    assert marks["tuned", "i0"]["decided_by"] == "no answer"
    assert summary["flip_rate"]["n"] == 3, "nothing to flip where nothing was asked"
    assert (summary["missing"], len(bench.asked)) == (0, 24 + 48 + 8 + 6)
    assert "7 judgements were decided without the judge" in capsys.readouterr().err


@pytest.mark.usefixtures("labelled")
def test_equal_answers_tie_unasked(bench: StubJudge, tmp_path: Path) -> None:
    same = {"output": "the very same"}
    evaluations = {arm: evaluation(tmp_path, arm, changes={3: same}) for arm in QUALITIES}
    _, judgements, _ = run(bench, tmp_path, evaluations=evaluations, modes=("pairwise",))
    assert {**judgements[3], "id": 0} == {
        "mode": "pairwise",
        "task": "chat",
        "id": 0,
        "a": "tuned",
        "b": "base",
        "orders": [],
        "winner": "tie",
        "decided_by": "equal answers",
        "error": None,
    }
    assert not any("the very same" in str(body) for body in bench.asked)


@pytest.mark.usefixtures("labelled")
def test_a_verdict_that_cannot_be_read_is_missing_and_no_loss(
    bench: StubJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        material = parts(body)
        hidden = material["REQUEST"] == "question 0" and quality(material.get("FIRST ANSWER", "quality 5")) == 5
        return (200, answer("Both have merit.")) if hidden else bench.give_opinion(body, number)

    bench.respond = respond
    _, judgements, summary = run(bench, tmp_path)
    pair = next(one for one in judgements if one["mode"] == "pairwise")
    assert pair["winner"] is None
    assert [one["winner"] for one in pair["orders"]] == [None, "a"]
    assert "Both have merit." in pair["error"]
    marks = [one["score"] for one in judgements if one["mode"] == "absolute" and one["id"] == "i0"]
    assert marks == [None, None]
    assert summary["missing"] == 3
    assert summary["flip_rate"]["n"] == 5
    assert "no verdict on 3 of 18; they are left out, not lost" in capsys.readouterr().err


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize("mode", ["absolute", "pairwise"])
def test_judgements_that_failed_through_no_fault_of_their_own_are_asked_again_and_not_missing(
    bench: StubJudge, tmp_path: Path, mode: str
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if "question 3" in str(body):
            return 429, {"error": {"code": "insufficient_quota"}}
        return bench.give_opinion(body, number)

    bench.respond = respond
    with pytest.raises(MachineError, match=r"2 of 1\d requests for .* to be judged got no reply; .*insufficient_quota"):
        run(bench, tmp_path, modes=(mode,))
    assert not (tmp_path / "made/judgements.jsonl").exists()
    asked, bench.respond = len(bench.asked), bench.give_opinion
    assert run(bench, tmp_path, modes=(mode,))[2]["missing"] == 0
    assert len(bench.asked) == asked + 2


@pytest.mark.usefixtures("labelled")
def test_tokens_become_money_when_both_prices_are_known(bench: StubJudge, tmp_path: Path) -> None:
    def priced(**prices: float) -> EndpointConfig:
        return EndpointConfig(url="http://127.0.0.1:1/v1", model="m", **prices)  # type: ignore[arg-type]

    both = priced(usd_per_million_input=2.0, usd_per_million_output=10.0)
    _, _, summary = run(bench, tmp_path, endpoint=both)
    requests = len(bench.asked)
    assert summary["usd"] == pytest.approx(requests * (7 * 2 + 2 * 10) / 1e6)
    assert run(bench, tmp_path, endpoint=priced(usd_per_million_input=2.0))[2]["usd"] is None
    assert len(bench.asked) == requests, "a price is no reason to judge again"


@pytest.mark.usefixtures("labelled")
def test_a_killed_run_asks_for_what_is_missing_only(bench: StubJudge, tmp_path: Path) -> None:
    whole = run(bench, tmp_path)[1]
    asked = len(bench.asked)
    lines = (tmp_path / "made/replies.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "made/replies.jsonl").write_text("".join(lines[:-5]))
    assert run(bench, tmp_path)[1] == whole
    assert len(bench.asked) == asked + 5
    starts = bench.starts
    assert run(bench, tmp_path)[1] == whole
    assert (len(bench.asked), bench.starts) == (asked + 5, starts), "everything is there"


@pytest.mark.usefixtures("labelled")
def test_a_judge_that_fails_its_examination_judges_nothing(bench: StubJudge, tmp_path: Path) -> None:
    bench.opinion = likes_the_first
    with pytest.raises(UserError, match="did not pass its calibration"):
        run(bench, tmp_path)
    assert not (tmp_path / "made/judgements.jsonl").exists()
    assert not (tmp_path / "made/judge.json").exists()
    assert not any("question" in str(body["messages"][1]) for body in bench.asked)


@pytest.mark.usefixtures("labelled")
def test_only_target_tasks_that_generate_are_judged_unless_named(bench: StubJudge, tmp_path: Path) -> None:
    tasks = [task(), task("kept", role="guard"), task("choices", kind="choice")]
    evaluations = {}
    for arm in QUALITIES:
        folder = evaluation(tmp_path, arm)
        rows = read_lines(folder / "samples.jsonl")
        # The rival was not asked the guard: it has a prompt of its own.
        rows += [{**row, "task": "choices"} for row in rows]
        rows += [{**row, "task": "kept"} for row in rows[:6]] if arm == "tuned" else []
        write_lines(folder / "samples.jsonl", rows)
        evaluations[arm] = folder
    assert {one["task"] for one in judged(bench, tmp_path, tasks, evaluations, ())} == {"chat"}
    with pytest.raises(UserError, match="'choices', which is no task of this run that generates") as caught:
        judged(bench, tmp_path, tasks, evaluations, ("choices",))
    assert "chat, kept" in caught.value.remedy
    named = judged(bench, tmp_path, tasks, evaluations, ("kept",))
    assert {(one["mode"], one.get("arm")) for one in named} == {("absolute", "tuned")}, "no loss for who was not asked"
    with pytest.raises(UserError, match="none of the role `target`"):
        judged(bench, tmp_path, tasks[1:], evaluations, ())


def judged(
    bench: StubJudge, out: Path, tasks: list[Task], evaluations: dict[str, Path], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    (out / "made").mkdir(exist_ok=True)
    settings = config(out / "labelled.jsonl", tasks=names)
    stage.judge(settings, evaluations=evaluations, tasks=tasks, focus="tuned", endpoint=bench, seed=1, out=out / "made")
    return read_lines(out / "made/judgements.jsonl")


@pytest.mark.usefixtures("labelled")
def test_one_arm_alone_can_be_marked_but_not_paired(bench: StubJudge, tmp_path: Path) -> None:
    alone = {"tuned": evaluation(tmp_path, "tuned")}
    with pytest.raises(UserError, match="tuned is the only arm"):
        run(bench, tmp_path, evaluations=alone)
    _, judgements, summary = run(bench, tmp_path, evaluations=alone, modes=("absolute",))
    assert len(judgements) == 6
    assert summary["flip_rate"] is None


@pytest.mark.usefixtures("labelled")
def test_what_was_decided_is_the_content_and_not_how_it_was_worded(bench: StubJudge, tmp_path: Path) -> None:
    first, _, _ = run(bench, tmp_path)
    (tmp_path / "made/replies.jsonl").unlink()

    def reworded(body: dict[str, Any], number: int) -> tuple[int, Any]:
        status, content = bench.give_opinion(body, number)
        return status, answer(content["choices"][0]["message"]["content"].replace("because", "for"))

    bench.respond = reworded
    second, judgements, _ = run(bench, tmp_path)
    assert judgements[0]["reason"] == "for 5"
    assert second["content"] == first["content"]
    (tmp_path / "made/replies.jsonl").unlink()
    bench.respond = bench.give_opinion
    third, _, _ = run(bench, tmp_path, evaluations={a: evaluation(tmp_path, a, [5, 2, 3, 1, 1, 1]) for a in QUALITIES})
    assert third["content"] != first["content"]


@pytest.mark.usefixtures("labelled")
def test_tokens_that_the_endpoint_does_not_tell_cost_nobody_knows_what(bench: StubJudge, tmp_path: Path) -> None:
    bench.respond = lambda body, number: (200, bench.give_opinion(body, number)[1] | {"usage": None})
    prices = {"usd_per_million_input": 2.0, "usd_per_million_output": 10.0}
    priced = EndpointConfig(url="http://127.0.0.1:1/v1", model="m", **prices)  # type: ignore[arg-type]
    _, _, summary = run(bench, tmp_path, endpoint=priced)
    assert [summary[key] for key in ("tokens_in", "tokens_out", "usd")] == [None] * 3


@pytest.mark.usefixtures("labelled")
def test_what_cannot_be_judged_is_told_without_an_answer(tmp_path: Path) -> None:
    items, tasks = tmp_path / "labelled.jsonl", [task()]
    stage.check(config(items), tasks, ["tuned", "base"])
    stage.check(config(items, modes=("absolute",)), tasks, ["tuned"])
    with pytest.raises(UserError, match="pairs, but tuned is the only arm"):
        stage.check(config(items), tasks, ["tuned"])
    with pytest.raises(UserError, match="'chta', which is no task"):
        stage.check(config(items, tasks=("chta",)), tasks, ["tuned", "base"])
    with pytest.raises(UserError, match="missing"):
        stage.check(config(tmp_path / "labeled.jsonl"), tasks, ["tuned", "base"])
    write_lines(items, read_lines(items)[:9])
    with pytest.raises(UserError, match="at least 10 of either"):
        stage.check(config(items), tasks, ["tuned", "base"])
    items.write_text('{"id": "a", "request": "r", "output": "o", "good": "yes"}\n')
    with pytest.raises(UserError, match=r"good='yes'"):
        stage.check(config(items), tasks, ["tuned", "base"])


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize("kept", [True, False])
def test_the_judge_sees_the_answer_without_its_thinking(bench: StubJudge, tmp_path: Path, kept: bool) -> None:
    """`answer` is what was scored; a sample without it, made before, is parted here."""
    thought = {"output": "<think>my quality 5 is the best</think>\n\nplain, quality 2"}
    changes = {0: thought | ({"answer": "plain, quality 2"} if kept else {})}
    evaluations = {"tuned": evaluation(tmp_path, "tuned", changes=changes), "base": evaluation(tmp_path, "base")}
    _, judgements, _ = run(bench, tmp_path, evaluations=evaluations)
    assert judgements[0]["score"] == 2
    assert not any("my quality 5 is the best" in str(body) for body in bench.asked)


@pytest.mark.usefixtures("labelled")
def test_what_the_judge_withholds_is_missing_and_asked_once(bench: StubJudge, tmp_path: Path) -> None:
    """In the examination it counts as no verdict, later it is left out."""
    withheld = {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}

    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        material = str(parts(body))
        return (200, withheld) if "question 1" in material or "ask 3" in material else bench.give_opinion(body, number)

    bench.respond = respond
    _, judgements, summary = run(bench, tmp_path, modes=("absolute",))
    of_item = [one for one in judgements if one["id"] == "i1"]
    assert [one["score"] for one in of_item] == [None, None]
    assert all("withheld (finish_reason content_filter)" in one["error"] for one in of_item)
    assert summary["missing"] == 2 and summary["calibration"]["absolute"]["missing"] == 2
    assert set(bench.stub.tries.values()) == {1}, "no second try"
    asked = len(bench.asked)
    run(bench, tmp_path, modes=("absolute",))
    assert len(bench.asked) == asked, "nor by the next run"
