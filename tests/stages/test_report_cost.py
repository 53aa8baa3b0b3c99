"""What answers cost, and when tuning pays."""

from __future__ import annotations

import json

import pytest

from tests.stages.report_fixture import FEW, build, make_evaluations, make_whole_run, rewrite, rows
from tunelift.config.evaluation import EndpointConfig, ReportConfig

PRICED = {"url": "http://127.0.0.1:9/v1", "model": "other", "usd_per_million_input": 2.0, "usd_per_million_output": 8.0}


def test_cost_is_throughput_under_load_times_the_machines_price(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=30)
    _, comparison = build(tmp_path, evaluations)
    cost, samples = comparison["cost"]["tuned"], rows(evaluations["tuned"])
    seconds = sorted(row["seconds"] for row in samples)
    assert cost["seconds_mean"] == pytest.approx(sum(seconds) / 60)
    assert (cost["seconds_p50"], cost["seconds_p95"]) == (seconds[29], seconds[56])
    # 60 requests in 60 * 0.05 seconds.
    assert cost["machine_seconds_per_1000"] == pytest.approx(50)
    assert cost["requests_per_hour"] == pytest.approx(72_000)
    assert cost["usd_per_1000"] == pytest.approx(0.4 / 3600 * 50)
    assert comparison["cost"]["prompted"]["tokens_in_mean"] > 2000 > 100 > cost["tokens_in_mean"]


def test_guard_tasks_are_no_part_of_the_cost(tmp_path):
    arguments = make_whole_run(tmp_path / "whole", items=12)
    _, comparison = build(tmp_path, **arguments)
    samples = [row for row in rows(arguments["evaluations"]["base"]) if row["task"].startswith("tool_calls")]
    tokens = sum(row["tokens_in"] for row in samples) / len(samples)
    assert comparison["cost"]["base"]["tokens_in_mean"] == pytest.approx(tokens)
    assert comparison["cost"]["base"]["machine_seconds_per_1000"] == pytest.approx(310)


def test_a_target_by_log_likelihood_is_no_part_of_the_cost(tmp_path):
    arguments = make_whole_run(tmp_path / "whole", items=12)
    arguments["gate"] = None
    for folder in arguments["evaluations"].values():
        summary = json.loads((folder / "summary.json").read_text())
        for name in ("general_knowledge", "general_text"):
            if name in summary["tasks"]:
                summary["tasks"][name]["role"] = "target"
        (folder / "summary.json").write_text(json.dumps(summary))
    del arguments["evaluations"]["prompted"]  # It was not asked them.
    _, comparison = build(tmp_path, **arguments)
    samples = [row for row in rows(arguments["evaluations"]["base"]) if row["kind"] == "generate"]
    cost = comparison["cost"]["base"]
    assert cost["tokens_in_mean"] == pytest.approx(sum(row["tokens_in"] for row in samples) / len(samples))
    assert cost["machine_seconds_per_1000"] == pytest.approx(310)


def test_without_a_target_that_generates_no_cost_is_made_up(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=8)
    for folder in evaluations.values():
        summary = json.loads((folder / "summary.json").read_text())
        for about in summary["tasks"].values():
            about["kind"] = "choice"
        (folder / "summary.json").write_text(json.dumps(summary))
    prices = {"prompted": EndpointConfig(**PRICED)}
    out, comparison = build(tmp_path, evaluations, prices=prices, training_seconds=60.0)
    assert {value for cost in comparison["cost"].values() for value in cost.values()} == {None}
    assert comparison["break_even"] is None
    page = (out / "report.html").read_text()
    assert page.count('data-label="USD per 1,000">—<') == 3
    assert "Seconds to an answer" not in page
    assert "| tuned | — | — | — | — | — | — |" in (out / "report.md").read_text()


def test_tokens_that_an_endpoint_does_not_tell_cost_nobody_knows_what(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=8)
    rewrite(evaluations["prompted"], [{**row, "tokens_in": None} for row in rows(evaluations["prompted"])])
    _, comparison = build(tmp_path, evaluations, prices={"prompted": EndpointConfig(**PRICED)}, training_seconds=60.0)
    cost = comparison["cost"]["prompted"]
    assert (cost["tokens_in_mean"], cost["usd_per_1000"]) == (None, None)
    assert cost["tokens_out_mean"] > 0 and cost["seconds_mean"] > 0


