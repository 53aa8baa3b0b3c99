"""summary.json: means with 95% intervals, tokens, latencies, and what it takes to compare them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunelift.artifacts.store import write_durably
from tunelift.stages.evaluate.samples import Sample
from tunelift.tasks.scorers import SCORERS
from tunelift.tasks.statistics import bootstrap_mean, wilson
from tunelift.tasks.task import Task

BOOTSTRAP_SAMPLES = 10_000


def write(
    path: Path,
    *,
    arm: str,
    model: dict[str, Any],
    prompt: str,
    tasks: Sequence[Task],
    samples: Sequence[Sample],
    decoding: dict[str, Any],
    engine: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Summarise the samples, write and return the summary."""
    content = {
        "arm": arm,
        "model": model,
        "prompt": prompt,
        "tasks": {
            task.name: _summarise(task, [sample for sample in samples if sample["task"] == task.name], seed)
            for task in tasks
        },
        "decoding": decoding,
        "engine": engine,
    }
    write_durably(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return content


def _summarise(task: Task, samples: Sequence[Sample], seed: int) -> dict[str, Any]:
    answered = [sample for sample in samples if not sample["error"]]
    seconds = sorted(sample["seconds"] for sample in answered)
    return {
        "version": task.version,
        "role": task.role,
        "description": task.description,
        "licence": task.licence,
        "primary": task.primary,
        "digests": task.digests,
        "n": len(samples),
        "failed_requests": len(samples) - len(answered),
        "cut_off": sum(1 for sample in answered if sample["finish_reason"] == "length"),
        "metrics": {name: _metric(name, [sample["scores"][name] for sample in samples], seed) for name in task.scorers},
        "tokens_in_mean": _mean([sample["tokens_in"] for sample in answered]),
        "tokens_out_mean": _mean([sample["tokens_out"] for sample in answered]),
        "seconds_p50": quantile(seconds, 0.5),
        "seconds_p95": quantile(seconds, 0.95),
    }


def _metric(name: str, scores: Sequence[float], seed: int) -> dict[str, Any]:
    kind = SCORERS[name].kind
    if kind == "binary":
        low, high = wilson(round(sum(scores)), len(scores))
    else:
        low, high = bootstrap_mean(scores, BOOTSTRAP_SAMPLES, seed)
    return {"mean": _mean(scores), "low": low, "high": high, "kind": kind}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the sorted values do not exceed; 0 for none."""
    if not ordered:
        return 0.0
    rank = -(-share * len(ordered) // 1)  # Rounded up.
    return ordered[max(0, int(rank) - 1)]
