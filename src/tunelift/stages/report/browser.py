"""The items and answers that the report's browser shows, as JSON inside the page.

Outputs of a model are hostile: the JSON cannot end its script element, and the page only ever shows it as text.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tunelift.stages.report.comparison import FOCUS
from tunelift.stages.report.evidence import Asked, Evidence, Json

BUDGET_BYTES = 2_400_000
"""For the embedded JSON; the whole page stays under 3 MB."""
CUTS = (20_000, 4_000, 1_000, 300)
"""Longest string in characters: the first under which everything fits."""

# What could end the script element or the line, and what UTF-8 cannot hold.
_UNSAFE = re.compile("[<>&\u2028\u2029\u007f-\u009f\ud800-\udfff]")


def embedded_items(evidence: Evidence) -> tuple[str, int, int]:
    """The JSON for the page, and how many items it shows of how many.

    Strings are cut as far as needed for the budget, and say so; when that is not enough, items are left out.
    """
    total = sum(len(task.ids) for task in evidence.tasks)
    text = ""
    for longest in CUTS:
        text = safe_json(_content(evidence, longest, total))
        if len(text.encode()) <= BUDGET_BYTES:
            return text, total, total
    shown = total
    while len(text.encode()) > BUDGET_BYTES:
        shown = min(shown - 1, int(shown * BUDGET_BYTES / len(text.encode())))
        text = safe_json(_content(evidence, CUTS[-1], shown))
    return text, shown, total


def safe_json(value: Any) -> str:
    """JSON that may stand in `<script type="application/json">` whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _content(evidence: Evidence, longest: int, limit: int) -> Json:
    items = [(number, item) for number, task in enumerate(evidence.tasks) for item in task.ids]
    return {
        "arms": list(evidence.arms),
        "focus": FOCUS if FOCUS in evidence.arms else None,
        "tasks": [{"name": task.name, "primary": task.primary, "metrics": list(task.kinds)} for task in evidence.tasks],
        "items": [_item(evidence.tasks[number], number, item, longest) for number, item in items[:limit]],
    }


def _item(task: Asked, number: int, item: str, longest: int) -> Json:
    known = [answers[item] for answers in task.samples.values() if item in answers]
    # The tuned arm's prompt is the bare request; others wrap it.
    asked = task.samples.get(FOCUS, {}).get(item, known[0])
    return {
        "task": number,
        "id": item,
        "request": _cut(_last_user_message(asked.get("prompt", [])), longest),
        "expected": [_cut(_text(answer), longest) for answer in asked.get("expected", [])],
        "tags": asked.get("tags") or [],
        "answers": [_answer(task, answers.get(item), longest) for answers in task.samples.values()],
    }


def _answer(task: Asked, sample: Json | None, longest: int) -> Json | None:
    if sample is None:
        return None
    seconds = sample.get("seconds")
    return {
        "output": _cut(str(sample.get("output") or ""), longest),
        "scores": [round(float(sample["scores"].get(metric) or 0), 3) for metric in task.kinds],
        "error": _cut(str(sample["error"]), longest) if sample.get("error") else None,
        "cost": [sample.get("tokens_in"), sample.get("tokens_out"), round(seconds, 2) if seconds is not None else None],
    }


def _last_user_message(messages: list[Json]) -> str:
    users = [message for message in messages if message.get("role") == "user"]
    return _text((users or messages or [{}])[-1].get("content", ""))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, longest: int) -> str | list[Any]:
    """The text, or its beginning with the number of characters left out."""
    return text if len(text) <= longest else [text[:longest], len(text) - longest]
