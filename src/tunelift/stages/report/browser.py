"""The items and answers that the report's browser shows, as JSON inside the page.

Outputs of a model are hostile: the JSON cannot end its script element, and the page only ever shows it as text.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tunelift.config.evaluation import NOISE_ARM
from tunelift.stages.report.evidence import Asked, Evidence, Json

BUDGET_BYTES = 2_400_000
"""For the embedded JSON; the whole page stays under 3 MB."""
CUTS = (20_000, 4_000, 1_000, 300)
"""Longest string in characters: the first under which everything fits."""

LONGEST_TAG = 200

Judged = Mapping[tuple[str, str], Sequence[Json]]
"""The judgements of an item, by task and item."""

# What could end the script element or the line, and what UTF-8 cannot hold.
_UNSAFE = re.compile("[<>&\u2028\u2029\u007f-\u009f\ud800-\udfff]")


def embedded_items(evidence: Evidence, focus: str | None, judgements: Sequence[Json] = ()) -> tuple[str, int, int]:
    """The JSON for the page, and how many items it shows of how many.

    Strings are cut as far as needed for the budget, and say so; when that is not enough, items are left out.

    Args:
        evidence: The answers.
        focus: The arm that claims are about.
        judgements: Rows of judgements.jsonl.
    """
    judged: defaultdict[tuple[str, str], list[Json]] = defaultdict(list)
    for row in judgements:
        judged[str(row.get("task")), str(row.get("id"))].append(row)
    total = sum(len(task.ids) for task in evidence.tasks)
    text = ""
    for longest in CUTS:
        text = safe_json(_content(evidence, focus, judged, longest, total))
        if len(text.encode()) <= BUDGET_BYTES:
            return text, total, total
    shown = total
    while len(text.encode()) > BUDGET_BYTES:
        shown = min(shown - 1, int(shown * BUDGET_BYTES / len(text.encode())))
        text = safe_json(_content(evidence, focus, judged, CUTS[-1], shown))
    return text, shown, total


def safe_json(value: Any) -> str:
    """JSON that may stand in `<script type="application/json">` whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _content(evidence: Evidence, focus: str | None, judged: Judged, longest: int, limit: int) -> Json:
    items = [(number, item) for number, task in enumerate(evidence.tasks) for item in task.ids]
    arms = [arm for arm in evidence.arms if arm != NOISE_ARM]
    return {
        "arms": arms,
        "focus": focus if focus in arms else None,
        "tasks": [_task(task, arms) for task in evidence.tasks],
        "items": [
            _item(evidence.tasks[number], number, item, arms, focus, judged, longest) for number, item in items[:limit]
        ],
    }


def _task(task: Asked, arms: Sequence[str]) -> Json:
    return {
        "name": task.name,
        "arms": [number for number, arm in enumerate(arms) if arm in task.samples],
        "metrics": [
            {
                "name": name,
                "binary": metric.kind == "binary",
                "bounded": metric.bounded,
                "less": metric.lower_is_better,
            }
            for name, metric in task.metrics.items()
        ],
    }


def _item(
    task: Asked, number: int, item: str, arms: Sequence[str], focus: str | None, judged: Judged, longest: int
) -> Json:
    known = [answers[item] for answers in task.samples.values() if item in answers]
    # The tuned arm's prompt is the bare request; others wrap it.
    asked = task.samples.get(focus or "", {}).get(item, known[0])
    shown: Json = {
        "task": number,
        "id": item,
        "request": _cut(_last_user_message(asked.get("prompt") or []), longest),
        "expected": [_cut(_text(answer), longest) for answer in asked.get("expected") or []],
        "tags": [str(tag)[:LONGEST_TAG] for tag in asked.get("tags") or ()],
        "answers": [_answer(task, task.samples.get(arm, {}).get(item), longest) for arm in arms],
    }
    if asked.get("logprobs"):
        shown["choices"] = [None if choice is None else _cut(_text(choice), longest) for choice in _choices(known)]
    verdicts = [said for row in judged.get((task.name, item), ()) if (said := _judgement(row, arms, longest))]
    return shown | ({"judged": verdicts} if verdicts else {})


def _choices(samples: Sequence[Json]) -> list[Any]:
    """The texts of an item's choices; without a list of them, those that some arm found likeliest."""
    first = samples[0]
    if first.get("choices"):
        return list(first["choices"])
    found: list[Any] = [None] * len(first["logprobs"])
    for sample in samples:
        logprobs = sample.get("logprobs") or ()
        if len(logprobs) == len(found) and sample.get("output"):
            found[max(range(len(found)), key=logprobs.__getitem__)] = sample["output"]
    return found


def _answer(task: Asked, sample: Json | None, longest: int) -> Json | None:
    if sample is None:
        return None
    seconds, scores = sample.get("seconds"), {} if sample.get("error") else sample.get("scores") or {}
    answer: Json = {
        # What was scored; the thinking before it stands apart.
        "output": _cut(str(sample.get("answer", sample.get("output")) or ""), longest),
        "scores": [
            round(float(worst if scores.get(name) is None else scores[name]), 4) for name, worst in task.worst.items()
        ],
        "cost": [sample.get("tokens_in"), sample.get("tokens_out"), round(seconds, 2) if seconds is not None else None],
    }
    if sample.get("thinking"):
        answer["thinking"] = _cut(str(sample["thinking"]), longest)
    if sample.get("error"):
        answer["error"] = _cut(str(sample["error"]), longest)
    if sample.get("logprobs"):
        answer["logprobs"] = [round(float(value), 4) for value in sample["logprobs"]]
    return answer


def _judgement(row: Json, arms: Sequence[str], longest: int) -> Json | None:
    """What the judge said of one arm's answer, or of two; None for an arm that is not shown."""
    if row.get("mode") == "absolute":
        if row.get("arm") not in arms:
            return None
        return {
            "arm": arms.index(row["arm"]),
            "mark": row.get("score"),
            "reason": _cut(_text(row.get("reason") or row.get("error") or ""), longest),
        }
    if row.get("a") not in arms or row.get("b") not in arms:
        return None
    return {
        "a": arms.index(row["a"]),
        "b": arms.index(row["b"]),
        "winner": row.get("winner"),
        "error": _cut(_text(row.get("error") or ""), longest),
        "orders": [
            [order.get("first") == row["a"], order.get("winner"), _cut(_text(order.get("reason") or ""), longest)]
            for order in row.get("orders") or ()
        ],
    }


def _last_user_message(messages: list[Json]) -> str:
    users = [message for message in messages if message.get("role") == "user"]
    return _text((users or messages or [{}])[-1].get("content", ""))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, longest: int) -> str | list[Any]:
    """The text, or its beginning with the number of characters left out."""
    return text if len(text) <= longest else [text[:longest], len(text) - longest]
