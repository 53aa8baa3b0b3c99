"""What the findings stand on: cost and latency, what each arm was asked, how model and data came to be."""

from __future__ import annotations

import json
from typing import Any

from tunelift.config.evaluation import NOISE_ARM
from tunelift.stages.report import figures
from tunelift.stages.report.cost import is_priced
from tunelift.stages.report.evidence import Evidence, Json, sampled_by
from tunelift.stages.report.wording import fact, number

TRAIN_FACTS = (
    "loss",
    "loss_smoothed",
    "eval_loss",
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
    "mfu",
    "memory_gib",
    "padding_share",
)
"""Shown beside the loss curve, as logged last."""
SHOWN_STEPS = 6
"""At most so many steps of an answer's history: the first, the last, and some between."""
LONGEST_PROMPT = 6_000
"""Of an arm's prompt that is shown, in characters."""
LATENCY_TAIL = 0.99
"""The share of requests that the axis of the latencies holds; the slowest are drawn at its end."""


def latencies(evidence: Evidence, comparison: Json) -> list[Json]:
    """By arm, how long an answer took under the evaluation's load, on the target tasks that generate."""
    found = {
        arm: sorted(
            float(sample["seconds"])
            for task in evidence.tasks
            if is_priced(task)
            for sample in task.samples.get(arm, {}).values()
            if sample.get("seconds") is not None and not sample.get("error")
        )
        for arm in evidence.arms
        if arm != NOISE_ARM
    }
    found = {arm: seconds for arm, seconds in found.items() if seconds}
    scale = figures.axis(seconds[int(LATENCY_TAIL * (len(seconds) - 1))] for seconds in found.values())
    rows = []
    for arm, seconds in found.items():
        cost = comparison["cost"].get(arm, {})
        p50, p95 = (
            cost.get(key) if cost.get(key) is not None else seconds[round(share * (len(seconds) - 1))]
            for key, share in (("seconds_p50", 0.5), ("seconds_p95", 0.95))
        )
        text = f"{arm}: median {number(p50, 2)} s, 95% within {number(p95, 2)} s"
        rows.append(
            {"arm": arm, "p50": p50, "p95": p95, "drawing": figures.distribution(seconds, p50, p95, scale, text)}
        )
    ticks = [(f"{scale.share(tick):.2f}", figures.tick_text(tick)) for tick in scale.ticks]
    return [row | {"ticks": ticks} for row in rows]


def break_even(comparison: Json) -> Json | None:
    """When tuning pays, with its drawing."""
    found = comparison.get("break_even")
    if not found:
        return None
    ours, theirs = (
        _per_request(comparison["cost"].get(arm, {}), found["unit"]) for arm in (comparison["focus"], found["against"])
    )
    curve = None
    if ours is not None and theirs is not None and found.get("training_cost"):
        start = (float(found["training_cost"]), ours)
        curve = figures.cost_curve(start, (0.0, theirs), found.get("requests"), found["sentence"])
    return {**found, "curve": curve}


def _per_request(cost: Json, unit: str) -> float | None:
    key, size = ("usd_per_1000", 1000) if unit == "USD" else ("machine_seconds_per_1000", 3600 * 1000)
    return float(cost[key]) / size if cost.get(key) is not None else None


def arm_section(arm: str, evidence: Evidence, comparison: Json) -> Json:
    """What answered, with which prompt."""
    summary = evidence.summaries[arm]
    return {
        "name": arm,
        "model": scalars({"prompt": summary.get("prompt"), **summary.get("model", {})}),
        "prompt": summary.get("prompt", ""),
        "template": summary.get("template"),
        "example": _example(summary, arm, evidence),
        "search": _search(summary.get("prompt_search")),
        "decoding": scalars(summary.get("decoding", {})),
        "sampled_by": sampled_by(summary),
        "engine": scalars(summary.get("engine", {})) | _engines(summary),
        "cost": comparison["cost"].get(arm, {}),
    }


def _engines(summary: Json) -> Json:
    """The engines of an arm that was upgraded between two parts of its answers."""
    several = summary.get("engine", {}).get("answered_by") or ()
    named = [" ".join(str(one[key]) for key in ("package", "version") if key in one) for one in several]
    return {"answered_by": ", then ".join(named)} if named else {}


def _example(summary: Json, arm: str, evidence: Evidence) -> list[tuple[str, str]]:
    """The first prompt of a target task, as (role, text)."""
    found = summary.get("prompt_example")
    if not found:
        tasks = sorted(evidence.tasks, key=lambda task: task.role == "guard")
        samples = (sample for task in tasks for sample in task.samples.get(arm, {}).values())
        found = next((sample["prompt"] for sample in samples if sample.get("prompt")), None)
    if isinstance(found, str):
        return [("", _shortened(found))]
    return [(str(message.get("role", "")), _shortened(fact(message.get("content")))) for message in found or ()]


