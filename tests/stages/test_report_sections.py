"""What the page says of numbers, where a wrong word would be a wrong claim."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.stages.report_fixture import build, measured, rewrite, rows
from tests.stages.run_folder import evaluation_of, make_run_folder
from tunelift.config.evaluation import GateConfig
from tunelift.stages.report import background
from tunelift.stages.report.sections import headline, is_shown, noise_rows, num_claims
from tunelift.stages.report.wording import probability


@pytest.mark.parametrize(
    ("q", "low", "high", "shown"),
    [
        (0.01, 0.1, 0.4, True),
        (0.01, -0.4, -0.1, True),
        (0.047, -0.111, 0.916, False),  # Few clusters: the test rejects, the interval does not.
        (0.2, 0.1, 0.4, False),
        (None, 0.1, 0.4, False),
    ],
)
def test_a_slice_is_ticked_only_where_q_and_interval_agree(q, low: float, high: float, shown: bool) -> None:
    assert is_shown({"q": q, "low": low, "high": high}) is shown


def said(built: tuple[Path, Any], page: str) -> str:
    """The page's text, tags taken out."""
    text = (built[0].with_name(page)).read_text()
    return " ".join(re.sub(r"<[^>]+>", "", re.sub(r"(?s)<(script|style).*?</\1>", "", text)).split())


def test_p_beside_a_verdict_is_the_one_that_the_verdict_rests_on(built: tuple[Path, Any]) -> None:
    markdown = said(built, "report.md")
    for metrics in built[1]["tasks"].values():
        for shown in metrics.values():
            for pair in shown["pairs"]:
                p = pair["p_adjusted"]
                told = probability(pair["p"]) if p is None else f"{probability(p)} (Holm)"
                assert f", {told}): {pair['verdict']}" in markdown


def test_the_noise_floor_is_told_as_a_difference_and_not_at_all_without_one(built: tuple[Path, Any]) -> None:
    markdown, noise = said(built, "report.md"), noise_rows(built[1])
    assert {one["differing"] > 0 for one in noise} == {True, False}
    for one in noise:
        told = f"items of {one['task']}; the mean difference is {one['difference']} ({one['interval']})".replace(
            "_", "_"
        )
        assert (told in markdown) == (one["differing"] > 0), one
    assert "size is noise" not in markdown


def test_what_p_is_corrected_for_counts_the_claims_of_the_gate(built: tuple[Path, Any], tmp_path: Path) -> None:
    """Two target tasks, and a claim of the gate that is one of theirs; then one that is not."""
    assert num_claims(built[1]) == 2
    assert "found four times in five, with p corrected for 2 claims" in said(built, "report.html")
    assert "all claims named beforehand, which are 2 (Holm)" in said(built, "report.html")
    assert "takes that correction for 2 claims into account" in said(built, "report.md")
    run = make_run_folder(tmp_path, "a")
    evaluations = {arm: evaluation_of(run, arm) for arm in ("base", "tuned")}
    gate = GateConfig.model_validate({"improved": [{"task": "tool_calls_golden", "metric": "field_f1"}]})
    assert num_claims(build(tmp_path / "gated", evaluations, gate=gate)[1]) == 3
    _, alone = build(tmp_path / "alone", measured(tmp_path / "e", {"base": [0, 1] * 20, "tuned": [1] * 40}))
    assert (
        "corrected"
        not in said((tmp_path / "alone" / "report" / "report.html", alone), "report.html").split("four")[1][:40]
    )


