"""The arms compared: every metric with its interval, every difference paired, one verdict."""

from __future__ import annotations

from statistics import fmean
from typing import Any, Literal

from tunelift.config.schema import ReportConfig
from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.wording import interval, label, number, percent, probability
from tunelift.tasks.statistics import bootstrap_mean, compare, wilson

FOCUS = "tuned"
"""The arm that a claim is made about."""

Verdict = Literal["improved", "regressed", "not shown"]


def compare_arms(config: ReportConfig, evidence: Evidence, seed: int) -> Json:
    """What comparison.json holds.

    A gate passes when the focus arm's paired interval lies above the best untuned arm's on every target task and below
    no untuned arm's on any guard task. Without a focus arm or a rival no claim is made, and the gate passes.
    """
    tasks = {task.name: compare_task(config, task, seed) for task in evidence.tasks}
    verdicts = [found for task in evidence.tasks if task.role != "guard" and (found := _claim(task, tasks[task.name]))]
    nothing = f"No claim is made: it takes {FOCUS} and an untuned arm, this run measured {', '.join(evidence.arms)}."
    reasons = [_shortfall(claim) for claim in verdicts if claim["verdict"] != "improved"]
    reasons += [
        reason for task in evidence.tasks if task.role == "guard" for reason in _guard_reasons(task, tasks[task.name])
    ]
    return {
        "verdict": " ".join(claim["sentence"] for claim in verdicts) or nothing,
        "verdicts": verdicts,
        "gate": {"passed": not reasons, "reasons": reasons},
        "tasks": tasks,
        "cost": {arm: _cost(config, arm, evidence) for arm in evidence.arms},
    }


def compare_task(config: ReportConfig, task: Asked, seed: int) -> Json:
    """Each metric of one task: the arms, and the focus arm less every other arm."""
    return {metric: _compare_metric(config, task, metric, seed) for metric in task.kinds}


def _compare_metric(config: ReportConfig, task: Asked, metric: str, seed: int) -> Json:
    kind, samples = task.kinds[metric], config.bootstrap_samples
    scores = {arm: task.scores(arm, metric) for arm in task.samples}
    arms = {}
    for arm, values in scores.items():
        low, high = (
            wilson(round(sum(values)), len(values)) if kind == "binary" else bootstrap_mean(values, samples, seed)
        )
        mean = fmean(values) if values else 0.0
        arms[arm] = {"n": len(values), "mean": mean, "low": low, "high": high, "failed": task.failed(arm)}
    pairs = []
    for rival in scores if FOCUS in scores else ():
        if rival != FOCUS:
            found = compare(scores[FOCUS], scores[rival], kind, samples=samples, seed=seed)
            pair: Json = {"a": FOCUS, "b": rival, "difference": found.difference, "low": found.low, "high": found.high}
            pairs.append(
                pair | {"p": found.p, "discordant": found.discordant, "verdict": _verdict(found.low, found.high)}
            )
    return {"kind": kind, "primary": metric == task.primary, "arms": arms, "pairs": pairs}


def _verdict(low: float, high: float) -> Verdict:
    return "improved" if low > 0 else "regressed" if high < 0 else "not shown"


def _claim(task: Asked, metrics: Json) -> Json | None:
    """The focus arm against the best untuned arm, by the mean of the primary metric."""
    shown = metrics[task.primary]
    if not shown["pairs"] or not task.ids:
        return None
    pair = max(shown["pairs"], key=lambda pair: shown["arms"][pair["b"]]["mean"])
    claim = {
        "task": task.name,
        "metric": task.primary,
        "arm": FOCUS,
        "value": shown["arms"][FOCUS]["mean"],
        "best_untuned": pair["b"],
    }
    claim |= {key: pair[key] for key in ("difference", "low", "high", "p", "verdict")}
    return claim | {"sentence": _sentence(claim)}


def _sentence(claim: Json) -> str:
    value = percent(claim["value"])
    if claim["metric"] == "exact_match":
        does = f"{claim['arm']} answers {value} of {claim['task']} exactly"
    else:
        does = f"{claim['arm']} reaches {value} on {claim['task']} ({label(claim['metric'])})"
    size = number(abs(100 * claim["difference"]))
    than = (
        f"{size} points {'more' if claim['difference'] > 0 else 'less'} than"
        if float(size)
        else "no more and no less than"
    )
    doubt = ", a difference that is not shown to be real" if claim["verdict"] == "not shown" and float(size) else ""
    of = " of the difference" if claim["difference"] < 0 else ""
    numbers = f"95% interval{of} {interval(claim['low'], claim['high'])}, {probability(claim['p'])}"
    return f"{does}, {than} the best untuned arm{doubt} ({numbers})."


def _shortfall(claim: Json) -> str:
    outcome = "is worse" if claim["verdict"] == "regressed" else "is not shown to be better"
    return f"{claim['arm']} {outcome} than the best untuned arm on {claim['task']} ({label(claim['metric'])})."


def _guard_reasons(task: Asked, metrics: Json) -> list[str]:
    start = f"{FOCUS} got worse on the guard task {task.name}"
    return [
        f"{start}: {number(100 * pair['difference'])} points against {pair['b']} "
        f"(95% interval {interval(pair['low'], pair['high'])}, {probability(pair['p'])})."
        for pair in metrics[task.primary]["pairs"]
        if pair["verdict"] == "regressed"
    ]


def _cost(config: ReportConfig, arm: str, evidence: Evidence) -> Json:
    """Means per answered request over all tasks; the price is for requests one at a time, an upper bound if batched."""
    answers = (sample for task in evidence.tasks for sample in task.samples[arm].values())
    samples = [sample for sample in answers if not sample.get("error")]

    def mean(key: str) -> float | None:
        values = [float(sample[key]) for sample in samples if sample.get(key) is not None]
        return fmean(values) if values else None

    cost: dict[str, Any] = {f"{key}_mean": mean(key) for key in ("tokens_in", "tokens_out", "seconds")}
    if config.usd_per_hour is not None and cost["seconds_mean"] is not None:
        cost["usd_per_1000"] = config.usd_per_hour / 3600 * cost["seconds_mean"] * 1000
    return cost