def _shortened(text: str) -> str:
    left = len(text) - LONGEST_PROMPT
    return text if left <= 0 else f"{text[:LONGEST_PROMPT]}\n… {left:,} more characters"


def _search(found: Json | None) -> list[Json]:
    """The candidates of a prompt search, the best first."""
    if not found:
        return []
    candidates = [
        {**candidate, "chosen": found.get("chosen") in (number, candidate)}
        for number, candidate in enumerate(found.get("candidates") or ())
    ]
    return sorted(candidates, key=lambda candidate: -float(candidate.get("mean") or 0))


def training(evidence: Evidence) -> Json:
    """The learning curve, and what was checked before and after."""
    points = {
        key: figures.points(evidence.metrics, key)
        for key in ("loss", "loss_smoothed", "eval_loss", "learning_rate", "grad_norm")
    }
    losses, evaluation = points["loss"], points["eval_loss"]
    kept = evidence.training.get("kept") or {}
    last: Json = {}
    for row in evidence.metrics:
        last |= {key: value for key, value in row.items() if value is not None}
    facts = {"steps": last["step"]} if "step" in last else {}
    return {
        "curve": figures.loss_curve(losses, points["loss_smoothed"], evaluation)
        if len(losses) + len(evaluation) > 1
        else None,
        "smoothed": bool(points["loss_smoothed"]),
        "small": [
            {"title": title, "drawing": figures.step_curve(points[key], f"{title} over optimizer steps")}
            for key, title in (("learning_rate", "Learning rate"), ("grad_norm", "Gradient norm"))
            if len(points[key]) > 1
        ],
        "kept": kept,
        "micro_batch": scalars(evidence.training.get("micro_batch") or {}),
        "answers": _histories(evidence.answers),
        "facts": facts | {key: last[key] for key in TRAIN_FACTS if key in last},
        "preflight": scalars(evidence.preflight),
        "preflight_more": {key: value for key, value in evidence.preflight.items() if not _is_scalar(value) and value},
        "parity": scalars(evidence.parity),
    }


def _histories(answers: list[Json]) -> list[Json]:
    """By row, what it asks, what the base said, and what the model said as it trained."""
    rows: dict[str, Json] = {}
    for one in answers:
        prompt = one.get("prompt") or []
        asked = str(prompt[-1].get("content", "")) if isinstance(prompt, list) and prompt else fact(prompt)
        row = rows.setdefault(
            str(one["id"]),
            {
                "id": str(one["id"]),
                "asked": _shortened(asked),
                "expected": _shortened(_plain(one.get("expected"))),
                "base": _shortened(str(one.get("base_output", ""))),
                "steps": [],
            },
        )
        row["steps"].append({"step": one.get("step"), "output": _shortened(str(one.get("output", "")))})
    for row in rows.values():
        row["steps"] = _some(row["steps"])
    return list(rows.values())


def _plain(expected: Any) -> str:
    return expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)


def _some(steps: list[Json]) -> list[Json]:
    last = len(steps) - 1
    chosen = sorted({round(number * last / (SHOWN_STEPS - 1)) for number in range(SHOWN_STEPS)})
    return [steps[number] for number in chosen]


def data(stats: Json) -> Json:
    """The curation funnel: what was read, why rows left, what was kept."""
    rows = stats.get("rows", {})
    read = rows.get("read", 0)
    steps = [("read", "", read)]
    steps += [
        (kind, reason, count) for kind in ("dropped", "quarantined") for reason, count in rows.get(kind, {}).items()
    ]
    steps += [("kept", "", rows.get("kept", 0))]
    funnel = [
        {"kind": kind, "reason": reason, "count": count, "share": count / max(read, 1)} for kind, reason, count in steps
    ]
    return {
        "funnel": funnel if read else [],
        "splits": stats.get("splits", {}),
        "contamination": stats.get("contamination", {}),
        "prompts": stats.get("leakage", {}).get("prompts", {}),
    }


def scalars(facts: Json) -> dict[str, Any]:
    """The short facts that are known, those of an inner object under both names."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict) and all(_is_scalar(inner) for inner in value.values()):
            flat |= {f"{key}: {inner}": shown for inner, shown in value.items()}
        elif value is not None and _is_scalar(value):
            flat[key] = value
    return flat


def _is_scalar(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 12 and all(isinstance(item, int | float | str) and len(str(item)) <= 60 for item in value)
    return value is None or (isinstance(value, int | float | str) and len(str(value)) <= 400)