@pytest.mark.parametrize(
    ("arms", "focus", "says"),
    [
        (("base",), "prompted", "asked was measured for base only; nothing is claimed of prompted."),
        (("tuned",), "tuned", "asked was measured for tuned only; nothing is claimed of tuned."),
    ],
)
def test_a_guard_that_nothing_is_claimed_of_is_shown_all_the_same(tmp_path, arms, focus, says) -> None:
    evaluations = measured(tmp_path / "e", dict.fromkeys(arms, [0, 1] * 20), role="guard", margin=0.04)
    if focus not in arms:
        (tmp_path / "e" / focus).mkdir()
        (tmp_path / "e" / focus / "summary.json").write_text('{"tasks": {}}')
        (tmp_path / "e" / focus / "samples.jsonl").write_text("")
        evaluations[focus] = tmp_path / "e" / focus
    out, comparison = build(tmp_path, evaluations, focus=focus)
    assert comparison["guards"] == []
    for page in ("report.html", "report.md"):
        assert says in said((out / "report.html", comparison), page)
    assert 'id="guards"' in (out / "report.html").read_text()


def test_the_data_section_says_what_was_found_about_prompts() -> None:
    told = {"held_out": 16, "in_other_split": {"validation": 0, "test": 0}, "close": {"prompts": 8, "share": 0.25}}
    assert background.data({"leakage": {"prompts": told}})["prompts"] == told
    assert background.data({})["prompts"] == {}


def claims(*verdicts: str) -> list[dict[str, Any]]:
    return [
        {"task": f"t{place}", "verdict": verdict, "sentence": f"tuned on t{place} (95% interval 1 to 2, p = 0.5)."}
        for place, verdict in enumerate(verdicts)
    ]


def told(verdicts: list[dict[str, Any]]) -> tuple[list[str], str]:
    found = headline({"verdicts": verdicts, "verdict": "", "verdict_on_guards": ""})
    return [found["says"], *(one["says"] for one in found["more"])], found["left"]


@pytest.mark.parametrize(
    ("verdicts", "named", "left"),
    [
        (["improved"], [0], ""),
        (["improved", "regressed", "not shown"], [0, 1, 2], ""),
        (["improved"] * 4, [0, 1, 2], "1 more target task: 1 improved."),
        (
            ["improved", "not shown", "improved", "underpowered", "regressed"],
            [4, 0, 1],
            "2 more target tasks: 1 improved, 1 underpowered.",
        ),
        (["improved", *["regressed"] * 5], [1, 2, 3, 4, 5], "1 more target task: 1 improved."),
    ],
)
def test_the_opening_names_every_task_that_regressed_and_counts_the_others(verdicts, named, left) -> None:
    assert told(claims(*verdicts)) == ([f"tuned on t{place}." for place in named], left)


def test_no_page_hides_a_regression_behind_three_other_tasks(tmp_path: Path) -> None:
    right = {"a": (10, 30), "b": (10, 31), "c": (12, 30), "d": (10, 11), "e": (30, 5)}
    folders: dict[str, Path] = {}
    for arm in ("base", "tuned"):
        folders[arm] = tmp_path / arm
        folders[arm].mkdir()
        samples, tasks = [], {}
        for task, counts in right.items():
            one = measured(tmp_path / f"one-{arm}-{task}", {arm: [1] * counts[arm == "tuned"] + [0] * 40})[arm]
            samples += [row | {"task": task} for row in rows(one)][:40]
            tasks[task] = json.loads((one / "summary.json").read_text())["tasks"]["asked"]
        rewrite(folders[arm], samples)
        (folders[arm] / "summary.json").write_text(json.dumps({"arm": arm, "tasks": tasks}))
    out, comparison = build(tmp_path, folders, looks={})
    assert [claim["verdict"] for claim in comparison["verdicts"]][-1] == "regressed"
    assert comparison["verdict"].startswith("tuned answers 12.5% of e correctly, 62.5 points less than base")
    for page in ("report.html", "report.md", "gate.md"):
        text = said((out / "report.html", comparison), page)
        whole = [text.index(f"of {task} correctly") for task in right]
        assert min(whole) == whole[-1], page
    page = said((out / "report.html", comparison), "report.html")
    assert "2 more target tasks: 1 improved, 1 underpowered." in page
