"""summary.json: means with 95% intervals, tokens, latencies, and what it takes to compare them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import canonical
from tunelift.engines.withheld import WITHHELD
from tunelift.runtime.template import read_template
from tunelift.stages.evaluate.samples import Sample, scores_of
from tunelift.stages.evaluate.unread import unread_prompts
from tunelift.tasks.scorers import Scorer
from tunelift.tasks.statistics import mean_interval
from tunelift.tasks.task import Task
from tunelift.tasks.thinking import never_began, unknown_tag

BOOTSTRAP_SAMPLES = 10_000


def summarise(
    task: Task, samples: Sequence[Sample], asking: dict[str, float], seed: int, *, by_endpoint: bool = False
) -> dict[str, Any]:
    """One task's part: `samples` are its own, `asking` is how long asking them took.

    `thinking` counts the answers that began with thinking, `no_answer` those that never began, `cut_off` those that ran
    into `max_tokens`; `unknown_tag` is as of `most_begin_with`, and `unread_prompts` as of `unread_prompts`, for an arm
    that an endpoint answers.
    """
    answered = [sample for sample in samples if not sample["error"]]
    seconds = sorted(sample["seconds"] for sample in answered)
    return {
        "version": task.version,
        "role": task.role,
        "kind": task.kind,
        "description": task.description,
        "licence": task.licence,
        "primary": task.primary,
        "margin": task.margin,
        "effect": task.effect,
        "digests": task.digests,
        "n": len(samples),
        "failed_requests": len(samples) - len(answered),
        "withheld": sum(1 for sample in samples if WITHHELD.match(sample["error"] or "")),
        "thinking": sum(1 for sample in answered if sample.get("thinking") is not None),
        "no_answer": sum(map(never_began, answered)),
        "unknown_tag": most_begin_with(answered),
        "unread_prompts": unread_prompts(answered) if by_endpoint else None,
        "max_tokens": task.max_tokens if task.kind == "generate" else None,
        "cut_off": sum(1 for sample in answered if sample["finish_reason"] == "length"),
        "metrics": {scorer.name: _metric(scorer, samples, seed) for scorer in task.scorers},
        "tokens_in_mean": _tokens_mean(answered, "tokens_in"),
        "tokens_out_mean": _tokens_mean(answered, "tokens_out"),
        "seconds_p50": quantile(seconds, 0.5),
        "seconds_p95": quantile(seconds, 0.95),
        "asking": asking,
    }


def most_begin_with(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """The `tag` that more than half of the answers begin with, and the number of these `items`; None for no such tag.

    It may be thinking in a form that is not known.
    """
    tags = Counter(unknown_tag(sample.get("answer") or "", sample["expected"]) for sample in samples)
    found = [(tag, items) for tag, items in tags.items() if tag and 2 * items > len(samples)]
    return {"tag": found[0][0], "items": found[0][1]} if found else None


def _metric(scorer: Scorer, samples: Sequence[Sample], seed: int) -> dict[str, Any]:
    scores = scores_of(scorer, samples, among=samples)
    options = scorer.identity.get("options", {})
    low, high = mean_interval(
        scores,
        scorer.kind,
        clusters=[sample["cluster"] for sample in samples],
        samples=BOOTSTRAP_SAMPLES,
        seed=seed,
        bounded=scorer.bounded,
    )
    return {
        "mean": _mean(scores),
        "low": low,
        "high": high,
        "kind": scorer.kind,
        "lower_is_better": scorer.lower_is_better,
        "bounded": scorer.bounded,
        "scorer": scorer.identity.get("scorer"),
        "options": {key: value for key, value in options.items() if isinstance(value, str | int | float)},
        "strict": scorer.strict,
    }


def _tokens_mean(samples: Sequence[Sample], key: str) -> float | None:
    """Over the answers whose tokens the engine told; None where it told none."""
    known = [sample[key] for sample in samples if sample[key] is not None]
    return _mean(known) if known or not samples else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the sorted values do not exceed; 0 for none."""
    if not ordered:
        return 0.0
    rank = -(-share * len(ordered) // 1)  # Rounded up.
    return ordered[max(0, int(rank) - 1)]


def template_sha256(tokenizer: Path | None, template: str | None = None) -> str | None:
    """sha256 of the chat template's text: `template`, or what the tokenizer's folder keeps; None if there is none."""
    found = template or (read_template(tokenizer) if tokenizer else None)
    if found is None:
        return None
    text = found if isinstance(found, str) else canonical(found)  # Several, by name.
    return hashlib.sha256(text.encode()).hexdigest()
