"""Which items the report's page holds where not all fit: some of every task and slice, the differing ones first."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stages.browsing import Open
from tests.stages.report_fixture import build, make_whole_run
from tunelift.stages.report import browser
from tunelift.stages.report.browser import BUDGET_BYTES, by_interest, embedded_items, shared
from tunelift.stages.report.evidence import Asked, Evidence, Json, Metric

RATES = {"base": 0.2, "prompted": 0.5, "tuned": 0.95}


def asked(name: str, items: int, request: str = "q" * 400) -> Asked:
    """Every 25th item is of the slice `rare`."""
    rng = random.Random(name)
    samples: dict[str, dict[str, Json]] = {arm: {} for arm in RATES}
    for number in range(items):
        for arm, rate in RATES.items():
            item = f"{name}-{number}"
            samples[arm][item] = {
                "id": item,
                "prompt": [{"role": "user", "content": request}],
                "expected": [{"tool": "book", "n": number}],
                "output": json.dumps({"tool": "book", "n": number}),
                "scores": {"exact_match": float(rng.random() < rate)},
                "tags": ["rare"] if number % 25 == 24 else ["often"],
            }
    return Asked(
        name=name,
        version=1,
        role="target",
        kind="generate",
        margin=0,
        effect=0.05,
        primary="exact_match",
        metrics={"exact_match": Metric("binary", False, True)},
        ids=tuple(samples["base"]),
        samples=samples,
        sampled_by=dict.fromkeys(RATES, ""),
        answered_by={},
    )


def evidence_of(*tasks: Asked) -> Evidence:
    nothing: Any = {"summaries": {}, "stats": {}, "metrics": [], "training": {}, "answers": [], "preflight": {}}
    return Evidence(arms=tuple(RATES), tasks=tasks, parity={}, judge={}, judgements=[], **nothing)


def difference(task: Asked, item: str, rival: str) -> float:
    return task.samples["tuned"][item]["scores"]["exact_match"] - task.samples[rival][item]["scores"]["exact_match"]


def test_tasks_share_the_room_and_differing_items_come_first() -> None:
    tasks = asked("large", 10_000), asked("small", 200), asked("least", 60)
    embedded = embedded_items(evidence_of(*tasks), "tuned", (), dict.fromkeys(("large", "small", "least"), "prompted"))
    assert embedded.counts[1:] == (("small", 200, 200), ("least", 60, 60)) and not embedded.is_whole
    (name, shown, total), content = embedded.counts[0], json.loads(embedded.text)
    assert (name, total) == ("large", 10_000) and 1_000 < shown < 10_000
    assert len(embedded.text.encode()) < BUDGET_BYTES + 2_000
    assert [(task["shown"], task["total"]) for task in content["tasks"]] == [(shown, total), (200, 200), (60, 60)]
    of_large = [item for item in content["items"] if item["task"] == 0]
    assert [item["id"] for item in of_large] == sorted((item["id"] for item in of_large), key=tasks[0].ids.index), (
        "as they stand in the task"
    )
    found = [difference(tasks[0], item["id"], "prompted") for item in of_large]
    every = [difference(tasks[0], item, "prompted") for item in tasks[0].ids]
    assert sum(value < 0 for value in found) == sum(value < 0 for value in every), "each of the rarer losses"
    assert sum(value == 0 for value in found) < 20, "beside those of the slices, only items that differ"


def test_a_large_first_task_leaves_room_for_a_second_and_a_large_second_for_the_first() -> None:
    for sizes in ((2_000, 200), (200, 2_000), (3_000, 3_000)):
        tasks = [asked(f"t{place}", size, "q" * 3_000) for place, size in enumerate(sizes)]
        counts = embedded_items(evidence_of(*tasks), "tuned").counts
        assert all(shown >= min(total, 150) for _, shown, total in counts), counts


def test_each_slice_keeps_a_page_and_wins_and_losses_take_turns() -> None:
    task = asked("one", 4_000)
    order = by_interest(task, "tuned", "prompted", {})
    assert sorted(order) == list(range(4_000))
    tags = [task.items[task.ids[place]]["tags"] for place in order[:10]]
    assert sorted(tags) == [["often"]] * 5 + [["rare"]] * 5
    signs = [difference(task, task.ids[place], "prompted") for place in order[10:40]]
    assert abs(signs.count(1) - signs.count(-1)) <= 4, "though wins are nine times as many"
    many = {item: row | {"tags": [f"tag {int(item[4:]) % 400}"]} for item, row in task.samples["base"].items()}
    task.samples["base"].update(many)
    del task.__dict__["items"]
    order = by_interest(task, "tuned", "prompted", {})
    assert len({task.items[task.ids[place]]["tags"][0] for place in order[:400]}) == 400, "of 400 slices one each"


def test_where_only_another_arm_or_the_judge_parts_the_arms_items_come_before_those_alike() -> None:
    task = asked("one", 400)
    judged = {("one", task.ids[7]): [{"winner": "b"}], ("one", task.ids[8]): [{"winner": "tie"}]}
    order = by_interest(task, "tuned", "prompted", judged)
    ranks = [
        0 if difference(task, item, "prompted") else 1 + (not difference(task, item, "base") and item != task.ids[7])
        for item in (task.ids[place] for place in order[10:])
    ]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    ("needs", "shares"),
    [([10, 10], [10, 10]), ([500, 10, 20], [70, 10, 20]), ([500, 500], [50, 50]), ([0, 200], [0, 100]), ([], [])],
)
def test_what_a_task_does_not_need_goes_to_the_others(needs: list[int], shares: list[int]) -> None:
    assert shared(needs, 100) == shares


def test_the_page_says_how_many_of_how_many_are_shown_and_every_slice_leads_to_items(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "BUDGET_BYTES", 90_000)
    out, _ = build(tmp_path, **make_whole_run(tmp_path / "whole", items=60))
    page = opened(out / "report.html")
    said = page.locator("#shown").inner_text()
    assert "all 20 items of general_text" in said and " of 60 items of tool_calls_golden" in said
    names = page.locator("#task option").all_inner_texts()
    assert len(names) == 5 and names[-1] == "general_text" and " of 60)" in names[1]
    for value in map(str, range(4)):
        page.select_option("#task", value)
        assert page.locator(".item").count() == 5
    for button in page.locator(".to-slice").all():
        button.click()
        assert page.locator(".item").count() > 0
        assert page.locator("#tag").input_value() == button.get_attribute("data-slice")


def test_a_slice_of_which_no_item_fits_leads_to_no_others(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "BUDGET_BYTES", 9_000)
    out, _ = build(tmp_path, **make_whole_run(tmp_path / "whole", items=60))
    buttons = opened(out / "report.html").locator(".to-slice")
    assert {True, False} == {button.is_disabled() for button in buttons.all()}


def test_a_page_that_holds_everything_says_nothing_of_it(opened: Open, tmp_path: Path) -> None:
    out, _ = build(tmp_path, **make_whole_run(tmp_path / "whole", items=12))
    assert opened(out / "report.html").locator("#shown").count() == 0


@pytest.mark.parametrize(
    ("scorer", "options", "paths"),
    [
        ("exact_match", {}, ["tool", "name", "n"]),
        ("exact_match", {"strict": True}, ["tool", "name", "n", "city"]),
        ("tool_call", {}, ["n"]),
        ("tool_call", {"values": "possible"}, None),
        ("tool_call", {"text": "loose"}, None),
    ],
)
def test_fields_are_compared_as_the_primary_metric_compares(
    scorer: str, options: dict[str, Any], paths: list[str] | None
) -> None:
    task = replace(asked("one", 1), metrics={"exact_match": Metric("binary", False, True, scorer, options)})
    sample = task.samples["tuned"]["one-0"]
    given = {"name": "book", "arguments": {"n": 2, "city": "rome"}}
    for row in (answers["one-0"] for answers in task.samples.values()):
        row["expected"] = [{"tool": "book", "arguments": {"n": 1, "city": "Rome"}}]
    # Thinking is taken off before an answer is scored.
    sample |= {"output": f"<think>{{}}</think>{json.dumps(given)}", "answer": json.dumps(given), "scores": {}}
    (item,) = json.loads(embedded_items(evidence_of(task), "tuned").text)["items"]
    fields = item["answers"][2].get("fields")
    assert (fields and sorted(row["path"].split(".")[-1] for row in fields["rows"])) == (paths and sorted(paths))
