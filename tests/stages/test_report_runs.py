"""Runs are compared item by item on what they share, and what they do not share is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stages.browsing import LOW_CONTRAST, fits
from tests.stages.report_fixture import rewrite, rows
from tests.stages.run_folder import evaluation_of, make_run_folder
from tunelift.errors import UserError
from tunelift.stages.report.runs import compare_runs
from tunelift.tasks.statistics import compare, holm, wilson

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return lambda name, seed=5, **options: make_run_folder(tmp_path, name, seed, **options)


def scores_of(run: Path, task: str = "tool_calls_golden", metric: str = "exact_match") -> dict[str, float]:
    return {row["id"]: row["scores"][metric] for row in rows(evaluation_of(run)) if row["task"] == task}


def set_golden(run: Path, right: int) -> None:
    """Let the tuned arm be right on the first `right` golden items, and on no other."""
    samples = rows(evaluation_of(run))
    golden = [sample for sample in samples if sample["task"] == "tool_calls_golden"]
    for number, sample in enumerate(golden):
        sample["scores"] = dict.fromkeys(sample["scores"], int(number < right))
    rewrite(evaluation_of(run), samples)


def test_answers_that_a_run_lacks_and_another_decoding_are_told_and_decide_nothing(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", 6)]
    set_golden(runs[0], 30)
    set_golden(runs[1], 40)
    assert "b is better than a on tool_calls_golden" in compare_runs(runs, tmp_path / "whole")["verdict"]
    samples = rows(evaluation_of(runs[0]))
    kept = [row for row in samples if row["task"] != "tool_calls_golden" or row["scores"]["exact_match"]]
    rewrite(evaluation_of(runs[0]), kept)
    summary = json.loads((evaluation_of(runs[1]) / "summary.json").read_text())
    summary["decoding"] = {"left_to_the_endpoint": ["temperature"]}
    (evaluation_of(runs[1]) / "summary.json").write_text(json.dumps(summary))
    result = compare_runs(runs, tmp_path / "out")
    [pair] = result["tasks"]["tool_calls_golden"]["pairs"]
    assert (pair["difference"], pair["low"] <= 0 <= pair["high"], pair["verdict"]) == (0.25, True, "underpowered")
    assert "a has no answer to 10 of 40 items of tool_calls_golden" in result["verdict"]
    assert "b took no temperature and answered at the endpoint's default" in result["verdict"]


def test_runs_that_other_engines_answered_are_compared_with_a_reservation(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", 6)]
    path = evaluation_of(runs[1]) / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"engine": summary["engine"] | {"version": "0.33.0"}}))
    told = "a was answered by vllm 0.32.0, b by vllm 0.33.0: part of the difference may be the engine's."
    assert compare_runs(runs, tmp_path / "out")["verdict"].endswith(f" {told}")
    assert told in (tmp_path / "out" / "compare.md").read_text()


def test_the_numbers_are_those_of_the_paired_statistics(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", 6), make_run("c", 7)]
    for run, right in zip(runs, (10, 30, 12), strict=True):
        set_golden(run, right)
    result = compare_runs(runs, tmp_path / "out")
    golden = result["tasks"]["tool_calls_golden"]
    first, *others = [list(scores_of(run).values()) for run in runs]
    assert golden["runs"]["b"] == {
        "n": 40,
        "mean": 0.75,
        "low": wilson(30, 40)[0],
        "high": wilson(30, 40)[1],
        "failed": 0,
    }
    found = [compare(other, first, "binary", samples=200, seed=17) for other in others]
    targets = [
        pair["p"] for task in ("tool_calls_heldout", "tool_calls_golden") for pair in result["tasks"][task]["pairs"]
    ]
    for pair, expected, adjusted in zip(golden["pairs"], found, holm(targets)[2:], strict=True):
        assert pair["b"] == "a"
        assert (pair["difference"], pair["low"], pair["high"]) == (expected.difference, expected.low, expected.high)
        assert (pair["p"], pair["p_adjusted"]) == (expected.p, adjusted)
    assert [pair["verdict"] for pair in golden["pairs"]] == ["improved", "underpowered"]
    assert result["verdict"] == (
        "b is better than a on tool_calls_golden by 50 points. None of the others is shown to differ from a."
    )
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == result


def test_one_of_many_tasks_makes_no_headline_unless_it_would_among_them_all(make_run, tmp_path):
    """p = 0.031 on one of two target tasks, the other alike; the guard tasks are corrected for themselves."""
    runs = [make_run("a"), make_run("b")]
    set_golden(runs[0], 10)
    set_golden(runs[1], 15)
    result = compare_runs(runs, tmp_path / "out")
    pair = result["tasks"]["tool_calls_golden"]["pairs"][0]
    assert (pair["p"], pair["p_adjusted"]) == (1 / 32, 1 / 16)
    assert result["verdict"] == "b is not shown to differ from a."
    samples = rows(evaluation_of(runs[0]))
    for number, sample in enumerate(one for one in samples if one["task"] == "general_knowledge"):
        sample["scores"]["accuracy"] = sample["scores"]["accuracy"] if number >= 14 else 0
    rewrite(evaluation_of(runs[0]), samples)
    result = compare_runs(runs, tmp_path / "out")
    guards = [result["tasks"][task]["pairs"][0] for task in ("general_knowledge", "general_text")]
    assert [pair["p_adjusted"] for pair in guards] == holm([pair["p"] for pair in guards])
    assert "over every run on every target task together" in (tmp_path / "out" / "compare.md").read_text()


def test_worse_is_told_and_so_is_nothing(make_run, tmp_path):
    runs = [make_run("a"), make_run("b")]
    assert compare_runs(runs, tmp_path / "out")["verdict"] == "b is not shown to differ from a."
    set_golden(runs[0], 35)
    assert compare_runs(runs, tmp_path / "out")["verdict"].startswith("b is worse than a on tool_calls_golden by ")


def test_the_answers_are_paired_by_item_whatever_their_order(make_run, tmp_path):
    runs = [make_run("a"), make_run("b")]
    rewrite(evaluation_of(runs[1]), rows(evaluation_of(runs[1]))[::-1])
    pairs = [shown["pairs"][0] for shown in compare_runs(runs, tmp_path / "out")["tasks"].values()]
    assert [pair["discordant"] for pair in pairs] == [0, 0, 0, 0]


def test_what_a_run_was_not_asked_alike_is_left_out_and_named(make_run, tmp_path):
    runs = [make_run("a"), make_run("b")]
    summary = json.loads((evaluation_of(runs[1]) / "summary.json").read_text())
    summary["tasks"]["tool_calls_golden"] = {
        **summary["tasks"]["tool_calls_golden"],
        "digests": {**summary["tasks"]["tool_calls_golden"]["digests"], "items": "0f" * 32},
    }
    del summary["tasks"]["general_text"]
    (evaluation_of(runs[1]) / "summary.json").write_text(json.dumps(summary))
    result = compare_runs(runs, tmp_path / "out")
    assert list(result["tasks"]) == ["tool_calls_heldout", "general_knowledge"]
    assert result["left_out"] == [
        {"task": "tool_calls_golden", "why": "unlike items: a1a1a1a1a1a1 in a, 0f0f0f0f0f0f in b"},
        {"task": "general_text", "why": "not asked in b"},
    ]
    assert "not asked in b" in (tmp_path / "out" / "compare.md").read_text()


def test_runs_without_a_common_task_are_refused_with_the_reason(make_run, tmp_path):
    runs = [make_run("a"), make_run("b")]
    summary = json.loads((evaluation_of(runs[1]) / "summary.json").read_text())
    for about in summary["tasks"].values():
        about["version"] = 2
    (evaluation_of(runs[1]) / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"share no task.*tool_calls_heldout: unlike version: 1 in a, 2 in b") as caught:
        compare_runs(runs, tmp_path / "out")
    assert "same version" in caught.value.remedy
    assert not (tmp_path / "out").exists()


def test_differing_config_keys_cost_and_reports_stand_beside(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", learning_rate=1e-3)]
    result = compare_runs(runs, tmp_path / "out")
    assert result["config"] == {"train.learning_rate": {"a": 2e-4, "b": 1e-3}}
    about = result["runs"][1]
    assert (about["report"], about["arm"]) == ("../b/report.html", "tuned")
    assert (about["training_rows"], about["training_seconds"]) == (1297, 371.0)
    assert about["cost"]["requests_per_hour"] == pytest.approx(72_000)


@pytest.mark.parametrize(
    ("missing", "says", "remedy"),
    [
        ("resolved.json", "no run's folder", "tunelift run CONFIG"),
        ("comparison.json", "no report yet", "tunelift report "),
        ("stages/evaluate-tuned", "the evaluation of its arm tuned is not there", "tunelift report "),
    ],
)
def test_a_folder_that_is_no_finished_run_is_refused(make_run, tmp_path, missing, says, remedy):
    runs = [make_run("a"), make_run("b")]
    (runs[1] / missing).unlink()
    with pytest.raises(UserError, match=says) as caught:
        compare_runs(runs, tmp_path / "out")
    assert remedy in caught.value.remedy and caught.value.where == str(runs[1])


def test_one_run_or_one_twice_is_no_comparison(make_run, tmp_path):
    run = make_run("a")
    with pytest.raises(UserError, match="takes two runs"):
        compare_runs([run], tmp_path / "out")
    with pytest.raises(UserError, match="named twice"):
        compare_runs([run, run.parent / "x" / ".." / "a"], tmp_path / "out")


def test_runs_of_one_name_are_told_apart_by_their_paths(make_run, tmp_path):
    runs = [make_run("one/same"), make_run("other/same")]
    result = compare_runs(runs, tmp_path / "out")
    assert [run["name"] for run in result["runs"]] == [str(run) for run in runs]


# --- The page -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_is_legible_and_quiet(opened, make_run, tmp_path, width, scheme):
    runs = [make_run("a"), make_run("b <img src=x onerror=alert(1)> & \u202e", 6), make_run("c", 7)]
    config = json.loads((runs[2] / "resolved.json").read_text())
    config["curate"]["sources"] = [{"path": "</script><script>alert(1)</script>" + "x" * 3000}]
    (runs[2] / "resolved.json").write_text(json.dumps(config))
    set_golden(runs[2], 38)
    result = compare_runs(runs, tmp_path / "out")
    page = opened(tmp_path / "out" / "compare.html", width, scheme)
    assert fits(page, width) == []
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.locator("h1").inner_text() == result["verdict"].replace("\u202e", "U+202E")
    assert page.locator(".forest-row:not(.forest-axis)").count() == 8
    assert page.locator("#scores tbody tr").count() == 3
    text = page.locator("main").inner_text()
    assert "b <img src=x onerror=alert(1)> & U+202E" in text and "</script><script>alert(1)" in text
    assert page.locator("main img").count() == 0
    page.locator("#scores a", has_text="open").nth(1).click()
    assert page.title() == "quickstart · tunelift report"
