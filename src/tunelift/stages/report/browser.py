"""The items and answers that the report's browser shows, as JSON inside the page.

Outputs of a model are hostile: the JSON cannot end its script element, and the page only ever shows it as text.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunelift.config.evaluation import NOISE_ARM
from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.fields import field_differences
from tunelift.stages.report.slices import LEAST_ITEMS

BUDGET_BYTES = 2_400_000
"""For the embedded items; the whole page stays under 3 MB."""
CUTS = (20_000, 4_000, 1_000, 300)
"""Longest string in characters: the first under which everything fits."""

LONGEST_TAG = 200
LONGEST_FIELD = 300
OF_EACH_SLICE = 5
"""Items of a slice that are shown before all others: what the browser shows on one page."""
MOST_FOR_SLICES = 300
"""About so many in all; of more slices, fewer items each."""

Judged = Mapping[tuple[str, str], Sequence[Json]]
"""The judgements of an item, by task and item."""

# What could end the script element or the line, and what UTF-8 cannot hold.
_UNSAFE = re.compile("[<>&\u2028\u2029\u007f-\u009f\ud800-\udfff]")


@dataclass(frozen=True)
class Embedded:
    """What the page holds."""

    text: str
    """The JSON for the page."""
    counts: tuple[tuple[str, int, int], ...]
    """By task: its name, and how many of its items are shown of how many."""

    @property
    def is_whole(self) -> bool:
        """Whether every item is shown."""
        return all(shown == total for _, shown, total in self.counts)


def embedded_items(
    evidence: Evidence,
    focus: str | None,
    judgements: Sequence[Json] = (),
    rivals: Mapping[str, str] | None = None,
) -> Embedded:
    """The JSON for the page, and how many items of each task it shows of how many.

    Strings are cut as far as needed for the budget, and say so. When that is not enough, items are left out: the tasks
    share the budget, and of each are shown first some of each slice, then those on which the arms differ.

    Args:
        evidence: The answers.
        focus: The arm that claims are about.
        judgements: Rows of judgements.jsonl.
        rivals: By task, the arm that the focus is to beat.
    """
    judged: defaultdict[tuple[str, str], list[Json]] = defaultdict(list)
    for row in judgements:
        judged[str(row.get("task")), str(row.get("id"))].append(row)
    arms = [arm for arm in evidence.arms if arm != NOISE_ARM]
    tasks = evidence.tasks

    def texts(longest: int) -> Iterator[tuple[int, str]]:
        for number, task in enumerate(tasks):
            for item in task.ids:
                yield number, safe_json(_item(task, number, item, arms, focus, judged, longest))

    whole = next((found for cut in CUTS if (found := _within(texts(cut), len(tasks), BUDGET_BYTES))), None)
    items = whole or _within(texts(CUTS[-1]), len(tasks)) or []
    shares = shared([_bytes(texts) for texts in items], BUDGET_BYTES)
    chosen = [
        _fitting(by_interest(task, focus, (rivals or {}).get(task.name), judged), texts, share)
        for task, texts, share in zip(tasks, items, shares, strict=True)
    ]
    about = [_task(task, arms) | {"shown": len(some)} for task, some in zip(tasks, chosen, strict=True)]
    head = safe_json({"arms": arms, "focus": focus if focus in arms else None, "tasks": about})
    body = ",".join(texts[place] for texts, some in zip(items, chosen, strict=True) for place in some)
    counts = tuple((task.name, len(some), len(task.ids)) for task, some in zip(tasks, chosen, strict=True))
    return Embedded(f'{head[:-1]},"items":[{body}]}}', counts)


def _within(texts: Iterable[tuple[int, str]], tasks: int, budget: float = math.inf) -> list[list[str]] | None:
    """The texts by task; None as soon as they take more than the budget, so that no time is lost on the others."""
    found: list[list[str]] = [[] for _ in range(tasks)]
    for number, text in texts:
        budget -= _bytes([text])
        if budget < 0:
            return None
        found[number].append(text)
    return found


def _bytes(texts: Sequence[str]) -> int:
    """What the items take, with the commas between them."""
    return sum(len(text.encode()) + 1 for text in texts)


def shared(needs: Sequence[int], budget: int) -> list[int]:
    """Equal shares of the budget; what a task does not need goes to the others."""
    shares, left = [0] * len(needs), budget
    for waiting, place in enumerate(sorted(range(len(needs)), key=needs.__getitem__)):
        shares[place] = min(needs[place], left // (len(needs) - waiting))
        left -= shares[place]
    return shares


def _fitting(order: Sequence[int], texts: Sequence[str], share: int) -> list[int]:
    """The first of the order that fit into the share, at least one, as they stand in the task."""
    chosen: list[int] = []
    for place in order:
        share -= len(texts[place].encode()) + 1
        if chosen and share < 0:
            break
        chosen.append(place)
    return sorted(chosen)


def by_interest(task: Asked, focus: str | None, rival: str | None, judged: Judged) -> list[int]:
    """The task's items, those that a reader looks for first: places in `task.ids`.

    First a page of each slice, then where the focus arm does better or worse than its rival, then where it does so than
    another arm or a judge preferred one, then the rest.
    """
    others = [arm for arm in task.samples if arm not in {focus, NOISE_ARM}]
    against = rival if rival in others else next(iter(others), None)
    asked = focus in task.samples and bool(task.ids)
    ours = task.scores(str(focus), task.primary) if asked else []
    rest = {arm: task.scores(arm, task.primary) for arm in others} if asked else {}
    counts: Counter[tuple[int, bool]] = Counter()

    def rank(place: int) -> tuple[int, int]:
        """Wins and losses take turns, so that the rarer ones are not crowded out."""
        differs = {arm: theirs[place] - ours[place] for arm, theirs in rest.items() if theirs[place] != ours[place]}
        said = judged.get((task.name, task.ids[place]), ())
        preferred = any(row.get("winner") in {"a", "b"} for row in said)
        group = 0 if against in differs else 1 if differs or preferred else 2
        kind = group, differs.get(str(against), 0) > 0
        counts[kind] += 1
        return group, counts[kind]

    ranks = [rank(place) for place in range(len(task.ids))]
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    slices: dict[str, list[int]] = {}
    for place in order:
        for tag in dict.fromkeys(map(str, task.items[task.ids[place]].get("tags") or ())):
            slices.setdefault(tag, []).append(place)
    large = [places for places in slices.values() if len(places) >= LEAST_ITEMS]
    each = max(1, min(OF_EACH_SLICE, MOST_FOR_SLICES // max(1, len(large))))
    first = [places[turn] for turn in range(each) for places in large]
    return list(dict.fromkeys((*first, *order)))


def safe_json(value: Any) -> str:
    """JSON that may stand in `<script type="application/json">` whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _task(task: Asked, arms: Sequence[str]) -> Json:
    return {
        "name": task.name,
        "total": len(task.ids),
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
        "answers": [
            _answer(task, task.samples.get(arm, {}).get(item), asked.get("expected") or (), longest) for arm in arms
        ],
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


def _answer(task: Asked, sample: Json | None, expected: Sequence[Any], longest: int) -> Json | None:
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
    elif fields := _fields(task, sample, expected, longest):
        answer["fields"] = fields
    return answer


def _fields(task: Asked, sample: Json, expected: Sequence[Any], longest: int) -> Json | None:
    """Where an answer that is not right differs from the expected one."""
    score, metric = sample.get("scores", {}).get(task.primary), task.metrics[task.primary]
    is_right = metric.bounded and score == (0 if metric.lower_is_better else 1)
    # Accepted are then lists of possible values, or texts that are equal whatever marks they hold.
    takes_many = metric.options.get("values") == "possible" or metric.options.get("text") == "loose"
    if is_right or takes_many:
        return None
    # What scorers read; samples of older runs have the whole output alone.
    read = str(sample.get("answer", sample.get("output")) or "")
    found = field_differences(
        expected, read, strict=bool(metric.options.get("strict")), as_calls=metric.scorer == "tool_call"
    )
    if found:
        most = min(longest, LONGEST_FIELD)
        for row in found["rows"]:
            row |= {key: _cut(row[key], most) for key in ("path", "expected", "got") if key in row}
    return found


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