def test_no_price_no_cost_in_money(tmp_path):
    _, comparison = build(tmp_path, make_evaluations(tmp_path / "e", items=8), ReportConfig(bootstrap_samples=100))
    assert comparison["cost"]["tuned"]["usd_per_1000"] is None
    assert comparison["cost"]["tuned"]["machine_seconds_per_1000"] == pytest.approx(50)


def test_an_endpoint_costs_its_tokens(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=8)
    _, comparison = build(tmp_path, evaluations, prices={"prompted": EndpointConfig(**PRICED)})
    cost = comparison["cost"]["prompted"]
    assert cost["usd_per_1000"] == pytest.approx((2.0 * cost["tokens_in_mean"] + 8.0 * cost["tokens_out_mean"]) / 1000)
    assert cost["machine_seconds_per_1000"] is None and cost["requests_per_hour"] == pytest.approx(9000)


def test_an_endpoint_without_both_prices_has_no_cost(tmp_path):
    half = EndpointConfig(**{key: value for key, value in PRICED.items() if "output" not in key})
    _, comparison = build(tmp_path, make_evaluations(tmp_path / "e", items=8), prices={"prompted": half})
    assert comparison["cost"]["prompted"]["usd_per_1000"] is None


def test_throughput_that_was_not_measured_is_not_made_up(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=8)
    for folder in evaluations.values():
        summary = json.loads((folder / "summary.json").read_text())
        for about in summary["tasks"].values():
            del about["asking"]
        (folder / "summary.json").write_text(json.dumps(summary))
    _, comparison = build(tmp_path, evaluations, training_seconds=60.0)
    cost = comparison["cost"]["tuned"]
    assert [cost[key] for key in ("requests_per_hour", "machine_seconds_per_1000", "usd_per_1000")] == [None] * 3
    assert comparison["break_even"] is None


@pytest.mark.parametrize(
    ("config", "unit", "training", "saving"),
    [
        (FEW, "USD", 0.4 * 0.1, 0.4 * 260 / 3600),
        (ReportConfig(bootstrap_samples=200), "machine hours", 0.1, 260 / 3600),
    ],
)
def test_tuning_pays_once_the_savings_reach_what_training_took(tmp_path, config, unit, training, saving):
    _, comparison = build(tmp_path, make_evaluations(tmp_path / "e", items=40), config, training_seconds=360.0)
    found = comparison["break_even"]
    # The tasks disagree about the best arm on the base model: base costs less.
    assert {claim["best_untuned"] for claim in comparison["verdicts"]} == {"prompted", "base"}
    assert (found["against"], found["unit"]) == ("base", unit)
    assert found["training_cost"] == pytest.approx(training)
    assert found["saving_per_1000"] == pytest.approx(saving)
    assert found["requests"] == 1385  # 0.1 h of training over 260 s saved per 1,000 requests.
    assert "it has paid for itself after about 1,400 requests." in found["sentence"]


def test_tuning_never_pays_without_a_saving(tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=40)
    summary = json.loads((evaluations["tuned"] / "summary.json").read_text())
    for about in summary["tasks"].values():
        about["asking"]["seconds"] = 40.0
    (evaluations["tuned"] / "summary.json").write_text(json.dumps(summary))
    _, comparison = build(tmp_path, evaluations, training_seconds=360.0)
    found = comparison["break_even"]
    assert found["requests"] is None and found["saving_per_1000"] < 0
    assert found["sentence"].startswith(
        "Training never pays for itself in USD: 1,000 requests take 0.11 USD with tuned"
    )


def test_money_and_machine_hours_are_not_mixed(tmp_path):
    arguments = make_whole_run(tmp_path / "whole", items=40)
    arguments |= {"evaluations": {arm: arguments["evaluations"][arm] for arm in ("tuned", "yardstick")}}
    arguments |= {"noise_arm": None, "judge": None}
    unpriced = ReportConfig(bootstrap_samples=200)
    _, comparison = build(tmp_path, config=unpriced, **arguments)
    # The only other arm is an endpoint, the tuned one ran on a machine without a price.
    assert {claim["best_untuned"] for claim in comparison["verdicts"]} == {"yardstick"}
    assert comparison["break_even"] is None


def test_nothing_was_trained_nothing_breaks_even(tmp_path):
    _, comparison = build(tmp_path, make_evaluations(tmp_path / "e", items=8))
    assert comparison["break_even"] is None
