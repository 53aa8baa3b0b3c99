"""The report's numbers follow from the samples, and its words from the numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.stages.report_fixture import build, make_artifacts, make_evaluations, rewrite, rows
from tunelift.errors import UserError
from tunelift.stages.report.browser import safe_json
from tunelift.stages.report.figures import axis
from tunelift.stages.report.wording import (
    amount,
    change,
    interval,
    label,
    listed,
    percent,
    points,
    probability,
    rounded,
    score,
    span,
    unit,
)
from tunelift.tasks.statistics import mcnemar_midp, tango, wilson


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Path]]:
    root = tmp_path_factory.mktemp("report")
    evaluations = make_evaluations(root / "evaluations")
    out, comparison = build(root, evaluations, **make_artifacts(root / "artifacts"))
    return out, comparison, evaluations


# --- comparison.json ------------------------------------------------------------------------------------------------


def test_the_numbers_follow_from_the_samples(built):
    _, comparison, evaluations = built
    right = {
        arm: {row["id"]: row["scores"]["exact_match"] for row in rows(folder) if row["task"] == "tool_calls_golden"}
        for arm, folder in evaluations.items()
    }
    shown = comparison["tasks"]["tool_calls_golden"]["exact_match"]
    for arm, scores in right.items():
        low, high = wilson(sum(scores.values()), 150)
        expected = {"n": 150, "mean": sum(scores.values()) / 150, "low": low, "high": high, "failed": 0}
        assert shown["arms"][arm] == expected
    pair = next(pair for pair in shown["pairs"] if pair["b"] == "prompted")
    cells = [(right["tuned"][item], right["prompted"][item]) for item in right["tuned"]]
    b, c = cells.count((1, 0)), cells.count((0, 1))
    assert (pair["difference"], pair["low"], pair["high"]) == ((b - c) / 150, *tango(b, c, 150))
    found = (pair["a"], pair["p"], pair["verdict"], pair["discordant"], pair["clusters"])
    assert found == ("tuned", mcnemar_midp(b, c), "improved", b + c, None)


@pytest.mark.parametrize("nothing", [None, ""])
def test_items_that_share_a_cluster_do_not_count_as_independent(built, nothing, tmp_path):
    _, comparison, evaluations = built
    clustered = comparison["tasks"]["tool_calls_heldout"]["exact_match"]["pairs"][0]
    assert clustered["clusters"] == 50
    alone = {arm: tmp_path / arm for arm in evaluations}
    for arm, folder in evaluations.items():
        shutil.copytree(folder, alone[arm])
        rewrite(alone[arm], [row | {"cluster": nothing} for row in rows(folder)])
    _, other = build(tmp_path, alone)
    independent = other["tasks"]["tool_calls_heldout"]["exact_match"]["pairs"][0]
    assert independent["clusters"] is None and independent["method"] != clustered["method"]
    assert independent["difference"] == pytest.approx(clustered["difference"])
    assert independent["low"] != clustered["low"]


def test_too_few_clusters_never_show_an_improvement(built, tmp_path):
    evaluations = {arm: tmp_path / arm for arm in built[2]}
    for arm, folder in built[2].items():
        shutil.copytree(folder, evaluations[arm])
        rewrite(evaluations[arm], [row | {"cluster": f"source {row['id'][-1] > '4'}"} for row in rows(folder)])
    _, comparison = build(tmp_path, evaluations)
    claim = comparison["verdicts"][0]
    assert claim["difference"] > 0.5 and claim["verdict"] == "underpowered"


def test_graded_metrics_are_resampled_and_binary_ones_are_not(built):
    _, comparison, _ = built
    task = comparison["tasks"]["tool_calls_heldout"]
    assert {metric: shown["kind"] for metric, shown in task.items()}["field_f1"] == "graded"
    assert task["valid_json"]["kind"] == "binary"
    for pair in task["field_f1"]["pairs"]:
        assert pair["low"] < pair["difference"] < pair["high"]


def test_the_data_section_says_what_was_measured_of_prompts(built):
    page = (built[0] / "report.html").read_text()
    assert "leaving out 94% of the words, which more than a tenth of the rows share" in page
    assert "Nearly asked: with a training prompt that has over 50% of its words, in runs of 3 or more." in page


def test_the_verdict_names_value_difference_interval_and_p(built):
    _, comparison, _ = built
    claim = comparison["verdicts"][1]
    assert claim["sentence"] == (
        f"tuned answers {percent(claim['value'])} of tool_calls_golden correctly, "
        f"{points(claim['difference'])[1:]} points more than {claim['best_untuned']}, the best arm on the base model "
        f"(95% interval {interval(claim['low'], claim['high'])}, p < 0.001)."
    )
    assert comparison["verdict"] == " ".join(claim["sentence"] for claim in comparison["verdicts"])
    shown = comparison["tasks"]["tool_calls_golden"]["exact_match"]["arms"]
    assert claim["best_untuned"] == max(("base", "prompted"), key=lambda arm: shown[arm]["mean"])
    assert comparison["focus"] == claim["arm"] == "tuned"


@pytest.mark.parametrize(("strict", "word"), [(True, "exactly"), (False, "correctly"), (None, "correctly")])
def test_only_a_strict_metric_is_said_to_be_exact(tmp_path, strict, word):
    evaluations = make_evaluations(tmp_path / "e", items=40)
    for folder in evaluations.values():
        summary = json.loads((folder / "summary.json").read_text())
        for task in summary["tasks"].values():
            task["metrics"]["exact_match"]["strict"] = strict
        (folder / "summary.json").write_text(json.dumps(summary))
    _, comparison = build(tmp_path, evaluations)
    assert f" of tool_calls_heldout {word}, " in comparison["verdict"]
    assert comparison["verdicts"][0]["strict"] is bool(strict)


def test_a_missing_answer_counts_as_a_failure(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=40)
    samples = rows(evaluations["tuned"])
    lost = [row["id"] for row in samples if row["task"] == "tool_calls_heldout" and row["scores"]["exact_match"]][:5]
    before = sum(row["scores"]["exact_match"] for row in samples if row["task"] == "tool_calls_heldout")
    rewrite(evaluations["tuned"], [row for row in samples if row["id"] not in lost])
    out, comparison = build(tmp_path, evaluations)
    shown = comparison["tasks"]["tool_calls_heldout"]["exact_match"]["arms"]["tuned"]
    assert (shown["n"], shown["failed"], shown["mean"]) == (40, 5, (before - 5) / 40)
    noted = "tuned has no answer to 5 of 40 items of tool_calls_heldout; they count as wrong."
    assert noted in (out / "report.md").read_text()


def test_no_gain_is_published_as_such(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=40)
    shutil.copy(evaluations["prompted"] / "samples.jsonl", evaluations["tuned"] / "samples.jsonl")
    _, comparison = build(tmp_path, evaluations)
    assert {claim["verdict"] for claim in comparison["verdicts"]} <= {"not shown", "underpowered"}
    assert "no more and no less than prompted, the best arm on the base model" in comparison["verdict"]
    assert "p = 1.00" in comparison["verdict"]


def test_one_arm_makes_no_claim(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=10)
    out, comparison = build(tmp_path, {"base": evaluations["base"]})
    assert comparison["verdict"].startswith("No claim is made")
    assert comparison["gate"] == {"declared": False, "passed": True, "reasons": [], "claims": []}
    assert comparison["tasks"]["tool_calls_golden"]["exact_match"]["pairs"] == []
    assert (comparison["guards"], comparison["slices"], comparison["noise_floor"]) == ([], [], None)
    assert (comparison["judge"], comparison["break_even"]) == (None, None)
    assert "No claim is made" in (out / "report.html").read_text()


@pytest.mark.parametrize("key", ["items", "scorers", "decoding"])
def test_unlike_evaluations_are_refused_and_the_difference_named(tmp_path, key):
    evaluations = make_evaluations(tmp_path / "e", items=5)
    summary = json.loads((evaluations["tuned"] / "summary.json").read_text())
    summary["tasks"]["tool_calls_golden"]["digests"][key] = "ff" * 32
    (evaluations["tuned"] / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=f"the {key} of tool_calls_golden: .* for base, ffffffffffff for tuned"):
        build(tmp_path, evaluations)


def test_a_target_task_that_one_arm_was_spared_is_refused(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=5)
    summary = json.loads((evaluations["base"] / "summary.json").read_text())
    del summary["tasks"]["tool_calls_golden"]
    (evaluations["base"] / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="tool_calls_golden was asked of prompted but not of base"):
        build(tmp_path, evaluations)


def test_a_torn_file_is_named_with_its_line(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=5)
    path = evaluations["base"] / "samples.jsonl"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(UserError, match="line 10") as caught:
        build(tmp_path, evaluations)
    assert caught.value.where == str(path) and caught.value.remedy


# --- the words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.6133), "61.3%"),
        (percent(0.0), "0%"),
        (percent(1.0), "100%"),
        (percent(0.9996), "100.0%"),
        (points(0.587), "+58.7"),
        (points(-0.0204), "−2.0"),
        (points(-0.0001), "0.0"),
        (interval(-0.012, 0.3), "−1.2 to 30.0"),
        (probability(0.0004), "p < 0.001"),
        (probability(0.0312), "p = 0.031"),
        (probability(0.424), "p = 0.42"),
        (score(0.25), "25.0%"),
        (score(0.9624, bounded=False), "0.962"),
        (score(17.3456, bounded=False), "17.35"),
        (change(0.12), "+12.0"),
        (change(-0.0091, bounded=False), "−0.009"),
        (change(0.0091, bounded=False), "+0.009"),
        (change(0.0, bounded=False), "0.000"),
        (span(-0.012, 0.3), "−1.2 to 30.0"),
        (span(-0.012, 0.3, bounded=False), "−0.012 to 0.300"),
        (unit("accuracy"), "points"),
        (unit("bits_per_byte", bounded=False), "bits per byte"),
        (unit("own_score", bounded=False), ""),
        (amount(0.02, "accuracy"), "2 points"),
        (amount(0.01, "accuracy"), "1 point"),
        (amount(-0.045, "accuracy"), "4.5 points"),
        (amount(0.02, "bits_per_byte", bounded=False), "0.020 bits per byte"),
        (amount(0.5, "own_score", bounded=False), "0.500"),
        (rounded(13_427), "13,000"),
        (rounded(0.05123), "0.051"),
        (rounded(0), "0"),
        (rounded(-2.54), "−2.5"),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (label("valid_json"), "Valid JSON"),
        (label("exact_match"), "Exact match"),
    ],
)
def test_numbers_read_well(shown, expected):
    assert shown == expected


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([-3, 62], (-20, 0, 20, 40, 60, 80)), ([0.1], (0, 0.02, 0.04, 0.06, 0.08, 0.1)), ([], (0, 0.2, 0.4, 0.6, 0.8, 1))],
)
def test_axes_have_round_ticks_and_hold_zero(values, ticks):
    assert axis(values).ticks == pytest.approx(ticks)


def test_json_in_the_page_cannot_leave_its_element():
    hostile = {"</script><!--": "\u2028 &amp; \ud800 \u0085 </SCRIPT>"}
    text = safe_json(hostile)
    assert not set("<>&\u2028\u0085\ud800") & set(text)
    assert json.loads(text) == hostile


def test_the_markdown_shows_the_numbers_of_the_comparison(built):
    out, comparison, _ = built
    text = (out / "report.md").read_text()
    assert comparison["verdict"] in text.replace("\\", "")
    for metrics in comparison["tasks"].values():
        for shown in metrics.values():
            for value in shown["arms"].values():
                assert f"{percent(value['mean'])} ({interval(value['low'], value['high'])})" in text
